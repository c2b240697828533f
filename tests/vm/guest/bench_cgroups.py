"""tools/bench_cgroups.py inside a cell, where systemd runs the host. Only on request, as it takes its time::

    python tests/vm/bench.py --cell v2-6.1-systemd -- -s tests/vm/guest/bench_cgroups.py

The tables are in build/vm/results/.../output.txt afterwards.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import bench_cgroups

SCOPES = 200


@pytest.mark.timeout(1500)
def test_cgroups_are_measured(tmp_path: Path) -> None:
    """Groups by driver, then many containers at once by each runtime: printed, not judged."""
    print(bench_cgroups.machine())
    print(bench_cgroups.groups_report(10))
    print(bench_cgroups.scopes_report(SCOPES, tmp_path))
