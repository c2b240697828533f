"""System calls through ctypes behave as their man pages say, and raise OSError with the path."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from corral.linux import syscalls


def test_link_stays_inside_when_resolved_in_root(tmp_path: Path) -> None:
    """RESOLVE_IN_ROOT makes the directory the root for absolute links; the descriptor is close-on-exec."""
    (tmp_path / "f").write_text("inside")
    (tmp_path / "link").symlink_to("/f")
    root = os.open(tmp_path, os.O_PATH)
    fd = syscalls.openat2(root, "link", os.O_RDONLY, 0, syscalls.RESOLVE_IN_ROOT)
    assert (b"inside", False) == (os.read(fd, 10), os.get_inheritable(fd))
    os.close(fd)
    os.close(root)


@pytest.mark.parametrize(
    ("path", "resolve", "code"),
    [
        ("none", 0, errno.ENOENT),
        ("../x", syscalls.RESOLVE_BENEATH, errno.EXDEV),
        ("link", syscalls.RESOLVE_NO_SYMLINKS, errno.ELOOP),
        ("link", 1 << 40, errno.EINVAL),
    ],
)
def test_error_names_the_path_when_refused(tmp_path: Path, path: str, resolve: int, code: int) -> None:
    """errno and path arrive in the exception."""
    (tmp_path / "link").symlink_to("/")
    root = os.open(tmp_path, os.O_PATH)
    with pytest.raises(OSError) as caught:
        syscalls.openat2(root, path, os.O_RDONLY, 0, resolve)
    assert (code, path) == (caught.value.errno, caught.value.filename)
    os.close(root)


def test_mode_is_applied_when_file_is_made(tmp_path: Path) -> None:
    """Flags and mode reach the kernel at full width."""
    root = os.open(tmp_path, os.O_PATH)
    os.close(syscalls.openat2(root, "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, 0))
    assert 0o600 == (tmp_path / "new").stat().st_mode & 0o777
    os.close(root)


def test_mount_setattr_is_there_when_the_kernels_symbols_have_it() -> None:
    """The probe says what the kernel's own list of symbols says, and loses no descriptor."""
    before = os.listdir("/proc/self/fd")
    listed = "sys_mount_setattr\n" in Path("/proc/kallsyms").read_text()
    assert (syscalls.mount_setattr_refusal() == 0) == listed
    assert len(os.listdir("/proc/self/fd")) == len(before)
