"""Project quotas: how much a directory, with everything below, may hold. For file systems that have them (ext4, xfs).

Source: quotactl(2), ioctl_fslgetxattr(2) (FS_IOC_FSGETXATTR), Documentation/filesystems/quota.rst;
Linux kernel commit 9dfa23c8de92 ("quota: Add mountpath based quota support") (quotactl_fd, in v5.14).
"""

from __future__ import annotations

import fcntl
import os
import struct

_FSXATTR = struct.Struct("=IIIII8x")
_GET, _SET = 0x801C581F, 0x401C5820
_XFLAG_PROJINHERIT = 0x200

_SYS_QUOTACTL_FD = 443
_SETQUOTA = (0x800008 << 8) | 2  # QCMD(Q_SETQUOTA, PRJQUOTA)
_GETQUOTA = (0x800007 << 8) | 2
_DQBLK = struct.Struct("=QQQQQQQQI4x")
_BLIMITS = 1
_BLOCK_BYTES = 1024


def set_project(fd: int, project_id: int) -> None:
    """Count a directory, and what will be made in it, to a project. ``fd`` is borrowed.

    Raises: OSError (ENOTTY or EOPNOTSUPP where the file system has no projects, EPERM in a user namespace).
    """
    flags, extent, extents, _, cow = _FSXATTR.unpack(fcntl.ioctl(fd, _GET, bytes(_FSXATTR.size)))
    fcntl.ioctl(fd, _SET, _FSXATTR.pack(flags | _XFLAG_PROJINHERIT, extent, extents, project_id, cow))


def set_project_limit(fd: int, project_id: int, limit_bytes: int) -> None:
    """Bound a project of the file system that holds ``fd``; 0: no bound. In units of 1 KiB, rounded up.

    Raises: OSError (ESRCH where project quotas are not switched on, ENOSYS before v5.14, EPERM).
    """
    blocks = -(-limit_bytes // _BLOCK_BYTES)
    _quotactl(fd, _SETQUOTA, project_id, _DQBLK.pack(blocks, blocks, 0, 0, 0, 0, 0, 0, _BLIMITS))


def read_project_usage(fd: int, project_id: int) -> tuple[int, int]:
    """Bytes used and the bound of a project. Raises: OSError as ``set_project_limit``."""
    hard, _, used, *_ = _DQBLK.unpack(_quotactl(fd, _GETQUOTA, project_id, bytes(_DQBLK.size)))
    return used, hard * _BLOCK_BYTES


def _quotactl(fd: int, command: int, project_id: int, block: bytes) -> bytes:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    buffer = ctypes.create_string_buffer(block, len(block))
    words = (ctypes.c_long(fd), ctypes.c_long(command), ctypes.c_long(project_id), ctypes.byref(buffer))
    if libc.syscall(ctypes.c_long(_SYS_QUOTACTL_FD), *words) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return buffer.raw
