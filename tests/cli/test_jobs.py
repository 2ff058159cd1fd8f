"""Commands on jobs in a real store without any worker: what they print, what they change, how they end."""

import pytest

from tests.client.test_view import JOB
from tests.client.world import World
from tests.e2e.shell import Shell
from tests.store.rig import ending, staged
from unjam.jobs.reasons import ReasonCode
from unjam.jobs.states import State


def submit(terminal: Shell, *args: str) -> str:
    said = terminal.quick("exec", "--detach", *args, "--", "true", *args)
    assert said.code == 0
    return said.out.strip()


def state(terminal: Shell, job_id: str) -> State:
    with terminal.store() as store:
        job = store.get(job_id)
        assert job is not None
        return job.state


def test_detach_prints_the_id_and_says_that_no_worker_runs(terminal: Shell) -> None:
    said = terminal.quick("exec", "--detach", "--", "true")
    assert said.out.startswith("j")
    assert len(said.out.strip()) == 10
    assert "no_worker" in said.err
    assert state(terminal, said.out.strip()) is State.QUEUED


def test_a_folder_is_one_batch_whose_id_works_where_a_job_id_does(terminal: Shell) -> None:
    terminal.file("in/a.mov")
    terminal.file("in/b.mov")
    said = terminal.quick("convert", "in", "-o", "out", "--detach", "--json")
    batch = said.json["id"]
    assert batch.startswith("b")
    shown = terminal.quick("show", batch, "--json").json
    assert [job["id"] for job in shown["jobs"]] == said.json["jobs"]
    assert shown["states"] == {"queued": 2}
    assert terminal.quick("cancel", batch).out.count("cancelled") == 2


def test_a_list_on_stdin(terminal: Shell) -> None:
    terminal.file("a b.mov")
    terminal.file("c.mov")
    said = terminal.run("convert", "-", "-o", "out", "--detach", "--json", input=b"a b.mov\0c.mov\0")
    assert said.code == 0, said.err
    assert len(said.json["jobs"]) == 2


def test_dry_run_says_where_outputs_would_go_and_stores_nothing(terminal: Shell) -> None:
    terminal.file("a.mov")
    said = terminal.quick("convert", "a.mov", "-o", "out", "--dry-run")
    assert said.out == f"would run: a.mov -> {terminal.cwd}/out/a.mp4\n"
    assert terminal.quick("ls").out == ""


def test_ls_filters(terminal: Shell) -> None:
    first = submit(terminal, "--tag", "k=v")
    second = submit(terminal, "--queue", "night")
    terminal.quick("cancel", first)

    def ids(*args: str) -> list[str]:
        return [row["id"] for row in terminal.quick("ls", "--json", *args).lines]

    assert ids() == [second, first]
    assert ids("--tag", "k=v") == [first]
    assert ids("--queue", "night") == [second]
    assert ids("--state", "cancelled") == [first]
    assert ids("--active") == [second]
    assert ids("-n", "1") == [second]
    assert ids("--pipeline", "convert") == []
    assert second in terminal.quick("ls").out


def test_show_json_has_all_fixed_keys_by_prefix_and_by_last(terminal: Shell) -> None:
    job_id = submit(terminal)
    for name in (job_id, job_id[:6], "@last"):
        shown = terminal.quick("show", name, "--json", "--units").json
        assert shown["id"] == job_id
        assert set(shown) >= {*JOB.split(), "units"}
    text = terminal.quick("show", job_id).out
    assert "no_worker" in text
    assert job_id in text


def test_an_ambiguous_prefix_lists_the_candidates(terminal: Shell) -> None:
    first, second = submit(terminal, "--tag", "a=1"), submit(terminal, "--tag", "a=2")
    said = terminal.quick("show", "j")
    assert said.code == 2
    assert first in said.err
    assert second in said.err


def test_cancel_is_done_at_once_for_what_nobody_runs_and_twice_is_no_error(terminal: Shell) -> None:
    job_id = submit(terminal)
    assert terminal.quick("cancel", job_id).out == f"{job_id} cancelled\n"
    assert state(terminal, job_id) is State.CANCELLED
    assert terminal.quick("cancel", job_id).code == 0


def test_pause_and_resume(terminal: Shell) -> None:
    job_id = submit(terminal)
    assert terminal.quick("pause", job_id).out == f"{job_id} paused\n"
    assert "resume: paused by" in terminal.quick("show", job_id).out
    assert terminal.quick("resume", job_id, "--detach").code == 0
    assert state(terminal, job_id) is State.QUEUED


def test_resume_of_a_job_that_is_about_to_pause_withdraws_the_pause(terminal: Shell) -> None:
    """The later word counts, and at once: it does not wait for the pause first."""
    world = World(terminal.home.parent)
    ident = submit(terminal)
    claim = world.claim(world.worker())
    assert terminal.quick("pause", ident).code == 0
    assert terminal.quick("show", ident, "--json").json["requested"] == "pause"
    resumed = terminal.quick("resume", ident, "--detach")
    assert (resumed.code, resumed.err) == (0, f"{ident} goes on\n")
    assert terminal.quick("show", ident, "--json").json["requested"] is None
    world.end(claim, State.PAUSED, ReasonCode.INTERRUPTED)
    assert state(terminal, ident) is State.QUEUED
    world.store.close()


