"""Two workers that roll the same publication forward at the same moment."""

import threading
from pathlib import Path

import pytest

from unjam.errors import UnjamError
from unjam.jobs.records import StagedOutput
from unjam.storage.publish import publish
from unjam.storage.staging import staged_output

ROUNDS = 100  # without the second look nearly every round failed


@pytest.mark.parametrize("replace", [False, True])
def test_both_find_it_published(tmp_path: Path, replace: bool) -> None:
    """INV-LOST, INV-TORN: whoever comes second sees the first one's work as done, not as a failure."""
    for number in range(ROUNDS):
        part = tmp_path / f".unjam-j{number}-f1-1.part"
        part.write_text(f"whole {number}")
        final = tmp_path / f"{number}.bin"
        sealed = staged_output(part, final, name="o", kind="media", media=None, on_bytes=lambda _: None)
        errors = _at_once([StagedOutput(**sealed)], replace=replace)
        assert errors == []
        assert final.read_text() == f"whole {number}"
        assert not part.exists()


def _at_once(outputs: list[StagedOutput], *, replace: bool) -> list[Exception]:
    errors: list[Exception] = []
    gate = threading.Barrier(2)

    def roll_forward() -> None:
        gate.wait()
        try:
            publish(outputs, replace=replace)
        except (UnjamError, OSError) as error:
            errors.append(error)

    threads = [threading.Thread(target=roll_forward) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
