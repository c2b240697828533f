"""tools/bench_cgroups.py inside a cell, where systemd runs the host. Only on request, as it takes its time::

    python tests/vm/bench.py --cell v2-6.1-systemd --limit 5400 --told -- -s tests/vm/guest/bench_cgroups.py

With ``-k "test_groups or runc or (resident and not engine)"`` the four that matter most.
A table after each runtime, with all that were measured until then; a runtime takes some minutes on a quiet host.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import bench_cgroups

SCOPES = 200
RESULTS: dict[str, tuple[float, float]] = {}
pytestmark = pytest.mark.timeout(1500)


def test_groups_are_measured() -> None:
    """One group by each driver: printed, not judged."""
    print(bench_cgroups.machine())
    print(bench_cgroups.groups_report(10))


@pytest.mark.parametrize("name", bench_cgroups.CANDIDATES)
def test_many_containers_at_once_are_measured(name: str, tmp_path: Path) -> None:
    """Made and deleted, by each runtime."""
    RESULTS[name] = bench_cgroups.many(name, SCOPES, tmp_path)
    print(bench_cgroups.scopes_table(SCOPES, {"runc": next(iter(RESULTS.values())), **RESULTS}))