def test_resume_and_retry_change_limits_and_priority(terminal: Shell) -> None:
    world = World(terminal.home.parent)
    ident = submit(terminal)
    terminal.quick("pause", ident)
    limits = ("--timeout", "2h", "--stall-after", "5m", "--memory", "1GiB", "--priority", "7")
    assert terminal.quick("resume", ident, "--detach", *limits).code == 0
    spec = world.job(ident).spec
    assert (spec.limits.timeout, spec.limits.stall_after, spec.limits.memory_bytes) == (7200, 300, 1 << 30)
    assert (spec.priority, spec.needs.memory_bytes) == (7, 1 << 30)
    claim = world.claim(world.worker())
    said = terminal.quick("resume", ident, "--detach", "--timeout", "3h")
    assert f"{ident} runs: its limits stay until it is paused and resumed" in said.err
    world.end(claim, State.FAILED, ReasonCode.TIMEOUT)
    assert terminal.quick("retry", ident, "--detach", "--timeout", "3h").code == 0
    spec = world.job(ident).spec
    assert (spec.limits.timeout, spec.limits.stall_after, spec.priority) == (10800, 300, 7)
    assert terminal.quick("retry", ident, "--timeout", "0s").code == 2
    world.store.close()


def test_retry_takes_along_what_failed_because_of_it(terminal: Shell) -> None:
    world = World(terminal.home.parent)
    first = submit(terminal)
    terminal.file("b.mov")
    second = terminal.quick("convert", "b.mov", "-o", "out", "--detach", "--after", first).out.strip()
    world.end(world.claim(world.worker()), State.FAILED, ReasonCode.CRASHED)
    shown = terminal.quick("show", second, "--json").json
    assert shown["reason"]["code"] == "dependency_failed"
    assert first in shown["reason"]["message"]
    said = terminal.quick("resume", second, "--detach")
    assert said.code == 4
    assert f"cannot go on: job {first}, which it waits for, is failed. Resume that one" in said.err
    assert state(terminal, second) is State.FAILED
    said = terminal.quick("retry", first, "--detach")
    assert f"and with it {second}: failed because of it before" in said.err
    assert state(terminal, second) is State.WAITING
    world.store.close()


def test_acting_on_what_is_over_is_a_conflict(terminal: Shell) -> None:
    job_id = submit(terminal)
    terminal.quick("cancel", job_id)
    said = terminal.quick("pause", job_id)
    assert said.code == 4
    assert "cannot be paused any more" in said.out


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_job_that_publishes_is_past_both(terminal: Shell, verb: str) -> None:
    """Told so; "running" with exit code 0 would let a script wait for a pause that never comes."""
    world = World(terminal.home.parent)
    job_id = submit(terminal)
    claim = world.claim(world.worker())
    assert world.store.begin_publish(claim.lease, [staged()], ending(State.SUCCEEDED, claim))
    said = terminal.quick(verb, job_id)
    assert said.code == 4
    assert said.out.startswith(f"{job_id} is publishing: it ends by itself, and cannot be {verb}")
    world.store.close()


def test_retry_of_a_cancelled_job_and_of_none_that_failed(terminal: Shell) -> None:
    job_id = submit(terminal)
    terminal.quick("cancel", job_id)
    assert terminal.quick("retry", job_id, "--failed", "--detach").code == 4
    assert terminal.quick("retry", job_id, "--unit", "nope", "--detach").code == 3
    assert terminal.quick("retry", job_id, "--detach").code == 0
    assert state(terminal, job_id) is State.QUEUED


def test_rm_forgets_ended_jobs_with_their_folders_and_refuses_active_ones(terminal: Shell) -> None:
    job_id = submit(terminal)
    refused = terminal.quick("rm", job_id)
    assert refused.code == 4
    assert "cancel it first" in refused.err
    terminal.quick("cancel", job_id)
    folder = terminal.settings.work_root / job_id
    folder.mkdir(parents=True)
    (folder / "unit").write_text("x")
    assert terminal.quick("rm", job_id).out == f"{job_id} removed\n"
    assert not folder.exists()
    assert terminal.quick("show", job_id).code == 3


def test_wait_gives_up_with_6_and_ends_with_the_jobs_own_code(terminal: Shell) -> None:
    job_id = submit(terminal)
    assert terminal.quick("wait", job_id, "--timeout", "100ms").code == 6
    terminal.quick("cancel", job_id)
    assert terminal.quick("wait", job_id).code == 5
    assert terminal.quick("watch").code == 0


def test_the_same_command_twice_is_the_same_job(terminal: Shell) -> None:
    terminal.file("a.mov")
    first = terminal.quick("convert", "a.mov", "-o", "out", "--detach")
    again = terminal.quick("convert", "a.mov", "-o", "out", "--detach")
    assert again.out == first.out
    assert f"continuing {first.out.strip()} from 0 finished units" in again.err


def test_an_output_name_of_another_active_job_is_a_conflict(terminal: Shell) -> None:
    terminal.file("x/a.mov")
    terminal.file("y/a.mov")
    first = terminal.quick("convert", "x/a.mov", "-o", "out", "--detach").out.strip()
    said = terminal.quick("convert", "y/a.mov", "-o", "out", "--detach")
    assert said.code == 4
    assert first in said.err


@pytest.mark.parametrize(
    "name", ['it\'s "q".mov', "two\nlines.mov", "été 🎬.mov", "caf\udce9.mov", "-dash.mov"]
)
def test_odd_names_in_every_listing(terminal: Shell, name: str) -> None:
    terminal.file(f"in/{name}")
    said = terminal.run("convert", "in", "-o", "out", "--detach")
    assert said.code == 0, said.err
    job_id = said.out.strip()
    for args in (["ls"], ["show", job_id], ["show", job_id, "--json"], ["ls", "--json"], ["cancel", job_id]):
        done = terminal.quick(*args)
        assert (done.code, done.err) == (0, "")
        assert job_id in done.out
    assert terminal.run("ls").out.count("\n") == 2
