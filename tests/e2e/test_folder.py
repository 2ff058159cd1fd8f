"""A folder of real media: all that is good plays, what is bad is named, and nothing is done twice."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.shell import Shell, decodes, make_clip, make_sound
from tests.helpers import DEMO, container_files
from unjam.jobs.model import InputFile
from unjam.pipelines.convert import convert
from unjam.storage import manifest

FAST = ("--speed", "ultrafast")
GENERATED = (  # name, codecs: containers that the shipped clips do not have
    ("transport.ts", "-c:v", "libx264", "-c:a", "aac"),
    ("camera/avchd.m2ts", "-c:v", "libx264", "-c:a", "ac3"),
    ("camera/broadcast.mxf", "-c:v", "mpeg2video", "-c:a", "pcm_s16le"),
    ("camera/portrait 9x16.mov", "-vf", "transpose=1", "-c:v", "mpeg4", "-c:a", "aac"),
    ("silent.mkv", "-an", "-c:v", "ffv1"),
    ("phone.3g2", "-c:v", "mpeg4", "-c:a", "aac"),
    ("odd size.mp4", "-vf", "scale=63:47", "-c:v", "mpeg4", "-c:a", "aac"),
    ("vp8.webm", "-c:v", "libvpx", "-c:a", "libvorbis"),
)


def _fill(root: Path) -> dict[str, Path]:
    """Files by their output's name below the output folder: the shipped clips and the generated ones."""
    films: dict[str, Path] = {}
    for clip in container_files():
        target = root / "films" / clip.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(clip, target)
        films[f"films/{clip.stem}.mp4"] = target
    for name, *codecs in GENERATED:
        films[f"{name.rpartition('.')[0]}.mp4"] = make_clip(root / name, *codecs)
    return films


def _decoys(root: Path) -> None:
    """What a folder's expansion leaves out."""
    (root / ".trash").mkdir()
    for name in (".hidden.mp4", ".trash/gone.mp4"):
        shutil.copy(container_files()[0], root / name)
    (root / "notes.txt").write_text("not a film")
    make_sound(root / "song.mp3")
    os.mkfifo(root / "pipe.mp4")
    (root / "up").symlink_to(root, target_is_directory=True)


