"""What a pipeline gets: its inputs, a place to work, stages, units, tools and a way to publish."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unjam.errors import InputBad, InputMissing, UsageError
from unjam.jobs.messages import Finished, InputProbed, StageEnded, StageStarted, TokenReturned, TokenWanted
from unjam.jobs.model import InputFile
from unjam.pipelines.channel import Channel
from unjam.pipelines.stage import Stage, Stopped
from unjam.pipelines.tools import STOP_SECONDS, ToolResult, run_tool
from unjam.storage.staging import part_path, staged_output

__all__ = ["Attempt", "Context", "Stopped"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the worker tells an attempt about itself; travels as JSON."""

    job_id: str
    number: int
    fence: int
    pipeline: str
    version: int
    name: str
    params: Mapping[str, Any]
    inputs: tuple[InputFile, ...]
    output_dir: str | None
    output_path: str | None
    work_dir: str
    log_path: str
    host: str
    cpus: int = 1
    early_deaths: int = 0
    """Attempts in a row that died before they committed a unit: a reason to work in smaller pieces."""
    ffmpeg: str = "pinned"
    modules: tuple[str, ...] = ()
    force: bool = False


@dataclass(slots=True)
class _Published:
    path: Path
    name: str
    kind: str
    media: Mapping[str, Any] | None
    final: Path = field(default_factory=Path)


