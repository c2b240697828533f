"""As in the sweep: what outlives its parent is not this process's to reap."""

from __future__ import annotations

from sweep.conftest import orphans_go_to_init

__all__ = ["orphans_go_to_init"]
