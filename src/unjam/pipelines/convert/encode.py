"""The encode stage: runs the units that are still to do, each checked frame by frame before it is
committed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from unjam.errors import InputBad
from unjam.media import failures, verify
from unjam.media.ffmpeg import FFmpeg
from unjam.media.model import Probe
from unjam.media.probe import probe as look_into
from unjam.media.progress import Parser, Report
from unjam.media.segments import Segment, cut, halve
from unjam.pipelines.context import Context
from unjam.pipelines.convert import commands, plan
from unjam.pipelines.convert.params import ConvertParams
from unjam.pipelines.convert.presets import Recipe
from unjam.pipelines.stage import Stage, Unit, UnitSpec
from unjam.pipelines.tools import ToolFailed

WHOLE = "whole"
AUDIO = "audio"
CUTS = "cuts"
"""Units of this name hold no media: `cuts-1` is the first revision of where to cut."""
EARLY_DEATHS = 2
"""Attempts that died without finishing a unit before the pieces are made smaller (34 kills made 5 of 9:
measured)."""
AUDIO_SHARE = 0.02
"""Of the work of a conversion."""


class UnsafeCut(Exception):
    """A segment did not hold the frames it should: this source cannot be cut."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one attempt converts, and with what."""

    ctx: Context
    params: ConvertParams
    tool: FFmpeg
    source: Path
    probe: Probe
    recipe: Recipe

    @property
    def threads(self) -> int:
        return self.ctx.cpus


@dataclass(frozen=True, slots=True)
class Encoded:
    """Finished units. `segments` is None when one unit holds everything."""

    segments: tuple[Segment, ...] | None
    files: Mapping[str, Path]


def encode(work: Work, stage: Stage) -> Encoded:
    """Do what is not done yet and return all of it."""
    ctx = work.ctx
    segments, why = plan.pieces(work.params, work.probe, work.threads)
    if why:
        ctx.log(why)
    identity = plan.stamp(work.source.stat())
    stage.plan(plan.body(work.params, work.recipe, identity, work.tool, work.threads, segments))
    segments = _latest(stage, segments)
    if ctx.attempt.early_deaths >= EARLY_DEATHS:
        segments = _smaller(work, stage, segments)
    try:
        _run(work, stage, segments)
    except UnsafeCut as error:
        ctx.log(f"cannot be cut safely ({error}): encoding it in one piece")
        segments = _revise(stage, None)
        _run(work, stage, segments)
    return Encoded(segments, {u.name: u.path for u in stage.committed.values() if u.path is not None})


# -- where to cut, and its revisions ------------------------------------------------------------------------
def _revisions(stage: Stage) -> list[str]:
    found = [name for name in stage.committed if name.startswith(CUTS + "-")]
    return sorted(found, key=lambda name: int(name.rpartition("-")[2]))


def _latest(stage: Stage, segments: tuple[Segment, ...] | None) -> tuple[Segment, ...] | None:
    """The cuts in force: a revision is a committed unit, so it lives and is voided together with the units it
    names."""
    revisions = _revisions(stage)
    if not revisions:
        return segments
    rows = (stage.committed[revisions[-1]].result or {}).get("segments")
    return plan.from_rows(rows) if rows else None


def _revise(stage: Stage, segments: tuple[Segment, ...] | None) -> tuple[Segment, ...] | None:
    name = f"{CUTS}-{len(_revisions(stage)) + 1}"
    for unit in stage.units([UnitSpec(name, weight=0.0)]):
        unit.commit({"segments": plan.rows(segments) if segments else None})
    return segments


def _smaller(work: Work, stage: Stage, segments: tuple[Segment, ...] | None) -> tuple[Segment, ...] | None:
    """After repeated early deaths: half the length for what is still to do (no livelock)."""
    index = work.probe.index
    if work.recipe.copies or work.recipe.video is None or plan.why_not(work.probe):
        return segments
    if segments is None and (_revisions(stage) or WHOLE in stage.committed):
        return None  # proved uncuttable, or done
    before = segments or cut(index, work.recipe.video.base, None)
    after = halve(before, stage.committed, index)
    if after == before:
        return segments
    work.ctx.log(f"{work.ctx.attempt.early_deaths} attempts died early: smaller pieces, {len(after)} in all")
    return _revise(stage, after)


