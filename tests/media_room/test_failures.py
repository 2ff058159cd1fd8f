"""What ffmpeg's last words mean, tried on words that it really said."""

from pathlib import Path

import pytest

from unjam.jobs.reasons import ReasonCode
from unjam.media.failures import explain

SOURCE = Path("/films/a.mov")


@pytest.mark.parametrize(
    ("code", "tail", "expected", "part"),
    [
        (
            228,
            "[out#0/mp4 @ 0x55] Error writing trailer: No space left on device",
            ReasonCode.DISK_FULL,
            "room",
        ),
        (-9, "av_interleaved_write_frame(): No space left on device", ReasonCode.DISK_FULL, "room"),
        (
            183,
            "[in#0 @ 0x5] moov atom not found\nError opening input",
            ReasonCode.INPUT_BAD,
            "moov atom not found",
        ),
        (1, "/films/a.mov: Invalid data found when processing input", ReasonCode.INPUT_BAD, "Invalid data"),
        (
            254,
            "[in#0 @ 0x5] Error opening input: x\n/films/a.mov: No such file",
            ReasonCode.INPUT_MISSING,
            "not there",
        ),
        (1, "Unknown encoder 'libx264'", ReasonCode.TOOL_MISSING, "pinned"),
        (1, "Error: Cannot allocate memory", ReasonCode.MEMORY, "memory"),
        (
            69,
            "[vist#0:0/theora @ 0x5] Error submitting packet to decoder: x\n"
            "[vist @ 0x5] Decode error rate 0.7 exceeds",
            ReasonCode.INPUT_BAD,
            "a.mov: Decode error rate 0.7",
        ),
    ],
)
def test_words_become_reasons(code: int, tail: str, expected: ReasonCode, part: str) -> None:
    told = explain(SOURCE, code, tail)
    assert told is not None
    assert (told.code, part in str(told)) == (expected, True), str(told)


@pytest.mark.parametrize(
    ("code", "tail"), [(-11, "Invalid data found when processing input"), (1, "something new")]
)
def test_a_crash_is_not_blamed_on_the_input(code: int, tail: str) -> None:
    assert explain(SOURCE, code, tail) is None
