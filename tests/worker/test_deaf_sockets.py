"""gc removes the wake-up sockets that workers left who died before they had checked in, and no others."""

from pathlib import Path

from tests.worker.crew import Crew
from unjam.store.wakeup import Listener
from unjam.worker.garbage import collect


def test_a_socket_that_nobody_hears_is_garbage(tmp_path: Path) -> None:
    crew = Crew(tmp_path / "h")
    run = crew.home / "run"
    run.mkdir()
    heard, deaf = Listener(str(run / "wliving.wake")), Listener(str(run / "wdead.wake"))
    left = run / "wkilled.wake"
    (run / "wdead.wake").rename(left)  # close() unlinks by name; a killed worker does not
    deaf.close()
    assert collect(crew.store, crew.settings, dry_run=True).sockets == [left]
    assert left.exists()
    assert collect(crew.store, crew.settings).sockets == [left]
    assert sorted(run.iterdir()) == [run / "wliving.wake"]
    heard.close()
    crew.store.close()
