"""The pipeline under torture: misbehaves as leaves.py does, commits units, publishes known content."""

import hashlib
import time

from tests.torture import leaves, names
from tests.torture.ledger import Pen, pid_namespace
from unjam.pipelines.api import pipeline
from unjam.pipelines.context import Context
from unjam.pipelines.params import Params
from unjam.pipelines.stage import UnitSpec

UNIT_BYTES = 1 << 16
PIECES = 4


class TortureParams(Params):
    """`folder`: where the ledger lies. `run`: digits that tell this run's leaves from all others."""

    folder: str
    run: str
    units: int = 6
    unit_seconds: float = 0.2
    hop: float = 0.02


def unit_content(job: str, unit: str) -> bytes:
    return hashlib.sha256(f"{job}:{unit}".encode()).digest() * (UNIT_BYTES // 32)


def output_content(job: str, units: int) -> bytes:
    return b"".join(unit_content(job, f"u{number}") for number in range(units))


@pipeline("torture", version=1, takes_input=False)
def torture(ctx: Context, params: TortureParams) -> None:
    """Units of known content under a crowd of processes that do not want to end."""
    job, number = ctx.attempt.job_id, ctx.attempt.number
    pen = Pen(params.folder, job, number)
    pen.write("begin", pid_namespace())
    leaves.grow(names.token_of(params.run, job, number), params.hop)
    specs = [UnitSpec(f"u{index}") for index in range(params.units)]
    with ctx.stage("work") as stage:
        stage.plan({"units": [spec.name for spec in specs]})
        for name in stage.committed:
            pen.write("kept", name)
        for unit in stage.units(specs):
            pen.write("work", unit.name)
            content = unit_content(job, unit.name)
            with open(unit.path, "wb", buffering=0) as file:
                for piece in range(PIECES):
                    file.write(content[piece * UNIT_BYTES // PIECES : (piece + 1) * UNIT_BYTES // PIECES])
                    unit.progress((piece + 1) / PIECES, evidence=str(piece))
                    time.sleep(params.unit_seconds / PIECES)
            pen.write("seal", unit.name)
            unit.commit()
            pen.write("commit", unit.name)
        parts = [stage.committed[spec.name].path for spec in specs]
    with ctx.stage("verify") as stage:
        staged = ctx.staging_path()
        with open(staged, "wb") as whole:
            for index, part in enumerate(parts):
                assert part is not None, "every unit has a file"
                whole.write(part.read_bytes())
                stage.progress((index + 1) / len(parts), evidence=str(index))
        assert staged.read_bytes() == output_content(job, params.units), (
            "a unit's file is not what was committed"
        )
    ctx.publish(staged)
    pen.write("publish")
