"""The peers' side, run by their own environment's Python: the no-op task, and a client told what to submit.

`main` of an argument PEER: reads lines `FIRST COUNT`, submits those numbers, and answers with the
CLOCK_MONOTONIC nanoseconds at which it began. Each peer's own commands find their application here as `app`
(BENCH_PEER says which). Defaults everywhere, as their first page of documentation shows them.
"""

import asyncio
import importlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import marks

REDIS, POSTGRES, FOLDER, MARKS = (
    os.environ.get(name, "") for name in ("BENCH_REDIS", "BENCH_POSTGRES", "BENCH_FOLDER", "BENCH_MARKS")
)

Submit = Callable[[int], object]
"""Submits one number."""


def noop(number: int) -> None:
    marks.write(MARKS, number)


# -- applications -------------------------------------------------------------------------------------------


def celery_app() -> Any:
    made = importlib.import_module("celery").Celery("bench", broker=f"redis+socket://{REDIS}")
    made.conf.task_ignore_result = True
    made.task(name="noop")(noop)
    return made


def huey_app() -> Any:
    made = importlib.import_module("huey").SqliteHuey(filename=f"{FOLDER}/huey.db", fsync=True, results=False)
    made.noop = made.task()(noop)
    return made


def dramatiq_app() -> Any:
    dramatiq = importlib.import_module("dramatiq")
    broker = importlib.import_module("dramatiq.brokers.redis").RedisBroker(url=f"unix://{REDIS}")
    dramatiq.set_broker(broker)
    broker.noop = dramatiq.actor(noop)
    return broker


def procrastinate_app() -> Any:
    procrastinate = importlib.import_module("procrastinate")
    made = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=POSTGRES))
    made.noop = made.task(name="noop")(noop)
    return made


def run_pgqueuer() -> None:
    asyncio.run(_pgqueuer_worker())


async def _pgqueuer_worker() -> None:
    asyncpg, pgqueuer = importlib.import_module("asyncpg"), importlib.import_module("pgqueuer")
    made = pgqueuer.PgQueuer.from_asyncpg_connection(await asyncpg.connect(POSTGRES))

    @made.entrypoint("noop")  # type: ignore[untyped-decorator]
    async def run(job: Any) -> None:
        noop(int(job.payload))

    await made.run()


APPS: dict[str, Callable[[], Any]] = {
    "celery": celery_app,
    "huey": huey_app,
    "dramatiq": dramatiq_app,
    "procrastinate": procrastinate_app,
}


# -- clients ------------------------------------------------------------------------------------------------


def rq_submit() -> Submit:
    connection = importlib.import_module("redis").Redis(unix_socket_path=REDIS)
    queue = importlib.import_module("rq").Queue("bench", connection=connection)
    return lambda number: queue.enqueue("benchmarks.peer_tasks.noop", number, result_ttl=0)


def celery_submit() -> Submit:
    made = celery_app()
    return lambda number: made.send_task("noop", (number,))


def huey_submit() -> Submit:
    made = huey_app()
    return lambda number: made.noop(number)


def dramatiq_submit() -> Submit:
    made = dramatiq_app()
    return lambda number: made.noop.send(number)


def procrastinate_submit() -> Submit:
    made = procrastinate_app()
    made.open()
    return lambda number: made.noop.defer(number=number)


def pgqueuer_submit() -> Submit:
    asyncpg = importlib.import_module("asyncpg")
    driver, queries = (importlib.import_module(f"pgqueuer.{name}") for name in ("db", "queries"))
    loop = asyncio.new_event_loop()
    made = queries.Queries(driver.AsyncpgDriver(loop.run_until_complete(asyncpg.connect(POSTGRES))))
    return lambda number: loop.run_until_complete(made.enqueue("noop", str(number).encode()))


SUBMITTERS: dict[str, Callable[[], Submit]] = {
    "rq": rq_submit,
    "celery": celery_submit,
    "huey": huey_submit,
    "dramatiq": dramatiq_submit,
    "procrastinate": procrastinate_submit,
    "pgqueuer": pgqueuer_submit,
}


def main() -> None:
    submit = SUBMITTERS[sys.argv[1]]()
    for line in sys.stdin:
        first, count = map(int, line.split())
        asked = time.monotonic_ns()
        for number in range(first, first + count):
            submit(number)
        print(asked, flush=True)


if os.environ.get("BENCH_PEER") in APPS:
    app = APPS[os.environ["BENCH_PEER"]]()  # where the peer's command looks for it
