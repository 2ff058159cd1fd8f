"""`python -m tests.torture --kills N`: kill -9 at random and aimed moments; exit code 1 for any fault.

Two processes: this one keeps the bystanders, the other one is the subreaper below which the system runs, so
that wait() = ECHILD there means that nothing at all is left.
"""

import argparse
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.torture import bystanders
from tests.torture.harness import Harness
from tests.torture.rig import build
from tests.torture.tally import show
from unjam.supervise import linux


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, help="repeats the choices, as far as the machine lets it")
    parser.add_argument("--workers", type=int, default=2, help="keepers, each with one worker")
    parser.add_argument("--store", help="sqlite:///PATH or postgresql://..., an empty one")
    parser.add_argument("--containment", choices=("mixed", "auto", "pidns", "tree"), default="mixed")
    parser.add_argument("--keep", action="store_true", help="keep the folder, say where it is")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for every kill")
    return parser.parse_args()


def main() -> int:
    words = arguments()
    seed = secrets.randbelow(1 << 30) if words.seed is None else words.seed
    crowd = bystanders.start("4711")
    me = os.pidfd_open(os.getpid())
    sys.stdout.flush()
    inner = os.fork()
    if inner == 0:
        code = 2
        try:
            linux.die_with(me)
            linux.become_subreaper()
            code = torture(words, seed, crowd)
        except KeyboardInterrupt:
            code = 130
        except BaseException:  # noqa: BLE001 - the last frame of this process
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    try:
        return os.waitstatus_to_exitcode(_wait(inner)) & 0xFF
    finally:
        bystanders.end(crowd)


def _wait(pid: int) -> int:
    while True:
        try:
            return os.waitpid(pid, 0)[1]
        except KeyboardInterrupt:
            continue  # the terminal told the inner process as well: it ends what it started, then itself


def torture(words: argparse.Namespace, seed: int, crowd: list[bystanders.Bystander]) -> int:
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="unjam-torture-"))
    rig = build(folder, keepers=words.workers, containment=words.containment, store=words.store)
    print(f"torture: seed {seed}, {folder}", flush=True)

    def say(text: str) -> None:
        if words.verbose:
            print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    harness = Harness(rig, random.Random(seed), crowd, say)
    try:
        harness.run(words.kills)
    finally:
        rig.store.close()
        if not words.keep:
            shutil.rmtree(folder)
    tally = harness.tally
    levels = ", ".join(slot.containment for slot in rig.slots)
    keepers = f"{words.workers} keepers with a worker each (containment {levels})"
    head = f"{tally.kills.total()} kills, seed {seed}, {keepers}"
    print(show(tally, head, len(rig.jobs), harness.attempts, time.monotonic() - began))
    print("all counts are zero" if not tally.bad else f"{tally.bad} FAULTS")
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(main())
