"""Boot a cell and run tests in it::

    python tests/vm/bench.py --cell v2-6.1 -- tests/vm/guest/test_environment.py
    python tests/vm/bench.py --cell v1-6.1 -- tests/conformance --runtime runc -k lifecycle

Without arguments after ``--``, the environment's own tests run. Exit code 0: everything ran and passed.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vm.cells import ENVIRONMENT, HIERARCHIES, Cell, Selection, parse_cell
from vm.debian import KERNELS, find_kernel, root_image
from vm.machine import Machine
from vm.payload import build_payload
from vm.store import RESULTS, BenchError, lacking, lock, slot

__all__ = ["Outcome", "boot", "run_selection"]

# Emulation makes everything slower; limits that are generous on the host are not here.
TIMEOUT_FACTOR_S = 300


@dataclass(slots=True)
class Outcome:
    """What became of one selection, beside the reports that were passed on while it ran."""

    cell: Cell
    code: int = -1
    selected: int = 0
    left_out: list[str] = field(default_factory=list)
    output: str = ""
    seconds: float = 0.0
    processor_s: float = 0.0
    files: list[Path] = field(default_factory=list)


@contextlib.contextmanager
def boot(cell: Cell) -> Iterator[Machine]:
    """The cell's machine, up and idle; builds what the store lacks, and waits until fewer machines run.

    Raises:
        BenchError: something that is needed is not installed, does not build, or does not boot.
    """
    why_not = lacking()
    if why_not:
        raise BenchError(f"boot a machine: {why_not}")
    with slot() as number:
        with lock():
            machine = Machine(cell.hierarchy, find_kernel(cell.kernel), root_image(), build_payload(), number)
        with machine:
            yield machine


def run_selection(
    machine: Machine,
    selection: Selection,
    on_message: Callable[[dict[str, Any]], None],
    folder: Path,
    *,
    is_told: bool = False,
) -> Outcome:
    """Run pytest inside; every report goes to ``on_message`` as it arrives. Files end up in ``folder``, with no others.

    With ``is_told``, what pytest itself prints is passed on as well, the moment it is written.

    Raises:
        MachineLost: the guest went away or took too long; what was reported until then has been passed on.
    """
    outcome = Outcome(selection.cell)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    job = {
        "arguments": [*selection.arguments, "-o", f"timeout={TIMEOUT_FACTOR_S}"],
        "environment": selection.environment,
        "rootless": selection.cell.is_rootless,
        "absent": selection.cell.absent,
        "parts": selection.parts,
        "of": selection.of,
        "told": is_told,
        "coverage": os.environ.get("CORRAL_COVERAGE") == "1",
    }
    start, taken = time.monotonic(), machine.processor_s
    for message in machine.run_job(job, selection.limit_s, selection.silence_s):
        event = message.get("event")
        if event == "selected":
            outcome.selected += message["count"]
            outcome.left_out = message["left_out"]
            on_message(message)
        elif event == "file":
            path = folder / Path(message["name"]).name
            path.write_bytes(base64.b64decode(message["data"]))
            outcome.files.append(path)
        elif event == "done":
            outcome.code, outcome.output = message["code"], message["output"]
            (folder / "output.txt").write_text(outcome.output)
        else:
            on_message(message)
    outcome.seconds, outcome.processor_s = time.monotonic() - start, machine.processor_s - taken
    return outcome


class Printer:
    """Shows reports to a person, and counts."""

    def __init__(self, cell: Cell, *, is_skip_fine: bool) -> None:
        self.cell = cell
        self.is_skip_fine = is_skip_fine
        self.counts = {"passed": 0, "failed": 0, "skipped": 0, "impossible": 0, "xfailed": 0}

    def show(self, message: dict[str, Any]) -> None:
        """Print a finished test, or a part of one that did not pass."""
        if message["event"] == "output":
            print(message["text"], end="", flush=True)
        if message["event"] not in ("report", "collect"):
            return
        data = message["data"]
        outcome = "xfailed" if "wasxfail" in data and data["outcome"] == "skipped" else data["outcome"]
        if outcome == "passed" and data.get("when") != "call":
            return
        if outcome == "skipped" and re.search(self.cell.impossible, message["text"]):
            outcome = "impossible"
        self.counts[outcome] += 1
        print(f"{outcome:10}{data.get('duration', 0):7.2f}s  {data['nodeid']}", flush=True)
        if outcome in ("failed", "skipped"):
            print("    " + message["text"].replace("\n", "\n    "), flush=True)

    @property
    def is_good(self) -> bool:
        """Something ran, and nothing failed or was skipped."""
        bad = self.counts["failed"] + (0 if self.is_skip_fine else self.counts["skipped"])
        return bad == 0 and self.counts["passed"] > 0


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests/vm/bench.py", description="Run tests in a virtual machine.")
    names = f"{{{'|'.join(HIERARCHIES)}}}-{{{'|'.join(KERNELS)}}}[-systemd][-rootless][-userns]"
    parser.add_argument("--cell", default="v2-6.1", help=names)
    parser.add_argument("--allow-skips", action="store_true", help="a skip is no failure (for peers like runc)")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which the machine is ended")
    parser.add_argument("--told", action="store_true", help="print what pytest prints, as it comes: tables, with -s")
    parser.add_argument("--shards", type=int, default=1, help="pytest processes in the machine, at most 2 are useful")
    parser.add_argument("arguments", nargs="*", metavar="-- PYTEST ARGUMENTS")
    options = parser.parse_args(arguments)
    # A `timeout` around us sends it: leave by the same way as from an error, so that nothing stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        cell = parse_cell(options.cell)
        printer = Printer(cell, is_skip_fine=options.allow_skips)
        chosen = tuple(options.arguments) or ENVIRONMENT
        # What one asks for by name may have tests with time limits of their own.
        limits = (options.limit, options.limit)
        selection = Selection(cell, chosen, *limits, tuple(range(options.shards)), options.shards)
        with boot(cell) as machine:
            print(f"{cell.name}: {machine.kernel.release} up after {machine.boot_s:.1f} s", flush=True)
            folder = RESULTS / "single" / cell.name
            outcome = run_selection(machine, selection, printer.show, folder, is_told=options.told)
    except (BenchError, ValueError) as error:
        print(f"tests/vm/bench.py: {error}", file=sys.stderr)
        return 2
    if outcome.code not in (0, 1):
        print(outcome.output)
    summary = ", ".join(f"{count} {word}" for word, count in printer.counts.items() if count)
    cost = f"{outcome.seconds:.0f} s, {outcome.processor_s:.0f} s of processor time"
    print(f"{cell.name}: {summary or 'nothing ran'}; {len(outcome.left_out)} left out; {cost}")
    return 0 if outcome.code == 0 and printer.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