# -- units --------------------------------------------------------------------------------------------------
def _run(work: Work, stage: Stage, segments: tuple[Segment, ...] | None) -> None:
    if segments is None:
        specs = [UnitSpec(WHOLE, suffix=".part")]
    else:
        total = sum(s.frames for s in segments)
        specs = [UnitSpec(s.name, weight=s.frames, suffix=".mp4", data=s) for s in segments]
        if work.recipe.audio or work.recipe.subtitles:
            specs.insert(0, UnitSpec(AUDIO, weight=AUDIO_SHARE * total, suffix=".m4a"))
    for unit in stage.units(specs):
        work.ctx.check_input_unchanged()
        try:
            _do(work, unit)
            work.ctx.check_input_unchanged()
        except BaseException:
            unit.path.unlink(missing_ok=True)  # half a unit would fill the disk that is perhaps already full
            raise
        unit.commit()


def _do(work: Work, unit: Unit) -> None:
    piece = unit.data
    if isinstance(piece, Segment):
        _segment(work, unit, piece)
    elif unit.name == AUDIO:
        argv = commands.sound(work.tool, work.source, work.probe.media, work.recipe, work.threads, unit.path)
        run_ffmpeg(work, argv, _teller(work, unit, None))
    else:
        argv = commands.whole(work.tool, work.source, work.recipe, work.threads, unit.path)
        video = work.recipe.video
        run_ffmpeg(work, argv, _teller(work, unit, video.frames if video else None))


def _segment(work: Work, unit: Unit, piece: Segment) -> None:
    """Encode one segment and prove that it holds its frames, each at its own time."""
    argv = commands.segment(
        work.tool, work.source, work.probe.media, work.recipe, piece, work.threads, unit.path
    )
    run_ffmpeg(work, argv, _teller(work, unit, piece.frames))
    try:
        made = look_into(unit.path)
    except InputBad as error:  # no frame at all came out
        raise UnsafeCut(f"{piece.name}: {error}") from error
    if made.media.video is None or work.recipe.video is None:
        raise UnsafeCut(f"{piece.name}: no frames")
    wrong = verify.first_difference(
        piece.pts(work.probe.index), work.recipe.video.base, made.index.pts, made.media.video.base
    )
    if wrong is None and (made.index.pts[0] * made.media.video.base) != 0:
        wrong = f"begins {float(made.index.pts[0] * made.media.video.base):.3f} s late"
    if wrong:
        raise UnsafeCut(f"{piece.name}: {wrong}")


def _teller(work: Work, unit: Unit, frames: int | None) -> Callable[[Report], None]:
    seconds = work.probe.media.duration or 1.0

    def tell(report: Report) -> None:
        if frames and report.frame is not None:
            unit.progress(report.frame / frames, evidence=report.evidence, message=_speed(report))
        else:
            unit.progress(report.seconds / seconds, evidence=report.evidence, message=_speed(report))

    return tell


def _speed(report: Report) -> str:
    return f"{report.speed:.2g}x" if report.speed else ""


def run_ffmpeg(
    work: Work,
    argv: commands.Arguments,
    tell: Callable[[Report], None],
    on_tick: Callable[[], None] | None = None,
) -> None:
    """Run one ffmpeg. Raises what its failure means (`failures.explain`), else ToolFailed."""
    parser = Parser()

    def on_output(data: bytes) -> None:
        for report in parser.feed(data):
            tell(report)

    result = work.ctx.run(argv, on_output=on_output, on_tick=on_tick, check=False)
    if result.returncode == 0:
        return
    # A source that vanished or changed under ffmpeg's hands explains whatever ffmpeg said.
    work.ctx.check_input_unchanged()
    told = failures.explain(work.source, result.returncode, result.tail)
    raise told or ToolFailed(result)
