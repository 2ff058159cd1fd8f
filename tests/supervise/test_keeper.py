"""The keeper: restarts what crashed, hands signals on once, ends what is left."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from tests.helpers import process_alive, wait_until
from tests.supervise.rig import state_of, with_path
from tests.supervise.worker import payloads
from tests.torture import leaves
from unjam.supervise import linux
from unjam.supervise.identity import Identity, is_alive
from unjam.supervise.keeper_env import LET_GO
from unjam.supervise.mark import new_mark
from unjam.supervise.sweep import marked_processes, sweep


class Kept:
    """A keeper with a shell or Python command below it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, command: list[str], *options: str, fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "unjam.supervise.keeper", *options, "--", *command],
            cwd=self.folder,
            pass_fds=fds,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        return self.process

    def shell(self, script: str, *options: str, fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        return self.start(["/bin/sh", "-c", script], *options, fds=fds)

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split() if path.exists() else []


def _has_lines(kept: Kept, name: str, count: int) -> bool:
    return len(kept.lines(name)) == count


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    one = Kept(tmp_path)
    yield one
    process = one.process
    if process and process.poll() is None:
        below = linux.descendants(process.pid)
        process.kill()
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # ended with its parent
    if process:
        process.communicate()


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_it_exits_with_the_code_of_its_child(kept: Kept, script: str, code: int) -> None:
    assert kept.shell(script).wait(10) == code


def test_a_command_that_is_not_there_is_said_and_not_tried_again(kept: Kept) -> None:
    process = kept.start(["/no/such/command"], "--restart")
    assert process.wait(10) == 127
    assert process.stderr
    assert b"/no/such/command: No such file" in process.stderr.read()


@pytest.mark.parametrize("arguments", [[], ["--"], ["--what", "--", "x"], ["--parent-fd", "--", "x"]])
def test_wrong_use_is_refused(arguments: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "unjam.supervise.keeper", *arguments],
        capture_output=True,
        timeout=10,
        check=False,
    )
    assert run.returncode == 2
    assert b"usage:" in run.stderr


@pytest.mark.parametrize("code", [0, 75])
def test_ends_that_are_no_crash_are_not_restarted(kept: Kept, code: int) -> None:
    assert kept.shell(f"echo x >> lives; exit {code}", "--restart").wait(10) == code
    assert kept.lines("lives") == ["x"]


def test_a_crash_is_restarted_with_growing_pauses(kept: Kept) -> None:
    kept.shell("date +%s.%N >> lives; test $(wc -l < lives) -lt 5 || exit 0; kill -9 $$", "--restart")
    assert kept.process
    assert kept.process.wait(20) == 0
    lives = [float(one) for one in kept.lines("lives")]
    pauses = [after - before for before, after in pairwise(lives)]
    assert len(pauses) == 4
    assert all(got >= want for got, want in zip(pauses, (0.1, 0.2, 0.4, 0.8), strict=True))
    assert pauses[3] < 3.0


def test_without_restart_a_crash_is_the_end(kept: Kept) -> None:
    assert kept.shell("echo x >> lives; kill -9 $$").wait(10) == 137
    assert kept.lines("lives") == ["x"]


def test_a_hangup_that_nohup_ignores_stays_ignored(kept: Kept) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = kept.shell("trap 'exit 6' HUP; trap 'exit 5' TERM; echo > up; while :; do sleep 0.02; done")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until((kept.folder / "up").exists)
    process.send_signal(signal.SIGHUP)
    process.terminate()
    assert process.wait(10) == 5, "the child was told of the TERM only"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_handed_on_once_and_ends_without_restart(kept: Kept, number: signal.Signals) -> None:
    script = (
        "import signal,sys,time\n"
        "def seen(n, f): open('seen','a').write(f'{n}\\n')\n"
        "for n in (1, 2, 15): signal.signal(n, seen)\n"
        "open('up','w').close()\n"
        "while True:\n"
        "    time.sleep(0.02)\n"
        "    try: sys.exit(9 if len(open('seen').read().split()) >= 2 else 0) if open('end') else None\n"
        "    except FileNotFoundError: pass\n"
    )
    process = kept.start([sys.executable, "-c", script], "--restart")
    wait_until((kept.folder / "up").exists, what="the child")
    process.send_signal(number)
    wait_until(lambda: kept.lines("seen"), what="the signal")
    (kept.folder / "end").touch()
    assert process.wait(10) == 0
    assert kept.lines("seen") == [str(int(number))]


def test_every_signal_counts(kept: Kept) -> None:
    """A second Ctrl+C means something else than the first: none may be merged away or doubled."""
    script = (
        "import signal,time\n"
        "def seen(n, f): open('seen','a').write(f'{n}\\n')\n"
        "signal.signal(2, seen); open('up','w').close()\n"
        "while True: time.sleep(0.02)\n"
    )
    process = kept.start([sys.executable, "-c", script])
    wait_until((kept.folder / "up").exists, what="the child")
    for count in (1, 2, 3):
        process.send_signal(signal.SIGINT)
        wait_until(partial(_has_lines, kept, "seen", count), what=f"signal {count}")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM
    assert kept.lines("seen") == ["2"] * 3


def test_a_signal_during_the_pause_ends_it(kept: Kept) -> None:
    process = kept.shell("echo x >> lives; exit 1", "--restart")
    wait_until(lambda: len(kept.lines("lives")) >= 4, what="four lives")
    process.terminate()
    assert process.wait(3) in (1, 128 + signal.SIGTERM)
    lives = len(kept.lines("lives"))
    assert not any(process_alive(pid) for pid in linux.children(process.pid))
    assert len(kept.lines("lives")) == lives


