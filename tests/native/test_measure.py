"""tools/measure.c, the stopwatch of ``make bench``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BURN = "t=__import__('time'); [0 for _ in iter(lambda: t.process_time() < 0.2, False)]"


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built."""
    output = tmp_path_factory.mktemp("measure") / "measure"
    script = "import sys; from pathlib import Path; import build; build.build_single(*map(Path, sys.argv[1:]))"
    command = [sys.executable, "-c", script, str(ROOT / "tools" / "measure.c"), str(output)]
    subprocess.run(command, check=True, cwd=ROOT / "native")
    return output


def run(measure: Path, *command: str) -> list[int]:
    """Wall ns, CPU us, peak KiB and wait status of a command."""
    result = subprocess.run([str(measure), *command], check=True, capture_output=True, text=True, timeout=60)
    return [int(word) for word in result.stdout.split()]


def test_measure_counts_a_child_and_its_status(measure: Path) -> None:
    """The processor time of the command and of what it waited for is there, and how it ended."""
    wall_ns, cpu_us, peak_kib, status = run(measure, sys.executable, "-c", f"{BURN}; raise SystemExit(3)")
    assert status == 3 << 8
    assert cpu_us >= 200_000
    assert wall_ns > 0
    assert peak_kib > 1000


def test_measure_counts_an_orphan_that_ends_with_the_command(measure: Path, tmp_path: Path) -> None:
    """A grandchild whose parent is gone is the measured command's work, too."""
    fifo = tmp_path / "ended"
    os.mkfifo(fifo)
    script = '( { "$1" -c "$2"; echo > "$0"; } & ); read line < "$0"'
    _wall_ns, cpu_us, _peak_kib, status = run(measure, "/bin/sh", "-c", script, str(fifo), sys.executable, BURN)
    assert status == 0
    assert cpu_us >= 200_000
