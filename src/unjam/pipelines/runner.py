"""The first code of ours inside an attempt: builds the Context, runs the pipeline, tells the worker how it
ended."""

from __future__ import annotations

import errno
import signal
import socket
import traceback
from collections.abc import Mapping
from types import FrameType
from typing import Any

from unjam.errors import LeaseLost, UnjamError
from unjam.jobs.messages import Failed
from unjam.jobs.model import InputFile
from unjam.jobs.reasons import ReasonCode
from unjam.pipelines import registry
from unjam.pipelines.channel import SocketChannel
from unjam.pipelines.context import Attempt, Context
from unjam.pipelines.stage import Stopped
from unjam.storage.room import fullest
from unjam.supervise.faults import FaultPoints

EXIT_FAILED = 70
EXIT_STOPPED = 75


def main(payload: dict[str, Any], sock: socket.socket) -> int:
    """Entry point of every attempt (see supervise.launch.LaunchSpec). Returns the exit code."""
    attempt = attempt_from(payload)
    faults = FaultPoints.from_environment()
    channel = SocketChannel(sock, name=attempt.job_id, faults=faults)
    context = Context(attempt, channel)

    def on_term(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop = channel.why_stopped()
        channel.stopped = Stopped(stop.why if stop else "stopped", stop.message if stop else "")
        raise channel.stopped

    signal.signal(signal.SIGTERM, on_term)
    try:
        faults.pass_by("entered", attempt.job_id)
        return _run_and_tell(context, channel)
    except Stopped as stop:
        context.log(f"stopping: {stop}")
        return EXIT_STOPPED


def _run_and_tell(context: Context, channel: SocketChannel) -> int:
    attempt = context.attempt
    try:
        run(context)
    except LeaseLost as error:
        context.log(f"stopping: {error}")
        return EXIT_STOPPED
    except Exception as error:  # noqa: BLE001 - whatever a pipeline raises is told to the worker
        told = explain(error)
        if told.code is ReasonCode.DISK_FULL and (where := fullest(_writes_to(attempt))):
            told = UnjamError(f"{told} ({where})", code=ReasonCode.DISK_FULL)
        if told.code is ReasonCode.INTERNAL_ERROR:
            traceback.print_exc()
        context.log(f"failed: {told}")
        channel.ask(Failed(told.code, str(told)))
        return EXIT_FAILED
    return 0


def run(context: Context) -> None:
    """Run the attempt's pipeline and hand over what it published."""
    attempt = context.attempt
    definition = registry.get(attempt.pipeline, attempt.modules)
    params = definition.validate(attempt.params)
    context.log(f"{attempt.pipeline} {attempt.name}: attempt {attempt.number}")
    definition.function(context, params)

    def build_manifest(outputs: list[dict[str, Any]]) -> Mapping[str, Any]:
        from unjam.storage import manifest

        return manifest.build(
            job_id=attempt.job_id,
            pipeline=attempt.pipeline,
            version=attempt.version,
            inputs=attempt.inputs,
            params=attempt.params,
            outputs=outputs,
        )

    context.finish(build_manifest)


def _writes_to(attempt: Attempt) -> list[str]:
    return [attempt.work_dir, *filter(None, [attempt.output_dir])]


def attempt_from(payload: Mapping[str, Any]) -> Attempt:
    """The attempt that the worker described as JSON."""
    inputs = tuple(InputFile(**i) for i in payload["inputs"])
    return Attempt(**{**payload, "inputs": inputs, "modules": tuple(payload.get("modules", ()))})


def explain(error: Exception) -> UnjamError:
    """Any exception as an UnjamError whose text a person understands."""
    if isinstance(error, UnjamError):
        return error
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        text = f"{where}{error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return UnjamError(f"{text}; free some room, then resume", code=ReasonCode.DISK_FULL)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return UnjamError(text, code=ReasonCode.PERMISSION)
        if isinstance(error, FileNotFoundError):
            return UnjamError(text, code=ReasonCode.INPUT_MISSING)
    if isinstance(error, MemoryError):
        return UnjamError("out of memory", code=ReasonCode.MEMORY)
    return UnjamError(f"{type(error).__name__}: {error}")
