"""The pipeline `convert`: a video becomes an mp4, another container, or a sound file."""

from __future__ import annotations

import json
from pathlib import Path

from unjam.errors import InputBad
from unjam.jobs import stall
from unjam.jobs.model import InputFile, Needs
from unjam.media import ffmpeg, verify
from unjam.media.model import Probe
from unjam.media.probe import probe as look_into
from unjam.pipelines.api import AUDIO_SUFFIXES, MEDIA_SUFFIXES, pipeline
from unjam.pipelines.context import Context
from unjam.pipelines.convert import deliver, encode, plan
from unjam.pipelines.convert.params import ConvertParams, suffix
from unjam.pipelines.convert.presets import recipe
from unjam.pipelines.registry import PRELOADS
from unjam.pipelines.stage import UnitSpec

PROBE_VERSION = 1
MOST_CPUS = 4
"""x264 gains little from more threads at the sizes most files have; more files at once gain all of it."""


def _suffix(params: ConvertParams, _source: InputFile) -> str:
    return suffix(params)


def _accepts(params: ConvertParams) -> frozenset[str]:
    """A folder of films often holds sound files too: they are no failed films."""
    return MEDIA_SUFFIXES | AUDIO_SUFFIXES if params.preset == "audio" else MEDIA_SUFFIXES


def _needs(params: ConvertParams, cpus: int) -> Needs:
    return Needs(cpu=min(cpus, MOST_CPUS) if params.preset == "mp4" else 1)


@pipeline(
    "convert",
    version=1,
    summary="Convert a video to mp4, to another container, or to a sound file",
    accepts=MEDIA_SUFFIXES | AUDIO_SUFFIXES,
    preload=PRELOADS["convert"],
    output_suffix=_suffix,
    needs=_needs,
    accepts_of=_accepts,
)
def convert(ctx: Context, params: ConvertParams) -> None:
    """Probe, encode in units that survive a kill, join, verify, publish.

    Raises InputBad for what is not a video or is damaged: a file that promises more frames or sound than can
    be read ends as an error, never as a shorter film.
    """
    tool = ffmpeg.find(ctx.attempt.ffmpeg)
    source = ctx.input
    ctx.log(f"ffmpeg {tool.version} ({tool.path}), {ctx.cpus} thread(s)")
    found = _probe(ctx, source)
    ctx.note_media(found.media.as_json())
    if reason := verify.cut_short(found.media):
        raise InputBad(f"{source}: {reason}")
    how, notes = recipe(params, found.media, str(source))
    for note in notes:
        ctx.log(note)
    work = encode.Work(ctx, params, tool, source, found, how)
    with ctx.stage("encode", weight=1.0, stall_after=stall.ENCODE) as stage:
        encoded = encode.encode(work, stage)
    limit = stall.mux(sum(path.stat().st_size for path in encoded.files.values()))
    with ctx.stage("join", weight=0.03, stall_after=limit) as stage:
        part = deliver.join(work, stage, encoded)
    with ctx.stage("verify", weight=0.15 if params.verify == "full" else 0.03, stall_after=limit) as stage:
        made = deliver.check(work, stage, encoded, part)
    ctx.publish(part, kind="video" if how.video else "audio", media=made.media.as_json())


def _probe(ctx: Context, source: Path) -> Probe:
    """What is in the source; a later attempt finds it again instead of reading the whole file once more."""
    with ctx.stage("probe", weight=0.02, stall_after=stall.PROBE) as stage:
        ctx.check_input_unchanged()
        stage.plan({"version": PROBE_VERSION, "source": plan.stamp(source.stat())})
        for unit in stage.units([UnitSpec("index", suffix=".json")]):  # at most one
            found = look_into(
                source, on_progress=lambda done, evidence: stage.progress(done, evidence=evidence)
            )
            unit.path.write_text(json.dumps(found.as_json()))
            unit.commit()
        index = stage.committed["index"].path
        if index is None:
            raise FileNotFoundError("the probe left no index")
        return Probe.from_json(json.loads(index.read_text()))
