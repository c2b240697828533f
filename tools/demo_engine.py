"""The engine's part of ``make run``: a few commands on a store of their own, shown with what they print.

Everything lies below build/demo-store and is gone afterwards.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["main"]

STORE = Path(__file__).resolve().parent.parent / "build" / "demo-store"
COMMANDS = (
    "run --rm host -- echo hello",
    "run -d --name web --memory 64m --pids-limit 20 host -- sh -c 'echo up; sleep 300'",
    "ps",
    "logs web",
    "exec web sh -c 'echo inside $(hostname), as $(id -un)'",
    "stats --no-stream",
    "stop -t 1 web",
    "ps -a --format 'table {{.Names}}\\t{{.Status}}'",
    "rm web",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the commands; the exit code of the first that does not work, else 0."""
    parser = argparse.ArgumentParser(description="Show what the command corral does.")
    parser.add_argument("--corral", required=True, help="the program")
    program = parser.parse_args(arguments).corral
    places = ["--store", str(STORE)]
    try:
        for command in COMMANDS:
            print(f"$ corral {command}", flush=True)
            done = subprocess.run([program, *places, *shlex.split(command)])
            if done.returncode:
                return done.returncode
    finally:
        subprocess.run([program, *places, "rm", "-f", "web"], stdout=subprocess.DEVNULL)
        shutil.rmtree(STORE, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
