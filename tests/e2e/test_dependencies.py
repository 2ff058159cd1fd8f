"""Jobs that wait for others and go on from their results: on the command line, with real workers."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path, pipelines="tests.e2e.recipes", poll_every="0.2") as made:
        made.env["PYTHONPATH"] = str(Path(__file__).parents[2])
        yield made


def turn(shell: Shell, *args: str) -> str:
    """The id that submitting this prints; nobody runs it yet."""
    ledger = ("-p", f"ledger={shell.root / 'ledger'}", "-p", "seconds=0.01")
    said = shell.quick("run", "e2e-turn", "--detach", *args, *ledger)
    assert said.code == 0, said.err
    return said.out.strip()


def work(shell: Shell) -> None:
    said = shell.run("worker", "--exit-when-idle")
    assert said.code == 0, said.err


def reason(shell: Shell, job: str) -> tuple[str, str]:
    told = shell.show(job)["reason"]
    return told["code"], told["message"]


def test_a_chain_of_results_is_done_in_order(shell: Shell) -> None:
    shell.file("x.txt")
    first = turn(shell, "x.txt", "-o", "one")
    second = turn(shell, f"job:{first}", "-o", "two")
    third = turn(shell, "job:@last/x.done", "-o", "three")
    shown = shell.show(third)
    assert (shown["state"], shown["after"]) == ("waiting", [second])
    assert shown["inputs"][0] | {"mtime": None} == {
        "name": "x.done", "uri": str(shell.cwd / "two/x.done"), "source": f"job:{second}/x.done",
        "size_bytes": None, "mtime": None, "media": None,
    }  # fmt: skip
    assert f"input     job:{second}/x.done\n" in shell.quick("show", third).out, "no size that nobody knows"
    work(shell)
    [source] = shell.show(third)["inputs"]
    assert source["size_bytes"] == (shell.cwd / "two/x.done").stat().st_size > 0
    assert (shell.cwd / "three/x.done").read_text() == f"{third} 1"
    order = [line.split()[1] for line in (shell.root / "ledger").read_text().splitlines() if line[0] == "+"]
    assert order == [first, second, third]
    # Done before, and still whole: the same again is skipped.
    assert shell.run("run", "e2e-turn", f"job:{second}", "-o", "three", "-p", f"ledger={shell.root}/ledger",
                     "-p", "seconds=0.01").code == 0  # fmt: skip
    assert shell.show()["state"] == "skipped"


def test_each_of_a_batch_waits_for_its_own(shell: Shell) -> None:
    for name in ("a", "b", "c"):
        shell.file(f"{name}.txt")
    a, b = turn(shell, "a.txt", "-o", "one"), turn(shell, "b.txt", "-o", "one")
    batch = turn(shell, f"job:{a}", f"job:{b}", "c.txt", "-o", "two")
    jobs = shell.quick("show", batch, "--json").json["jobs"]
    assert {job["name"]: job["after"] for job in jobs} == {"a.done": [a], "b.done": [b], "c.txt": []}
    assert {job["name"]: job["next"]["cause"] for job in jobs} == {
        "a.done": "dependency", "b.done": "dependency", "c.txt": "no_worker",
    }  # fmt: skip
    last = shell.quick("exec", "--detach", "--after", batch, "--after", a[:8], "--", "true").out.strip()
    assert set(shell.show(last)["after"]) == {job["id"] for job in jobs} | {a}
    work(shell)
    assert shell.show(last)["state"] == "succeeded"
    assert sorted(path.name for path in (shell.cwd / "two").glob("*.done")) == ["a.done", "b.done", "c.done"]


def test_a_result_under_another_name_is_found_and_another_file_is_not_taken_for_it(shell: Shell) -> None:
    shell.file("x.txt")
    shell.file("one/x.done", b"somebody else's")
    renamed = turn(shell, "x.txt", "-o", "one", "--on-exists", "rename")
    after = turn(shell, f"job:{renamed}", "-o", "two")
    wrong = turn(shell, f"job:{renamed}/no.done", "-o", "three")
    work(shell)
    assert shell.show(after)["inputs"][0]["uri"] == str(shell.cwd / "one/x (2).done")
    code, message = reason(shell, wrong)
    assert code == "input_missing"
    assert message.endswith(f"job {renamed} made no such output; it made: x (2).done")
    said = shell.quick("run", "e2e-turn", f"job:{renamed}/no.done", "-o", "four", "-p", "ledger=x")
    assert (said.code, "it made: x (2).done" in said.err) == (8, True)


def test_a_result_that_was_written_to_since_is_refused(shell: Shell) -> None:
    """INV-TORN: what goes on is what was published, by size and digest."""
    shell.file("x.txt")
    first = turn(shell, "x.txt", "-o", "one")
    work(shell)
    result = shell.cwd / "one/x.done"
    after = turn(shell, f"job:{first}", "-o", "two")
    result.write_bytes(bytes(reversed(result.read_bytes())))
    work(shell)
    code, message = reason(shell, after)
    assert (code, "is not what job" in message) == ("input_bad", True)
    result.unlink()
    assert shell.quick("retry", after, "--detach").code == 0
    work(shell)
    code, message = reason(shell, after)
    assert (code, "is not there any more" in message) == ("input_missing", True)


def test_what_others_go_on_from_is_not_forgotten(shell: Shell) -> None:
    shell.env["UNJAM_KEEP_FINISHED_DAYS"] = "0"
    shell.file("x.txt")
    first = turn(shell, "x.txt", "-o", "one")
    other = shell.quick("exec", "--detach", "--", "true").out.strip()
    work(shell)
    after = turn(shell, f"job:{first}", "-o", "two")
    shell.quick("pause", after)
    assert shell.quick("gc", "--json").json["jobs"] == [other]
    said = shell.quick("rm", first)
    assert (said.code, f"job {after} (paused) goes on from it" in said.err) == (4, True)
    assert shell.quick("resume", after, "--detach").code == 0
    work(shell)
    assert shell.show(after)["state"] == "succeeded"
    assert sorted(shell.quick("gc", "--json").json["jobs"]) == sorted([first, after])
    said = shell.quick("run", "e2e-turn", f"job:{first}", "-o", "two", "-p", "ledger=x")
    assert (said.code, f"{first}: no job or batch" in said.err) == (3, True)


def test_a_failure_goes_down_the_whole_chain_at_once(shell: Shell) -> None:
    first = shell.quick("exec", "--detach", "--", "false").out.strip()
    chain = [first]
    for number in range(4):
        said = shell.quick("exec", "--detach", "--after", chain[-1], "--", "echo", str(number))
        chain.append(said.out.strip())
    work(shell)
    for upstream, job in itertools.pairwise(chain):
        assert reason(shell, job) == ("dependency_failed", f"job {upstream}, which it waited for, is failed")
    # So late there is nothing to wait for any more: told at once, with the job's name, by the exit code too.
    late = shell.run("exec", "--after", first, "--", "true")
    assert late.code == 1
    assert f"dependency_failed: job {first}, which it waits for, is failed" in late.err
    assert shell.quick("exec", "--after", "j000", "--", "true").code == 3
