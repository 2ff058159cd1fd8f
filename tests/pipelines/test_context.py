"""What a pipeline gets: inputs that stay the same, outputs that are sealed, tools that end."""

import json
import os
import shutil
from pathlib import Path

import pytest

from unjam.errors import InputBad, InputMissing, UsageError
from unjam.jobs.messages import TokenReturned
from unjam.pipelines.context import Context
from unjam.pipelines.testing import MemoryChannel, local_context


def finished(ctx: Context, channel: MemoryChannel) -> list[dict[str, object]]:
    ctx.finish(lambda outputs: {"outputs": len(outputs)})
    assert channel.finished is not None
    return [dict(o) for o in channel.finished.outputs]


def test_an_input_that_changes_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_text("one")
    ctx = local_context(tmp_path, source, None)
    ctx.check_input_unchanged()
    ctx.check_input_unchanged()
    os.utime(source, ns=(5, 5))
    with pytest.raises(InputBad, match="changed while the job was running"):
        ctx.check_input_unchanged()
    source.unlink()
    with pytest.raises(InputMissing):
        ctx.check_input_unchanged()


def test_an_input_that_changed_since_submission_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_text("one")
    ctx = local_context(tmp_path, source, None)
    source.write_text("other")
    with pytest.raises(InputBad, match="submit it again"):
        ctx.check_input_unchanged()


def test_outputs_are_staged_beside_their_final_name(tmp_path: Path) -> None:
    """INV-TORN: the final name appears only when the worker renames."""
    channel = MemoryChannel()
    out = tmp_path / "out" / "film.mp4"
    ctx = local_context(tmp_path, None, out, channel)
    part = ctx.staging_path()
    part.write_bytes(b"film")
    ctx.publish(part, media={"codec": "h264"})
    ctx.publish({"a": 1}, "report.json", kind="report")
    film, report, manifest = finished(ctx, channel)
    assert (film["staged_path"], film["final_path"], film["size_bytes"]) == (str(part), str(out), 4)
    assert film["media"] == {"codec": "h264"}
    assert json.loads(Path(str(report["staged_path"])).read_text()) == {"a": 1}
    assert manifest["kind"] == "manifest"
    assert manifest["name"] == "film.mp4.unjam.json"
    assert all(name.startswith(".unjam-jtest-f1-") for name in os.listdir(tmp_path / "out"))


def test_a_file_made_elsewhere_is_moved_in(tmp_path: Path) -> None:
    channel = MemoryChannel()
    ctx = local_context(tmp_path, None, tmp_path / "out" / "x", channel)
    elsewhere = ctx.work / "x"
    elsewhere.write_text("x")
    ctx.publish(elsewhere)
    assert not elsewhere.exists()
    assert Path(str(finished(ctx, channel)[0]["staged_path"])).read_text() == "x"


def test_of_a_link_what_it_leads_to_is_published(tmp_path: Path) -> None:
    """INV-TORN: the work folder goes with the end of the job."""
    ctx = local_context(tmp_path, None, tmp_path / "out" / "main.bin")
    (ctx.work / "model-2").write_bytes(b"whole")
    (ctx.work / "latest").symlink_to(ctx.work / "model-2")
    ctx.publish(ctx.work / "latest")
    shutil.rmtree(ctx.work)
    (part,) = (tmp_path / "out").iterdir()
    assert part.read_bytes() == b"whole"


@pytest.mark.parametrize("name", ["a/b", "..", "/etc/passwd", ".", ""])
def test_an_output_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    ctx = local_context(tmp_path, None, tmp_path / "out" / "x")
    with pytest.raises(UsageError, match="plain file name"):
        ctx.publish("text", name)


def test_without_an_output_folder_nothing_can_be_published(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"main output|-o DIR"):
        local_context(tmp_path, None, None).publish("x")


def test_a_manifest_survives_names_that_are_no_text(tmp_path: Path) -> None:
    channel = MemoryChannel()
    ctx = local_context(tmp_path, None, tmp_path / "out" / "x", channel)
    ctx.publish({"input": os.fsdecode(b"\xff.mp4")}, "r.json")
    report = Path(str(finished(ctx, channel)[0]["staged_path"]))
    assert os.fsencode(json.loads(report.read_text())["input"]) == b"\xff.mp4"


def test_a_partial_result_says_why(tmp_path: Path) -> None:
    channel = MemoryChannel()
    ctx = local_context(tmp_path, None, None, channel)
    ctx.publish_partial("19 of 20 variations")
    ctx.finish(None)
    assert channel.finished is not None
    assert channel.finished.partial == "19 of 20 variations"


def test_a_nested_token_is_given_back_by_the_outermost_block_only(tmp_path: Path) -> None:
    channel = MemoryChannel()
    ctx = local_context(tmp_path, None, None, channel)
    with ctx.token("gpu"):
        with ctx.token("gpu"), ctx.token("disk"):
            pass
        assert [m for m in channel.sent if m.kind == "token_returned"] == [TokenReturned("disk")]
    with pytest.raises(ValueError, match="inside"), ctx.token("gpu"):
        raise ValueError("inside")
    gpu = [m.kind for m in channel.sent if getattr(m, "name", "") == "gpu"]
    assert gpu == ["token_wanted", "token_returned"] * 2
