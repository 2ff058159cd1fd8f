"""A small but real worker for tests that kill one: `python -m tests.supervise.worker JSON`.

Launches the attempts it is told of, prints one JSON line when all have announced themselves, and lives until
it is asked to end, which it does as a worker should.
"""

import asyncio
import json
import math
import os
import signal
import sys
from typing import Any

from unjam.supervise import linux
from unjam.supervise.keeper_env import take_keeper
from unjam.supervise.launch import Launcher, LaunchSpec, Limits


async def work(options: dict[str, Any]) -> int:
    """options: `mark`, `log`, `containment`, `attempts` (payloads), `entry`, `deadline`. Returns the exit
    code."""
    linux.set_name("uj-worker")
    loop = asyncio.get_running_loop()
    ending: asyncio.Future[int] = loop.create_future()

    def end(code: int) -> None:
        if not ending.done():
            ending.set_result(code)

    loop.add_signal_handler(signal.SIGTERM, end, 0)
    keeper = take_keeper()
    launcher = Launcher(
        mark=options["mark"],
        keeper_pidfd=keeper[0] if keeper else None,
        on_keeper_death=lambda: end(75),
        default_containment=options.get("containment", "auto"),
    )
    await launcher.start()
    trees = []
    for number, payload in enumerate(options["attempts"]):
        tree = await launcher.launch(
            LaunchSpec(
                name=f"t{number}/1",
                entry=options.get("entry", "tests.torture.leaves:job"),
                payload=payload,
                limits=Limits(deadline=options.get("deadline"), grace=0.5),
                log_path=options["log"],
                cwd="/",
                env={},
            )
        )
        tree.go(math.inf)
        trees.append(tree)
    for tree in trees:
        await loop.sock_recv(tree.channel, 100)
    started = [(await tree.started()).pid for tree in trees]
    say(
        {"up": True, "worker": os.getpid(), "attempts": started, "guardians": [t.identity.pid for t in trees]}
    )
    code = await ending
    for tree in trees:
        tree.stop("ending")
    await launcher.close()
    return code


def say(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def payloads(token: str, count: int = 1, hop: float = 0.003) -> list[dict[str, Any]]:
    return [{"token": token, "hop": hop, "announce": True} for _ in range(count)]


if __name__ == "__main__":
    sys.exit(asyncio.run(work(json.loads(sys.argv[1]))))
