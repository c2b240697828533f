"""What a service imports before it answers: that is most of the time that it needs to be back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[3] / "src"
LATER = ("prometheus_client", "http.server", "corral.serve.openapi", "sqlite3", "msgspec")


def test_service_leaves_what_few_requests_need_for_later() -> None:
    """Metrics and the description of the calls are imported by whoever asks for them."""
    program = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import corral.serve.service; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True)

    assert [] == sorted(set(LATER) & set(loaded.stdout.split()))
