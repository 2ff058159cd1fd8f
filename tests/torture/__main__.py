"""`./run torture`: kill -9 at random and aimed moments, of one process or of all at once.

Counts what must never be: orphans, jobs lost, units doubled or done again, outputs torn, strangers signalled.
Exit code 1 for any of them, 2 when the torture could not be carried out.
"""

# Two processes: the outer one keeps the bystanders (and a database server), the inner one is the subreaper
# below which the system runs, so that wait() = ECHILD there means that nothing at all is left.

import argparse
import os
import random
import secrets
import shlex
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.postgres import Server
from tests.torture import bystanders, evidence
from tests.torture.harness import Harness
from tests.torture.other_user import ProgramCopy
from tests.torture.report import show
from tests.torture.rig import build
from tests.torture.server import LONGEST, SHORTEST_FREEZE, Operator, Remote
from unjam.errors import UnjamError
from unjam.store.url import is_postgres
from unjam.supervise import linux

KILLS = 100
OWN_SERVER = "postgresql"
SERVER_SHARE = 5
"""Percent. A server that is not ours is never touched."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run torture", description=__doc__)
    parser.add_argument("--kills", type=int, metavar="N", help=f"default: {KILLS}, 0 with --massacre")
    parser.add_argument(
        "--massacre", type=int, metavar="N", default=0, help="then N times all of ours at once"
    )
    parser.add_argument("--seed", type=int, help="repeats the choices, as far as the machine lets it")
    parser.add_argument("--workers", type=int, metavar="N", default=2, help="keepers, each with one worker")
    parser.add_argument(
        "--store",
        metavar="URL",
        help="an empty one: sqlite:///PATH or postgresql://...; only `postgresql`: a server of its own",
    )
    parser.add_argument(
        "--server-share",
        type=int,
        metavar="PERCENT",
        default=SERVER_SHARE,
        help=f"of the kills, at a server of its own; default: {SERVER_SHARE}",
    )
    parser.add_argument(
        "--outage",
        type=float,
        metavar="SECONDS",
        default=LONGEST,
        help=f"how long that one is stopped or frozen at most; default: {LONGEST:g}",
    )
    parser.add_argument("--containment", choices=("mixed", "auto", "pidns", "tree"), default="mixed")
    parser.add_argument("--uid", type=int, metavar="N", help="run all of it as this user (needs root)")
    parser.add_argument("--keep", action="store_true", help="keep the folder also when all is well")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for every kill")
    # What the user typed, when this process is another user's already.
    parser.add_argument("--called", help=argparse.SUPPRESS)
    parser.add_argument("--server-fd", type=int, help=argparse.SUPPRESS)
    words = parser.parse_args()
    words.kills = (0 if words.massacre else KILLS) if words.kills is None else words.kills
    typed = ["./run", "torture", *sys.argv[1:]]
    if words.seed is None:
        words.seed = secrets.randbelow(1 << 30)
        typed += ["--seed", str(words.seed)]
    words.called = words.called or shlex.join(typed)
    if words.uid is not None and (os.geteuid() != 0 or words.uid <= 0):
        parser.error(f"--uid {words.uid}: only root can become another user, and that must not be root")
    if words.outage < SHORTEST_FREEZE:
        parser.error(f"--outage {words.outage:g}: at least {SHORTEST_FREEZE:g} s, as long as a short freeze")
    return words


def main() -> int:
    words = arguments()
    with own_server(words.store == OWN_SERVER) as (url, operator):
        store = url or words.store
        if operator is not None:
            words.server_fd = operator.theirs.fileno()
        if words.uid is not None:
            return as_other_user(words, store, operator)
        crowd = bystanders.start("4711")
        try:
            return in_child(lambda: torture(words, store, crowd), operator)
        finally:
            bystanders.end(crowd)


@contextmanager
def own_server(wanted: bool) -> Iterator[tuple[str, Operator] | tuple[None, None]]:
    """The URL of a database server that ends with this process, and who strikes it. It is a stranger to the
    inner one."""
    if not wanted:
        yield None, None
        return
    server = Server()
    operator = Operator(server)
    try:
        server.start()
        yield server.url(), operator
    finally:
        operator.close()
        server.close()


def as_other_user(words: argparse.Namespace, store: str | None, operator: Operator | None) -> int:
    """The same again in a process that is that user's from its first instruction on."""
    command = [
        "--called",
        words.called,
        "--kills",
        words.kills,
        "--massacre",
        words.massacre,
        "--seed",
        words.seed,
    ]
    command += ["--workers", words.workers, "--containment", words.containment]
    command += ["--store", store] if store else []
    if operator is not None:
        command += ["--server-fd", words.server_fd, "--server-share", words.server_share]
        command += ["--outage", words.outage]
    command += ["--keep"] if words.keep else []
    command += ["--verbose"] if words.verbose else []
    copy = ProgramCopy(words.uid)
    me = os.pidfd_open(os.getpid())
    try:
        return in_child(lambda: copy.become("tests.torture", [str(word) for word in command], me), operator)
    finally:
        os.close(me)
        copy.close()


