"""What lets the tests of ordinary users run from a clone below /root."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.requires("root")

TESTS = Path(__file__).resolve().parents[2]
SCRIPT = """
import os, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from reach import open_the_way
os.chdir(sys.argv[2])
open_the_way(Path(sys.argv[2]))
assert Path.cwd() == Path(sys.argv[2])
subprocess.run(["cat", "file", sys.argv[2] + "/../link"], user=48724, group=48724, extra_groups=[], check=True)
Path("written").write_text("by root")
"""


def test_other_users_reach_a_checkout_below_closed_directories() -> None:
    """In the process that asks and in its children; the directories themselves stay closed, what is written is kept."""
    with tempfile.TemporaryDirectory(prefix="corral-reach-") as path:
        closed = Path(path)
        checkout = closed / "inner" / "checkout"
        checkout.mkdir(parents=True)
        (checkout / "file").write_text("read, ")
        (closed / "inner" / "link").symlink_to("checkout/file")
        (closed / "inner").chmod(0o700)
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(TESTS), str(checkout)], capture_output=True, text=True, timeout=60
        )
        assert (done.stderr, done.stdout) == ("", "read, read, ")
        assert [folder.stat().st_mode & 0o777 for folder in (closed, closed / "inner")] == [0o700, 0o700]
        assert (checkout / "written").read_text() == "by root"
