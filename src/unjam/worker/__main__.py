"""`python -m unjam.worker`: the process that a keeper keeps. People start it as `unjam worker`."""

from __future__ import annotations

import argparse
import sys

from unjam.supervise.keeper_env import take_keeper

EXIT_UNREACHABLE = 7


def main() -> int:
    keeper = take_keeper()
    # Only now: importing takes long enough for a keeper to be killed meanwhile.
    from unjam.errors import UnjamError
    from unjam.settings import load
    from unjam.worker.main import WorkerOptions, run_worker

    parser = argparse.ArgumentParser(prog="unjam.worker")
    parser.add_argument("--slots", type=int)
    parser.add_argument("--queue", action="append")
    parser.add_argument("--exit-when-idle", action="store_true")
    parser.add_argument("--drain", action="store_true", help="on the first signal finish what runs")
    words = parser.parse_args()
    options = WorkerOptions(
        slots=words.slots,
        queues=tuple(words.queue) if words.queue else None,
        exit_when_idle=words.exit_when_idle,
        finish_first=words.drain,
    )
    try:
        return run_worker(load(), options, keeper)
    except UnjamError as error:
        sys.stderr.write(f"unjam: {error}\n")
        return EXIT_UNREACHABLE


if __name__ == "__main__":
    sys.exit(main())