def in_child(inner: Callable[[], int], operator: Operator | None = None) -> int:
    """Run it in a child, a subreaper that dies with us; its exit code. Meanwhile the operator does here what
    it is asked for."""
    me = os.pidfd_open(os.getpid())
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 2
        try:
            linux.die_with(me)
            linux.become_subreaper()
            code = inner()
        except KeyboardInterrupt:
            code = 130
        except UnjamError as error:
            print(f"torture: {error}", file=sys.stderr)
        except BaseException:  # noqa: BLE001 - the last frame of this process
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(me)
    return os.waitstatus_to_exitcode(_wait(child, operator)) & 0xFF


def _wait(pid: int, operator: Operator | None) -> int:
    while True:
        try:
            if operator is not None:
                operator.serve(pid)
            return os.waitpid(pid, 0)[1]
        except KeyboardInterrupt:
            continue  # the terminal told the inner process as well: it ends what it started, then itself


def torture(words: argparse.Namespace, store: str | None, crowd: list[bystanders.Bystander]) -> int:
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="unjam-torture-"))
    keep = words.keep
    try:
        rig = build(folder, keepers=words.workers, containment=words.containment, store=store)
        keep = True  # until all is known to be well
        print(f"torture: seed {words.seed}, {folder}", flush=True)
        with open(folder / "story.log", "w", encoding="utf-8", buffering=1) as story:

            def say(text: str) -> None:
                line = f"{time.monotonic() - began:6.1f} s  {text}"
                print(line, file=story)
                if words.verbose:
                    print(line, flush=True)

            server = None if words.server_fd is None else Remote(words.server_fd, words.outage)
            rng = random.Random(words.seed)
            harness = Harness(rig, rng, crowd, say, server, words.server_share / 100)
            harness.run(words.kills, words.massacre)
        tally = harness.tally
        print(f"\n{show(tally, headline(words, store), time.monotonic() - began)}\n")
        if tally.bad:
            evidence.write(rig, tally)
        rig.store.close()
        keep = words.keep or bool(tally.bad)
    finally:
        if keep:
            print(f"evidence: {folder}")
        else:
            shutil.rmtree(folder)
    print(f"{tally.bad} FAULTS; again: {words.called}" if tally.bad else "all counts are zero")
    return 1 if tally.bad else 0


def headline(words: argparse.Namespace, store: str | None) -> str:
    user = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    database = "PostgreSQL" if is_postgres(store or "") else "SQLite"
    return (
        f"{words.called}\n{words.kills} kills and {words.massacre} massacres as {user} on {database}; "
        f"{words.workers} keepers with a worker each, containment {words.containment}"
    )


if __name__ == "__main__":
    sys.exit(main())
