"""`python -m benchmarks [NAME [OPTIONS]]`: all benchmarks one after the other, or one of them."""

import subprocess
import sys

MODULES = {
    "engine": "engine",
    "store": "store_speed",
    "cli": "cli_start",
    "ffmpeg": "ffmpeg_cost",
    "attempt": "attempt_cost",
    "deaths": "deaths",
    "crowd": "crowd",
    "quiet": "quiet_job",
}
HELD_BY = {
    "engine": "P1 P3 P17",
    "store": "P2 P4",
    "cli": "P15",
    "ffmpeg": "P8",
    "attempt": "",
    "deaths": "P5 P7",
    "crowd": "P9",
    "quiet": "",
}


def main(words: list[str]) -> int:
    """1 when a target was missed anywhere, 2 for an unknown name."""
    if words and words[0] not in MODULES:
        known = "\n".join(f"  {name:8} {HELD_BY[name]}".rstrip() for name in MODULES)
        print(f"usage: bench [NAME [OPTIONS]], NAME one of\n{known}", file=sys.stderr)
        return 0 if words[0] in ("-h", "--help", "help") else 2
    names, options = ([words[0]], words[1:]) if words else (list(MODULES), [])
    codes = []
    for name in names:
        print(f"== {name} {HELD_BY[name]}".rstrip(), flush=True)
        # A process of its own each: one that becomes a subreaper or imports a lot must not shape the next.
        codes.append(subprocess.call([sys.executable, "-m", f"benchmarks.{MODULES[name]}", *options]))
        print(flush=True)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
