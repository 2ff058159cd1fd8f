"""The stages after the encode: units become one file beside its final name, and that file is proved whole."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from unjam.errors import InputBad, UnjamError
from unjam.jobs.reasons import ReasonCode
from unjam.media import verify
from unjam.media.model import Probe
from unjam.media.probe import probe as look_into
from unjam.media.progress import Report
from unjam.media.segments import durations_us
from unjam.pipelines.convert import commands
from unjam.pipelines.convert.encode import AUDIO, WHOLE, Encoded, Work, run_ffmpeg
from unjam.pipelines.stage import Stage

COPY_BYTES = 8 << 20


def join(work: Work, stage: Stage, encoded: Encoded) -> Path:
    """One file in the output folder under a hidden name."""
    work.ctx.check_input_unchanged()
    part = work.ctx.staging_path()
    try:
        if encoded.segments is None:
            _copy(encoded.files[WHOLE], part, stage)
        else:
            _concat(work, stage, encoded, part)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part


def _concat(work: Work, stage: Stage, encoded: Encoded, part: Path) -> None:
    segments, video = encoded.segments or (), work.recipe.video
    if video is None:
        raise ValueError("segments without video")
    folder = work.ctx.work / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, piece in enumerate(segments):
        # Plain names: a concat list cannot say every path, and units of earlier attempts lie in other
        # folders.
        link = folder / f"{number}.mp4"
        link.unlink(missing_ok=True)
        link.symlink_to(encoded.files[piece.name].absolute())
        names.append(link.name)
    listing = folder / "list.txt"
    listing.write_text(commands.concat_list(names, durations_us(segments, work.probe.index, video.base)))
    audio = encoded.files.get(AUDIO)
    total = sum(f.stat().st_size for f in encoded.files.values()) or 1
    said = Report(None, None, None, None, None, False)

    def tell(report: Report) -> None:
        nonlocal said
        said = report

    def look() -> None:
        # ffmpeg is silent while it moves the index to the front: only the file itself shows that it works.
        with contextlib.suppress(FileNotFoundError):
            found = part.stat()
            evidence = f"{said.evidence},{found.st_size},{found.st_mtime_ns}"
            stage.progress(min(0.99, found.st_size / total), evidence=evidence)

    argv = commands.join(
        work.tool, listing, audio, work.source, work.probe.media, work.recipe, work.threads, part
    )
    run_ffmpeg(work, argv, tell, on_tick=look)


def _copy(unit: Path, part: Path, stage: Stage) -> None:
    """The unit stays: a kill before the end of the job must not cost it."""
    size = unit.stat().st_size or 1
    done = 0
    with open(unit, "rb") as source, open(part, "xb") as target:
        step = _copier(source.fileno(), target.fileno())
        while count := step():
            done += count
            stage.progress(done / size, evidence=str(done))


def _copier(source: int, target: int) -> Callable[[], int]:
    """Copies the next piece from one file to the other and returns its length, 0 at the end."""

    def in_kernel() -> int:
        return os.copy_file_range(source, target, COPY_BYTES)

    def by_sendfile() -> int:
        return os.sendfile(target, source, None, COPY_BYTES)

    try:
        # By reference where the file system can. An empty range asks whether it can at all: not between two
        # file systems (EXDEV: an output on another disk than the work), nor on some networks' ones.
        os.copy_file_range(source, target, 1)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            raise
        return by_sendfile
    os.lseek(source, 0, os.SEEK_SET)
    os.lseek(target, 0, os.SEEK_SET)
    return in_kernel


def check(work: Work, stage: Stage, encoded: Encoded, part: Path) -> Probe:
    """Raise unless `part` holds every frame and all the sound that the source holds; returns what is in
    it."""
    try:
        made = look_into(
            part, on_progress=lambda done, evidence: stage.progress(0.5 * done, evidence=evidence)
        )
        _compare(work, encoded, made)
        if work.params.verify == "full":
            _decode(work, stage, part, made.media.duration)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return made


def _compare(work: Work, encoded: Encoded, made: Probe) -> None:
    source, video, name = work.probe, work.recipe.video, work.source
    if video is not None:
        if made.media.video is None:
            raise InputBad(f"{name}: not one frame of it could be decoded")
        got = len(made.index.pts)
        if encoded.segments is not None:
            wrong = verify.first_difference(
                source.index.pts, video.base, made.index.pts, made.media.video.base
            )
            if wrong:
                raise UnjamError(
                    f"the joined file is not what was planned: {wrong}", code=ReasonCode.INTERNAL_ERROR
                )
        elif bad := verify.missing_frames(video.frames, got):
            raise InputBad(f"{name}: {bad}")
        if got < video.frames:
            work.ctx.log(f"{video.frames - got} of {video.frames} frames of the source could not be decoded")
    for number, audio in enumerate(work.recipe.audio):
        if number >= len(made.media.audio):
            raise InputBad(f"{name}: nothing of its audio track {audio.index} could be decoded")
        if bad := verify.missing_sound(audio, made.media.audio[number]):
            raise InputBad(f"{name}: {bad}")


def _decode(work: Work, stage: Stage, part: Path, duration: float) -> None:
    def tell(report: Report) -> None:
        stage.progress(0.5 + 0.5 * report.seconds / (duration or 1.0), evidence=report.evidence)

    run_ffmpeg(work, verify.strict_decode(work.tool, part), tell)
