"""The pipeline whose every step somebody is killed at: units, a real ffmpeg that must live, a daemon that
escapes."""

import subprocess

import imageio_ffmpeg

from tests.torture import leaves
from tests.torture.ledger import Pen
from unjam.errors import UnjamError
from unjam.jobs.reasons import ReasonCode
from unjam.pipelines.api import pipeline
from unjam.pipelines.context import Context
from unjam.pipelines.params import Params
from unjam.pipelines.stage import UnitSpec

UNITS = 2
FROM_STDIN = ["-v", "error", "-f", "s16le", "-ar", "8000", "-ac", "1", "-i", "pipe:0", "-f", "null", "-"]


class StepParams(Params):
    """`folder`: where the ledger lies. `token`: digits by which its daemon is known."""

    folder: str
    token: str


def content(job: str) -> bytes:
    """What the output of a job must hold."""
    return b"".join(unit_content(job, f"u{number}") for number in range(UNITS))


def unit_content(job: str, unit: str) -> bytes:
    return f"{job} {unit}\n".encode() * 1000


@pipeline("test-steps", version=1, takes_input=False, output_suffix=lambda _p, _s: ".txt")
def steps(ctx: Context, params: StepParams) -> None:
    """ffmpeg waits for sound through the whole stage and is told to end after it: whoever kills it before
    fails the attempt."""
    job = ctx.attempt.job_id
    pen = Pen(params.folder, job, ctx.attempt.number)
    pen.write("begin")
    leaves.daemon(leaves.argv(params.token))
    ffmpeg = subprocess.Popen([imageio_ffmpeg.get_ffmpeg_exe(), *FROM_STDIN], stdin=subprocess.PIPE)
    assert ffmpeg.stdin is not None
    with ctx.stage("work", stall_after=60) as stage:
        stage.plan({"units": UNITS})
        for name in stage.committed:
            pen.write("kept", name)
        for unit in stage.units([UnitSpec(f"u{number}") for number in range(UNITS)]):
            pen.write("work", unit.name)
            unit.path.write_bytes(unit_content(job, unit.name))
            pen.write("seal", unit.name)
            unit.commit()
            pen.write("commit", unit.name)
        parts = [stage.committed[f"u{number}"].path for number in range(UNITS)]
    ffmpeg.stdin.close()
    if ffmpeg.wait() != 0:
        raise UnjamError(f"ffmpeg ended with {ffmpeg.returncode}", code=ReasonCode.CRASHED)
    ctx.publish(b"".join(part.read_bytes() for part in parts if part))
    pen.write("publish")
