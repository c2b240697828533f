"""corral.engine.hostfiles: files that containers have, rewritten in place."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from corral.engine.hostfiles import write_in_place

_HOLDER = """
import fcntl, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = open(sys.argv[1])
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
print("held", flush=True)
signal.pause()
"""


def test_a_file_keeps_its_inode_and_nothing_of_what_was_longer(tmp_path: Path) -> None:
    """It is mounted in the container by its inode."""
    path = tmp_path / "hosts"
    path.write_text("long " * 100)
    inode = path.stat().st_ino
    write_in_place(str(path), "short\n")
    assert ("short\n", inode) == (path.read_text(), path.stat().st_ino)


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    """Whoever put it there has no say in what is written."""
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "hosts").symlink_to(tmp_path / "kept")
    with pytest.raises(OSError, match="symbolic links"):
        write_in_place(str(tmp_path / "hosts"), "x")
    assert "kept" == (tmp_path / "kept").read_text()


def test_a_lease_that_a_container_has_on_its_file_is_not_waited_for(tmp_path: Path) -> None:
    """The kernel would have us wait 45 s, again and again, and all whose hosts files are written after it."""
    path = tmp_path / "hosts"
    path.write_text("old")
    with subprocess.Popen([sys.executable, "-c", _HOLDER, path], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert "held\n" == holder.stdout.readline()
            with pytest.raises(BlockingIOError):
                write_in_place(str(path), "new")
        finally:
            holder.send_signal(signal.SIGKILL)
    file = os.open(path, os.O_RDONLY)
    assert fcntl.F_UNLCK == fcntl.fcntl(file, fcntl.F_GETLEASE)
    os.close(file)
    write_in_place(str(path), "new")
    assert "new" == path.read_text()
