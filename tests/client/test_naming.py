"""Attacks on output names: collisions, templates, inputs that would be overwritten."""

from pathlib import Path

import pytest

from unjam.client.naming import destinations
from unjam.errors import UsageError
from unjam.jobs.model import InputFile
from unjam.storage.inputs import Found


def found(*paths: str, folder: str = "") -> list[Found]:
    return [Found(InputFile(Path(p).name, p), folder) for p in paths]


def names(
    items: list[Found], *, output_dir: str | None = "/out", template: str | None = None, ext: str = ".mp4"
) -> list[str]:
    places = destinations(
        items,
        output_dir=output_dir,
        suffix_of=lambda source: ext,
        template=template,
        words={"pipeline": "convert", "preset": "mp4"},
    )
    return [place.path or "" for place in places]


def test_stem_and_suffix_below_the_output_folder_with_the_tree_kept() -> None:
    assert names(found("/in/a.mov")) == ["/out/a.mp4"]
    assert names(found("/in/s/a.mov", folder="s")) == ["/out/s/a.mp4"]


def test_without_an_output_folder_the_output_lies_beside_its_input() -> None:
    assert names(found("/in/s/a.mov", folder="s"), output_dir=None) == ["/in/s/a.mp4"]


def test_two_inputs_that_would_meet_are_named_apart_and_others_are_not_touched() -> None:
    assert names(found("/in/a.mov", "/in/a.avi", "/in/b.mov")) == [
        "/out/a.mov.mp4",
        "/out/a.avi.mp4",
        "/out/b.mp4",
    ]


def test_the_same_name_from_two_folders_is_numbered() -> None:
    assert names(found("/x/a.mov", "/y/a.mov", "/z/a.mov")) == [
        "/out/a.mov.mp4",
        "/out/a.mov (2).mp4",
        "/out/a.mov (3).mp4",
    ]


def test_a_name_made_to_stand_apart_never_meets_another() -> None:
    made = names(found("/in/a.mov", "/in/a.avi", "/in/a.mov.mkv"))
    assert len(set(made)) == 3


def test_the_same_stem_in_two_folders_of_a_tree_needs_nothing() -> None:
    items = found("/in/x/a.mov", folder="x") + found("/in/y/a.mov", folder="y")
    assert names(items) == ["/out/x/a.mp4", "/out/y/a.mp4"]


def test_output_equal_to_input_is_refused_and_the_way_out_is_named() -> None:
    with pytest.raises(UsageError, match=r"output and input at once; choose another folder with -o"):
        names(found("/in/a.mp4"), output_dir=None)


def test_output_equal_to_another_input_of_the_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="output and input at once"):
        names(found("/in/a.mov", "/in/a.mp4"), output_dir="/in", template="{stem}{ext}")


def test_output_equal_to_input_by_another_path_is_refused(tmp_path: Path) -> None:
    """INV-TORN: A.MP4 and A.mp4 on a memory card. Here a second name stands for the second spelling."""
    (tmp_path / "A.MP4").write_text("x")
    (tmp_path / "A.mp4").hardlink_to(tmp_path / "A.MP4")
    with pytest.raises(UsageError, match="output and input at once"):
        names(found(str(tmp_path / "A.MP4")), output_dir=None)


def test_output_equal_to_input_by_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.mp4").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(UsageError, match="output and input at once"):
        names(found(str(tmp_path / "in/a.mp4")), output_dir=str(tmp_path / "link"))


def test_templates() -> None:
    template = "{index}-{stem}-{preset}-{pipeline}{ext}"
    assert names(found("/in/a.mov", "/in/b.mov"), template=template) == [
        "/out/1-a-mp4-convert.mp4",
        "/out/2-b-mp4-convert.mp4",
    ]
    assert names(found("/in/a.mov", "/in/b.mov"), template="same{ext}") == [
        "/out/same.mp4",
        "/out/same (2).mp4",
    ]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{stam}{ext}", "did you mean stem"),
        ("{stem.__class__}{ext}", "no such word"),
        ("{0}", "no such word"),
        ("{stem", "name-template"),
        ("a/{stem}{ext}", "not a path"),
        ("..", "makes the name '..'"),
    ],
)
def test_bad_templates(template: str, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("..", r"\.\.")):
        names(found("/in/a.mov"), template=template)


def test_bytes_that_are_no_utf8_are_written_out() -> None:
    assert names(found("/in/caf\udce9.mov")) == ["/out/caf%E9.mp4"]


def test_an_output_folder_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        names(found("/in/a.mov"), output_dir="/out\udce9")


def test_a_name_as_long_as_a_file_system_allows_still_gets_its_suffix_and_manifest() -> None:
    (made,) = names(found("/in/" + "é" * 125 + ".mov"))
    name = Path(made).name
    assert name.endswith(".mp4")
    assert len((name + ".unjam.json").encode()) <= 255
