"""The peers' side, run by their own environment's Python: the no-op task, and a client told what to submit.

`python -m benchmarks.peer_tasks rq|celery`: reads lines `FIRST COUNT`, submits those numbers, and answers
with the CLOCK_MONOTONIC nanoseconds at which it began.
"""

import importlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import marks

SOCKET, MARKS = os.environ.get("BENCH_REDIS", ""), os.environ.get("BENCH_MARKS", "")


def noop(number: int) -> None:
    marks.write(MARKS, number)


def celery_app() -> Any:
    app = importlib.import_module("celery").Celery("bench", broker=f"redis+socket://{SOCKET}")
    app.conf.task_ignore_result = True
    app.task(name="noop")(noop)
    return app


def submitter(peer: str) -> Callable[[int], Any]:
    """A function that submits one number."""
    if peer == "celery":
        app = celery_app()
        return lambda number: app.send_task("noop", (number,))
    connection = importlib.import_module("redis").Redis(unix_socket_path=SOCKET)
    queue = importlib.import_module("rq").Queue("bench", connection=connection)
    return lambda number: queue.enqueue("benchmarks.peer_tasks.noop", number, result_ttl=0)


def main() -> None:
    submit = submitter(sys.argv[1])
    for line in sys.stdin:
        first, count = map(int, line.split())
        asked = time.monotonic_ns()
        for number in range(first, first + count):
            submit(number)
        print(asked, flush=True)


if __name__ == "__main__":
    main()
elif os.environ.get("BENCH_PEER") == "celery":
    app = celery_app()  # where the celery command looks for it
