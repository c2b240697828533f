"""mount(2) and umount2(2) in this process's own mount namespace: for names of namespaces and volumes, never for roots.

ctypes is imported at the first call. Raises OSError(errno, text, target).

Source: mount(2), umount(2).
"""

from __future__ import annotations

import os

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_NOATIME = 0x400
MS_BIND = 0x1000
_MNT_DETACH = 0x2
_UMOUNT_NOFOLLOW = 0x8

__all__ = ["MS_BIND", "MS_NOATIME", "MS_NODEV", "MS_NOEXEC", "MS_NOSUID", "MS_RDONLY", "mount", "unmount"]


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount ``source`` on ``target``."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    words = [os.fsencode(text) if text else None for text in (source, target, kind)]
    if libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(data) if data else None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def unmount(target: str) -> None:
    """Take away what is mounted on ``target``, which is no link; users of it keep it until they are done."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)