def _outputs(out: Path) -> set[str]:
    return {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and p.suffix != ".json"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_folder_of_films(shell: Shell) -> None:
    """20 and more files of more than 10 formats, one of them cut off; the output folder inside the input."""
    root, out = shell.cwd / "in", shell.cwd / "in" / "out"
    films = _fill(root)
    _decoys(root)
    (root / "cut off.mp4").write_bytes(DEMO.read_bytes()[:700_000])
    assert len(films) >= 20
    assert len({path.suffix for path in films.values()}) >= 10

    first = shell.run("convert", "in", "-o", "in/out", *FAST, timeout=200)
    assert first.code == 10, first.both
    assert set(first.out.splitlines()) == {str(out / name) for name in films}
    assert f"{len(films) + 1} jobs: 1 failed, {len(films)} succeeded" in first.err
    assert "cut off.mp4: input_bad: " in first.err
    assert _outputs(out) == set(films)  # the tree is kept, nothing else is there
    wrong = {name: said for name in films if (said := decodes(out / name))}
    assert wrong == {}
    assert len(shell.ledger.starts()) == len(films)

    # Again: nothing to do, and what came out is not taken for something that goes in.
    with shell.ledger.counted() as starts:
        again = shell.run("convert", "in", "-o", "in/out", *FAST)
    assert again.code == 10, again.both
    assert f"1 failed, {len(films)} skipped" in again.err
    assert set(again.out.splitlines()) == set(first.out.splitlines())
    assert starts == []

    # One source, one parameter, one byte of an output: exactly these three.
    changed = ["films/matroska.mp4", "camera/avchd.mp4", "transport.mp4"]
    shell.run("convert", films[changed[1]], "-o", out / "camera", "--crf", "40", "--on-exists", "replace")
    os.utime(films[changed[0]])
    _flip(out / changed[2])
    with shell.ledger.counted() as starts:
        third = shell.run("convert", "in", "-o", "in/out", *FAST, "--on-exists", "replace")
    assert f"1 failed, {len(films) - 3} skipped, 3 succeeded" in third.err, third.both
    done = {line.split()[1] for line in third.err.splitlines() if line.startswith("succeeded")}
    assert done == {"matroska.mkv", "avchd.m2ts", "transport.ts"}
    assert len(starts) == 3
    assert [decodes(out / name) for name in changed] == ["", "", ""]
    shell.assert_clean()


def _flip(path: Path) -> None:
    """One bit of one byte, and the times put back as `cp -p` or a bad disk would."""
    stat = path.stat()
    with open(path, "r+b") as file:
        file.seek(stat.st_size // 2)
        (byte,) = file.read(1)
        file.seek(stat.st_size // 2)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.slow
def test_the_sound_of_a_folder(shell: Shell) -> None:
    """Preset audio takes sound files and films alike; two that would meet are named apart."""
    root = shell.cwd / "in"
    for name, *codecs in (
        ("a.mp3", "-c:a", "libmp3lame"), ("b.flac",), ("c.wav",), ("d.ogg", "-c:a", "libvorbis"),
        ("e.opus", "-c:a", "libopus"), ("f.m4a", "-c:a", "aac"), ("same.wav",), ("same.flac",), ("same.aac",),
    ):  # fmt: skip
        make_sound(root / name, *codecs)
    shutil.copy(container_files()[0], root / "film.avi")
    said = shell.run("convert", "in", "-o", "out", "--preset", "audio", "--format", "mp3")
    assert said.code == 0, said.both
    made = {Path(line).name for line in said.out.splitlines()}
    assert made == {
        "a.mp3", "b.mp3", "c.mp3", "d.mp3", "e.mp3", "f.mp3", "film.mp3",
        "same.wav.mp3", "same.flac.mp3", "same.aac.mp3",
    }  # fmt: skip
    assert [decodes(Path(line)) for line in said.out.splitlines()] == [""] * 10
    shell.assert_clean()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_of_a_thousand_finished_files_exactly_three_run(shell: Shell) -> None:
    """One file is really converted; the others are copies of it with manifests as that job would have made.
    Nothing is started for those that are whole, and asking about a thousand takes seconds (C16)."""
    root, out = shell.cwd / "in", shell.cwd / "out"
    seed = make_clip(root / "0.mp4", "-c:v", "libx264", "-c:a", "aac", seconds=0.2)
    assert shell.run("convert", "in", "-o", "out").code == 0
    one = out / "0.mp4"
    recorded = json.loads(manifest.manifest_path(one).read_text())
    for number in range(1, 1000):
        source, made = root / f"{number}.mp4", out / f"{number}.mp4"
        shutil.copy2(seed, source)
        shutil.copy2(one, made)
        _write_manifest(source, made, recorded)

    os.utime(root / "7.mp4")
    _flip(out / "77.mp4")
    shell.run("convert", root / "777.mp4", "-o", out, "--crf", "40", "--on-exists", "replace")
    began = time.monotonic()
    with shell.ledger.counted() as starts:
        said = shell.run("convert", "in", "-o", "out", "--on-exists", "replace", timeout=100)
    took = time.monotonic() - began
    assert "1000 jobs: 997 skipped, 3 succeeded" in said.err, said.both[-2000:]
    assert len(starts) == 3
    assert (
        len(list((shell.home / "logs").glob("j*"))) == 5
    )  # 1 + 1 before, and these 3: the others had no attempt
    print(f"1,000 finished files but three: {took:.1f} s")
    assert took < 60  # 8 ms a file and a worker's start, times five for a busy machine
    shell.assert_clean()


def _write_manifest(source: Path, made: Path, like: dict[str, Any]) -> None:
    stat = source.stat()
    (output,) = like["outputs"]
    body = manifest.build(
        job_id=like["job"],
        pipeline=convert.name,
        version=convert.version,
        inputs=[InputFile(source.name, str(source), stat.st_size, stat.st_mtime_ns)],
        params=like["params"],
        outputs=[{**output, "name": made.name, "staged_path": str(made)}],
    )
    manifest.manifest_path(made).write_text(json.dumps(body))