class Context:
    """One attempt as its pipeline sees it."""

    def __init__(self, attempt: Attempt, channel: Channel) -> None:
        self.attempt = attempt
        self._channel = channel
        self._published: list[_Published] = []
        self._parts = 0
        self._held: Counter[str] = Counter()
        self._partial: str | None = None
        self._input_stamp: tuple[int, int, int] | None = None
        self.work = Path(attempt.work_dir)
        self.work.mkdir(parents=True, exist_ok=True)

    # -- what to work on ------------------------------------------------------------------------------------
    @property
    def inputs(self) -> tuple[InputFile, ...]:
        return self.attempt.inputs

    @property
    def input(self) -> Path:
        """The first input as a local file. Raises InputMissing when the job has none or it vanished."""
        if not self.inputs:
            raise InputMissing("the job has no input")
        path = Path(self.inputs[0].uri)
        if not os.path.lexists(path):
            raise InputMissing(f"{path}: not there any more")
        return path

    @property
    def cpus(self) -> int:
        """CPU slots this job was given: threads to use, whatever the machine has."""
        return self.attempt.cpus

    def check_input_unchanged(self) -> None:
        """Raise InputBad when the first input is not the file it was at submission or at the first call: half
        of one film and half of another is worse than no film, and the manifest would name the wrong one."""
        path, told = self.input, self.inputs[0]
        now = path.stat()
        stamp = (now.st_size, now.st_mtime_ns, now.st_ino)
        if self._input_stamp is None:
            if told.size_bytes not in (None, now.st_size) or told.mtime_ns not in (None, now.st_mtime_ns):
                raise InputBad(f"{path}: changed since the job was submitted; submit it again")
            self._input_stamp = stamp
        elif self._input_stamp != stamp:
            raise InputBad(f"{path}: changed while the job was running; run it again on the new file")

    def note_media(self, media: Mapping[str, Any], index: int = 0) -> None:
        """Tell what a probe found of an input; shown with the job."""
        self._channel.send(InputProbed(index, media))

    def log(self, text: str) -> None:
        """One line in the attempt's log."""
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        sys.stderr.flush()

    # -- stages ---------------------------------------------------------------------------------------------
    @contextmanager
    def stage(
        self,
        name: str,
        *,
        weight: float = 1.0,
        stall_after: float | None = None,
        busy_after: float | None = None,
        timeout: float | None = None,
    ) -> Iterator[Stage]:
        """A step with its own progress, limits and log section.

        `weight`: share of the whole job. `stall_after`: seconds without advance while the tree's CPU is idle
        before the stage counts as stalled; `busy_after`: the same while it is busy. `timeout`: seconds the
        stage may take.
        """
        self.log(f"-- {name}")
        self._channel.send(StageStarted(name, weight, stall_after, busy_after, timeout))
        stage = Stage(name, self._channel, self.work, self.log)
        yield stage
        self._channel.send(StageEnded(name, stage.message))

    @contextmanager
    def token(self, name: str) -> Iterator[None]:
        """Hold a scarce thing of the machine (`gpu`) for the length of the block; blocks may be nested,
        and the outermost gives it back."""
        if not self._held[name]:
            self._channel.ask(TokenWanted(name))
        self._held[name] += 1
        try:
            yield
        finally:
            self._held[name] -= 1
            if not self._held[name]:
                self._channel.send(TokenReturned(name))

    # -- tools ----------------------------------------------------------------------------------------------
    def run(
        self,
        argv: Sequence[str | Path],
        *,
        on_output: Callable[[bytes], None] | None = None,
        on_tick: Callable[[], None] | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        patience: float | None = STOP_SECONDS,
    ) -> ToolResult:
        """Run a tool: stdin closed, stderr to the attempt's log, stdout to the log or to `on_output`;
        `on_tick` is called twice a second meanwhile. See `tools.run_tool`.

        Raises ToolMissing, and ToolFailed (with the end of what it said) unless `check` is off.
        """
        return run_tool(
            argv,
            log_path=self.attempt.log_path,
            on_output=on_output,
            on_tick=on_tick,
            cwd=cwd,
            env=env,
            check=check,
            patience=patience,
        )

    # -- outputs --------------------------------------------------------------------------------------------
    @property
    def output_dir(self) -> Path:
        if self.attempt.output_dir is None:
            raise UsageError(f"{self.attempt.pipeline} publishes files: give -o DIR")
        return Path(self.attempt.output_dir)

    def staging_path(self) -> Path:
        """A fresh hidden name in the output folder, on the same file system as the final name."""
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self._parts += 1
        return part_path(self.output_dir, self.attempt.job_id, self.attempt.fence, self._parts)

    def publish(
        self,
        what: Path | bytes | str | Mapping[str, Any] | Sequence[Any],
        name: str | None = None,
        *,
        kind: str = "media",
        media: Mapping[str, Any] | None = None,
    ) -> None:
        """Hand over a finished output: a file, text, bytes, or something to be written as JSON.

        `name` is the final file name in the output folder; None is the job's main output. The file takes its
        name only when the whole job has ended well (INV-TORN).
        """
        if name is None:
            if self.attempt.output_path is None:
                raise UsageError(
                    f"{self.attempt.pipeline}: publish() needs a name, the job has no main output"
                )
            final = Path(self.attempt.output_path)
        else:
            if Path(name).name != name or name in ("", "..") or "\0" in name:
                raise UsageError(f"output name {name!r}: a plain file name, please")
            final = self.output_dir / name
        self._published.append(_Published(self._as_part(what), final.name, kind, media, final))

    def publish_partial(self, why: str) -> None:
        """Say that what is published is not all: the job ends `partial` with this sentence."""
        self._partial = why

    def _as_part(self, what: Path | bytes | str | Mapping[str, Any] | Sequence[Any]) -> Path:
        if isinstance(what, Path):
            if what.parent == self.output_dir and what.name.startswith(".unjam-"):
                return what
            part = self.staging_path()
            import shutil

            if what.is_symlink():
                # Moved, the link itself would be published, and what it leads to is removed with the work.
                shutil.copyfile(what, part)
            else:
                shutil.move(what, part)
            return part
        part = self.staging_path()
        if isinstance(what, bytes):
            part.write_bytes(what)
        elif isinstance(what, str):
            part.write_text(what, encoding="utf-8")
        else:
            part.write_bytes(_as_json(what))
        return part

    def finish(self, manifest: Callable[[list[dict[str, Any]]], Mapping[str, Any]] | None) -> None:
        """Called by the runner after the pipeline: fsync, hash and hand over everything published, the
        manifest last."""
        outputs = []
        if self._published:
            with self.stage("seal", weight=0.05, stall_after=60.0, busy_after=600.0) as stage:
                total = sum(p.path.stat().st_size for p in self._published) or 1
                done = 0

                def advanced(count: int) -> None:
                    nonlocal done
                    done += count
                    stage.progress(min(1.0, done / total), evidence=str(done))

                for p in self._published:
                    sealed = staged_output(
                        p.path, p.final, name=p.name, kind=p.kind, media=p.media, on_bytes=advanced
                    )
                    outputs.append(sealed)
                if manifest is not None and self.attempt.output_path is not None:
                    outputs.append(self._sealed_manifest(manifest(outputs)))
        self._channel.ask(Finished(tuple(outputs), self._partial))

    def _sealed_manifest(self, body: Mapping[str, Any]) -> dict[str, Any]:
        from unjam.storage.manifest import manifest_path

        final = manifest_path(Path(self.attempt.output_path or ""))
        part = self._as_part(body)
        return staged_output(
            part, final, name=final.name, kind="manifest", media=None, on_bytes=lambda _: None
        )


def _as_json(value: object) -> bytes:
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a file name that is no text: its bytes travel as lone surrogates
        text = json.dumps(value, indent=2).encode()
    return text + b"\n"
