"""Wake-up calls arrive; where they cannot, nothing waits and nothing fails."""

import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.rig import PAUSED, TTL, Clock, SqliteBackend, bring, ending, job, take_one, worker
from unjam.errors import StoreUnavailable
from unjam.jobs.states import State
from unjam.store.wakeup import LONGEST, REMEMBERED, Listener, Waker


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    ear = Listener(str(tmp_path / "wake.sock"))
    yield ear
    ear.close()


def hears(listener: Listener, timeout: float = 5.0) -> bool:
    return bool(select.select([listener.fileno()], [], [], timeout)[0])


def test_a_call_wakes_a_select(listener: Listener) -> None:
    waker = Waker(lambda: [listener.path])
    assert not hears(listener, 0)
    assert waker.poke() == 1
    assert hears(listener)
    waker.poke()
    assert listener.drain() == 2
    assert listener.drain() == 0
    waker.close()


def test_a_long_path_is_reached_too(tmp_path: Path) -> None:
    folder = tmp_path / ("long-" * 30)
    folder.mkdir()
    path = str(folder / "wake.sock")
    assert len(path) > LONGEST
    listener = Listener(path)
    descriptors = len(os.listdir("/proc/self/fd"))
    waker = Waker(lambda: [path])
    assert waker.poke() == 1
    assert listener.drain() == 1
    waker.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    listener.close()
    assert not os.path.exists(path)


def test_the_socket_is_private_and_replaces_a_dead_one(tmp_path: Path) -> None:
    path = tmp_path / "wake.sock"
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(str(path))
    dead.close()
    listener = Listener(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert Waker(lambda: [str(path)]).poke() == 1
    listener.close()


def test_nobody_there_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    paths = [str(tmp_path / "gone"), str(tmp_path / "file"), "/no/such/folder/" + "x" * 200, "x" * 5000]
    assert Waker(lambda: paths).poke() == 0


def test_a_worker_that_does_not_listen_holds_nobody_up(listener: Listener) -> None:
    """Its buffer fills: the calls are dropped, it will look at the store anyway."""
    waker = Waker(lambda: [listener.path])
    started = time.monotonic()
    delivered = sum(waker.poke() for _ in range(5000))
    assert 0 < delivered < 5000
    assert time.monotonic() - started < 5
    waker.close()


def test_the_list_of_workers_is_asked_for_seldom(listener: Listener) -> None:
    asked: list[int] = []
    clock = Clock()

    def find() -> list[str]:
        asked.append(1)
        return [listener.path]

    waker = Waker(find, now=clock)
    for _ in range(100):
        waker.poke()
    assert len(asked) == 1
    clock.advance(REMEMBERED + 0.1)
    waker.poke()
    assert len(asked) == 2
    waker.close()


def test_a_store_that_cannot_be_asked_is_no_error() -> None:
    def find() -> list[str]:
        raise StoreUnavailable("locked")

    assert Waker(find).poke() == 0


def test_whatever_gives_a_worker_something_to_do_wakes_it(tmp_path: Path, listener: Listener) -> None:
    backend = SqliteBackend(tmp_path / "unjam.db")
    store = backend.open()
    store.check_in(worker(wake_path=listener.path), ttl=TTL)
    store.check_in(worker("dead", wake_path=str(tmp_path / "gone.sock")), ttl=TTL)

    def woken() -> bool:
        return listener.drain() > 0

    store.submit(job("a"))
    assert woken()
    store.submit_many([job("b", after=("a",))])
    assert woken()
    claim = take_one(store)
    assert not woken()
    store.request_pause(["a"], by="ann", reason=PAUSED)
    assert woken()
    store.request_pause(["a"], by="ann", reason=PAUSED)
    assert not woken()
    store.request_cancel(["a"], by="ann")
    assert woken()
    store.end(claim.lease, ending(State.CANCELLED, claim))
    assert not woken()
    store.resume(["a"], by="ann", fresh_budgets=True)
    assert woken()
    claim = take_one(store)
    store.resume(["b"], by="ann", fresh_budgets=True)
    woken()
    store.end(claim.lease, ending(State.SUCCEEDED, claim))
    assert woken(), "the dependant is ready"
    store.pause_queue("default", by="ann")
    assert not woken()
    store.resume_queue("default")
    assert woken()
    assert bring(store, "queued", "z") is None
    store.close()
