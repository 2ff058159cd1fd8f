"""A dead mount keeps a thread for ever; it keeps neither other jobs nor the worker's end."""

import asyncio
import subprocess
import sys
import threading

import pytest

from unjam.worker.threads import Pulse, in_thread

HANGS = """
import asyncio, threading
from unjam.worker.threads import in_thread

async def life():
    for _ in range(20):
        try:
            await in_thread(threading.Event().wait, limit=0.01)
        except TimeoutError:
            pass
    return await in_thread(lambda: "still served", limit=5)

print(asyncio.run(life()))
"""


def test_threads_that_hang_hold_up_nobody_and_not_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "still served\n", "")


def test_slow_is_told_from_dead_by_its_pulse() -> None:
    pulse, done = Pulse(), threading.Event()

    def slow() -> str:
        for _ in range(20):
            pulse.beat()
            done.wait(0.02)
        return "hashed"

    assert asyncio.run(in_thread(slow, limit=0.2, pulse=pulse)) == "hashed"
    with pytest.raises(TimeoutError):
        asyncio.run(in_thread(lambda: done.wait(60), limit=0.05, pulse=pulse))
    done.set()


def test_what_the_work_raises_arrives() -> None:
    def wrong() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        asyncio.run(in_thread(wrong))