def test_the_child_has_its_own_session_and_knows_its_keeper(kept: Kept) -> None:
    script = (
        "import os\n"
        "from unjam.supervise.keeper_env import take_keeper\n"
        "fd, identity = take_keeper()\n"
        "assert take_keeper() is None and 'UNJAM_KEEPER_FD' not in os.environ\n"
        "assert not os.get_inheritable(fd)\n"
        "print(os.getsid(0) == os.getpid(), identity, flush=True)\n"
        "os.read(0, 1)\n"
    )
    process = kept.start([sys.executable, "-c", script])
    assert process.stdout
    leader, identity = process.stdout.readline().decode().split()
    assert leader == "True"
    assert Identity.from_json(identity).pid == process.pid


def test_it_is_light(kept: Kept) -> None:
    """It stays for the life of the worker and must not be able to fail: no asyncio, no json, nothing of ours
    else."""
    code = "import sys, unjam.supervise.keeper; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {"asyncio", "json", "socket", "subprocess", "threading", "dataclasses", "logging"}


def test_what_the_child_leaves_is_ended_before_the_restart(kept: Kept) -> None:
    token = f"{os.getpid()}21"
    script = (
        "import os, sys, signal\n"
        "from tests.torture import leaves\n"
        "from pathlib import Path\n"
        f"left = leaves.alive('{token}')\n"
        "Path('found').open('a').write(f'{len(left)}\\n')\n"
        "if len(Path('found').read_text().split()) == 3: sys.exit(0)\n"
        f"leaves.grow('{token}', 0.003)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    kept.start(
        ["/usr/bin/env", f"PYTHONPATH={with_path(Path.cwd())}", sys.executable, "-c", script], "--restart"
    )
    assert kept.process
    assert kept.process.wait(20) == 0
    assert kept.lines("found") == ["0", "0", "0"]
    assert leaves.alive(token) == []


def test_when_its_parent_dies_the_child_is_asked_to_end(kept: Kept) -> None:
    parent = subprocess.Popen(["/bin/sleep", "60"])
    pidfd = os.pidfd_open(parent.pid)
    process = kept.shell(
        "trap 'echo term >> seen; exit 3' TERM; : > up; while :; do sleep 0.02; done",
        "--restart",
        "--parent-fd",
        str(pidfd),
        fds=(pidfd,),
    )
    os.close(pidfd)
    wait_until((kept.folder / "up").exists, what="the child")
    assert process.poll() is None
    parent.kill()
    parent.wait()
    assert process.wait(10) == 3
    assert kept.lines("seen") == ["term"]


@pytest.mark.parametrize("victim", ["worker", "keeper"])
def test_with_a_real_worker_one_death_leaves_nothing(kept: Kept, tmp_path: Path, victim: str) -> None:
    """kill -9 of the worker: the keeper sweeps. kill -9 of the keeper: the worker notices, drains and exits
    75."""
    mark = new_mark(13)
    token = f"{os.getpid()}22"
    options = {"mark": mark, "log": str(tmp_path / "log"), "containment": "tree", "attempts": payloads(token)}
    kept.folder = Path.cwd()
    process = kept.start([sys.executable, "-m", "tests.supervise.worker", json.dumps(options)])
    try:
        assert process.stdout
        facts = json.loads(process.stdout.readline())
        assert len(leaves.alive(token)) == leaves.COUNT - 1
        os.kill(facts["worker"] if victim == "worker" else process.pid, signal.SIGKILL)
        wait_until(lambda: not marked_processes(mark), timeout=3.0, what="the end of everything")
        wait_until(lambda: state_of(facts["worker"]) in ("", "Z"), timeout=3.0, what="the end of the worker")
        assert process.wait(5) == (137 if victim == "worker" else -signal.SIGKILL)
        assert leaves.alive(token) == []
    finally:
        sweep([mark])


def test_a_keepers_identity_dies_with_it(kept: Kept) -> None:
    held, release = os.pipe()  # not stdin: of that nobody knows whether it has ended already
    process = kept.shell(f'echo "$UNJAM_KEEPER_IDENTITY"; read x <&{held}', fds=(held,))
    os.close(held)
    assert process.stdout
    identity = Identity.from_json(process.stdout.readline().decode())
    assert is_alive(identity)
    process.kill()
    wait_until(lambda: not is_alive(identity), what="the end of the keeper")
    os.close(release)


def test_let_go_the_child_finishes_and_the_starter_may_die(kept: Kept) -> None:
    """Whoever started it is done and does not wait: its death ends nothing any more, and what follows is no
    crash."""
    starter = subprocess.Popen(["sleep", "60"])
    parent = os.pidfd_open(starter.pid)
    try:
        script = f"trap 'echo told >> {kept.folder}/told' USR1; echo up >> {kept.folder}/up; " + (
            f"while ! test -e {kept.folder}/go; do sleep 0.05; done; exit 3"
        )
        process = kept.shell(script, "--restart", "--parent-fd", str(parent), fds=(parent,))
        wait_until(lambda: _has_lines(kept, "up", 1), what="the child")
        process.send_signal(LET_GO)
        wait_until(lambda: _has_lines(kept, "told", 1), what="the child to be told")
    finally:
        os.close(parent)
        starter.kill()
        starter.wait()
    assert process.poll() is None
    (kept.folder / "go").touch()
    assert process.wait(10) == 3
    assert kept.lines("up") == ["up"]
