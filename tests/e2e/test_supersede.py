"""Taking the place of a job that hangs: only where it does, and not before its processes are gone."""

import subprocess

import pytest

from tests.e2e.shell import Shell
from tests.helpers import wait_until

pytestmark = pytest.mark.slow

# Says so if the one before still lives; hears no TERM; hangs unless it may go.
SCRIPT = """
test -e pid && kill -0 $(cat pid) 2>/dev/null && echo both >> seen
echo $$ > pid
trap '' TERM
while ! test -e go; do sleep 0.05; done
"""


def test_only_a_stalled_job_is_superseded_and_is_gone_before_its_successor(shell: Shell) -> None:
    """INV-ONCE, INV-TRUTH."""
    # The same number inside and outside, so that the successor can see whether the one before lives.
    shell.env |= {"UNJAM_CONTAINMENT": "tree", "UNJAM_GRACE": "3", "UNJAM_POLL_EVERY": "0.2"}
    command = ("exec", "--stall-after", "3s", "--on-duplicate", "supersede")
    what = ("--", "sh", "-c", SCRIPT)
    old = shell.quick(*command, "--detach", *what).out.strip()
    quiet = subprocess.DEVNULL
    worker = shell.start("worker", "-j", "4", stdout=quiet, stderr=quiet)
    wait_until(lambda: (shell.cwd / "pid").exists(), 20, "the job to run")
    refused = shell.quick(*command, *what)
    assert refused.code == 4
    assert f"{old} does this already" in refused.err
    assert "it is not stalled; add --force to take its place all the same" in refused.err
    wait_until(lambda: shell.show(old)["stalled"], 20, "it to stall")
    successor = shell.start(*command, *what)
    wait_until(lambda: shell.show(old)["state"] == "cancelled", 20, "the old one to be gone")
    wait_until(lambda: len(shell.jobs()) == 2, 20, "the successor")
    new = shell.jobs()[0]["id"]
    reason = shell.show(old)["reason"]
    assert reason["code"] == "cancelled_by_user"
    assert f"for {new}, which supersedes it" in reason["message"]
    # Not stalled yet, and taken over by force; by then the one before it is gone too.
    wait_until(lambda: shell.show(new)["phase"] == "working", 20, "the successor to run")
    forced = shell.start(*command, "--force", *what)
    wait_until(lambda: shell.show(new)["state"] == "cancelled", 20, "it to be gone")
    wait_until(lambda: len(shell.jobs()) == 3, 20, "the third")
    (shell.cwd / "go").touch()
    _, told = forced.communicate(timeout=20)
    assert (forced.returncode, f"takes the place of {new}, which is cancelled" in told.decode()) == (
        0,
        True,
    )
    _, told = successor.communicate(timeout=20)
    assert (successor.returncode, f"takes the place of {old}" in told.decode()) == (5, True)
    worker.terminate()
    worker.wait(20)
    assert not (shell.cwd / "seen").exists(), "two lived at once"
    shell.assert_clean()
