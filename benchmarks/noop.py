"""The pipeline that does nothing but say when its first line ran."""

from benchmarks import marks
from unjam.pipelines.api import pipeline
from unjam.pipelines.context import Context
from unjam.pipelines.params import Params


class NoopParams(Params):
    """`marks`: the file to say it in (see marks.py)."""

    marks: str
    number: int


@pipeline("noop", version=1, takes_input=False)
def noop(_ctx: Context, params: NoopParams) -> None:
    """Nothing, and a mark."""
    marks.write(params.marks, params.number)
