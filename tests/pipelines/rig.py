"""A worker of a few lines: runs an attempt in a process of its own, answers it, kills it where a test
says."""

import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unjam.jobs.messages import (
    Decoder,
    Failed,
    Finished,
    Message,
    PlanProposed,
    Progress,
    TokenWanted,
    UnitCommitted,
    UnitsVoided,
    encode,
)
from unjam.jobs.model import InputFile
from unjam.pipelines import runner
from unjam.pipelines.context import Attempt
from unjam.pipelines.testing import MemoryChannel

ASKS = (PlanProposed, UnitCommitted, UnitsVoided, TokenWanted, Finished, Failed)


@dataclass(slots=True)
class Outcome:
    """How an attempt ended, and all that it said."""

    status: int
    """Exit code; negative: the signal."""
    said: list[Message]
    log: str

    @property
    def failed(self) -> Failed:
        return next(m for m in self.said if isinstance(m, Failed))

    @property
    def outputs(self) -> tuple[Mapping[str, Any], ...]:
        done = [m for m in self.said if isinstance(m, Finished)]
        assert done, f"not finished ({self.status}): {self.log[-3000:]}"
        return done[0].outputs

    @property
    def main(self) -> Path:
        """The staged main output."""
        return Path(self.outputs[0]["staged_path"])

    def progress(self, stage: str) -> list[Progress]:
        return [m for m in self.said if isinstance(m, Progress) and m.stage == stage]


@dataclass(slots=True)
class Job:
    """One job over its attempts: what a store would remember of it."""

    folder: Path
    source: Path | None
    pipeline: str = "convert"
    params: Mapping[str, Any] = field(default_factory=dict)
    suffix: str = ".mp4"
    store: MemoryChannel = field(default_factory=MemoryChannel)
    fence: int = 0
    stat: os.stat_result | None = None

    def attempt(
        self,
        *,
        answer: Callable[[Message, "Job"], Message | None] | None = None,
        on_message: Callable[[Message, int], bool | None] | None = None,
        **changes: Any,
    ) -> Outcome:
        """Run one attempt to its end.

        `on_message` (message, pid) may kill it and say so (True): the message is lost. `answer` may answer
        in the store's place (None: as the store would).
        """
        self.fence += 1
        log = self.folder / f"attempt{self.fence}.log"
        payload = json.loads(json.dumps(asdict(self._description(log, **changes))))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            _attempt(payload, log, ours, theirs)
        theirs.close()
        said: list[Message] = []
        try:
            self._serve(ours, pid, said, answer, on_message)
            _, status = os.waitpid(pid, 0)
        except BaseException:
            kill(pid)
            os.waitpid(pid, 0)
            raise
        finally:
            kill(pid)  # what it left behind, as its guardian would
            ours.close()
        return Outcome(os.waitstatus_to_exitcode(status), said, log.read_text(errors="replace"))

    def _description(self, log: Path, **changes: Any) -> Attempt:
        inputs: tuple[InputFile, ...] = ()
        if self.source is not None:
            if self.stat is None:
                self.stat = self.source.stat()
            inputs = (
                InputFile(self.source.name, str(self.source), self.stat.st_size, self.stat.st_mtime_ns),
            )
        out = self.folder / "out"
        values: dict[str, Any] = {
            "job_id": "jtest",
            "number": self.fence,
            "fence": self.fence,
            "pipeline": self.pipeline,
            "version": 1,
            "name": self.source.name if self.source else "test",
            "params": dict(self.params),
            "inputs": inputs,
            "output_dir": str(out),
            "output_path": str(out / f"result{self.suffix}"),
            "work_dir": str(self.folder / "work" / f"f{self.fence}"),
            "log_path": str(log),
            "host": "test",
        }
        return Attempt(**{**values, **changes})

    def _serve(
        self,
        sock: socket.socket,
        pid: int,
        said: list[Message],
        answer: Callable[[Message, "Job"], Message | None] | None,
        on_message: Callable[[Message, int], bool | None] | None,
    ) -> None:
        decoder = Decoder()
        while True:
            try:
                packet = sock.recv(1 << 17)
            except ConnectionResetError:
                return
            if not packet:
                return
            message = decoder.feed(packet)
            if message is None:
                continue
            said.append(message)
            if on_message is not None and on_message(message, pid):
                return
            if not isinstance(message, ASKS):
                continue
            reply = answer(message, self) if answer is not None else None
            for piece in encode(reply or self.store.ask(message)):
                try:
                    sock.sendall(piece)
                except BrokenPipeError:
                    return


def _attempt(payload: dict[str, Any], log: Path, ours: socket.socket, theirs: socket.socket) -> None:
    code = 99
    try:
        os.setsid()
        ours.close()
        fd = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        import sys

        # pytest put its own objects here; an attempt writes to its log.
        sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
        code = runner.main(payload, theirs)
    finally:
        os._exit(code)


def kill(pid: int) -> None:
    """The whole session of the attempt, by its group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def kill_after_commits(count: int, stage: str = "encode") -> Callable[[Message, int], bool]:
    """Kill -9 everything when unit number `count` of the stage asks to be committed: it is lost."""
    seen = 0

    def watch(message: Message, pid: int) -> bool:
        nonlocal seen
        if isinstance(message, UnitCommitted) and message.stage == stage:
            seen += 1
        if seen > count:
            kill(pid)
        return seen > count

    return watch
