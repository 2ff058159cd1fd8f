"""What the zygote is told to start for a claim: entry point, payload, limits, environment."""

from __future__ import annotations

from dataclasses import asdict

from unjam.jobs.records import Claim
from unjam.pipelines import registry
from unjam.supervise.launch import LaunchSpec
from unjam.supervise.limits import Limits
from unjam.worker import paths
from unjam.worker.shared import WorkerState

ENTRY = "unjam.pipelines.runner:main"
RUNNER = "unjam.pipelines.runner"
BACKGROUND_NICE = 10
"""Niceness with the setting `background`: a laptop stays usable, and an idle one is used whole."""


def launch_spec(claim: Claim, state: WorkerState, output_path: str | None) -> LaunchSpec:
    """The attempt as the zygote is told it. `output_path`: where the main output goes, after preflight."""
    spec, lease, settings = claim.job.spec, claim.lease, state.settings
    start = registry.start_of(spec.pipeline, settings.pipelines)
    log = paths.log_path(settings, spec.id, claim.attempt)
    work = paths.work_dir(settings, spec.id, lease.fence)
    counters = claim.job.counters
    payload = {
        "job_id": spec.id,
        "number": claim.attempt,
        "fence": lease.fence,
        "pipeline": spec.pipeline,
        "version": spec.pipeline_version,
        "name": spec.name,
        "params": dict(spec.params),
        "inputs": [asdict(i) for i in spec.inputs],
        "output_dir": spec.output_dir,
        "output_path": output_path,
        "work_dir": str(work),
        "log_path": str(log),
        "host": state.host,
        "cpus": min(spec.needs.cpu, settings.slots),
        "early_deaths": counters.crashes + counters.losses,
        "ffmpeg": settings.ffmpeg,
        "modules": list(settings.pipelines),
        "force": spec.force,
    }
    limits = Limits(
        deadline=spec.limits.timeout,
        grace=settings.grace,
        memory_bytes=spec.limits.memory_bytes,
        nice=max(spec.limits.nice or settings.nice, BACKGROUND_NICE if settings.background else 0),
        ionice_idle=settings.background,
    )
    return LaunchSpec(
        name=f"{spec.id}/{claim.attempt}",
        entry=ENTRY,
        payload=payload,
        limits=limits,
        log_path=str(log),
        cwd=str(work),
        # TMPDIR: what a killed attempt and its tools leave behind goes with the work folder.
        env={"UNJAM_JOB_ID": spec.id, "UNJAM_JOB_ATTEMPT": str(claim.attempt), "TMPDIR": str(work)},
        preload=(RUNNER, *start.preload),
        isolation=start.isolation,
    )
