"""System calls that Python lacks. Each raises OSError(errno, text, path). Descriptors come close-on-exec.

ctypes is imported at the first call. Joining or making namespaces is not for a Python process, and not here.

Source: openat2(2), bpf(2), mount_setattr(2).
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

BPF_F_ALLOW_MULTI = 2
BPF_F_REPLACE = 4

_BPF_PROG_LOAD = 5
_BPF_PROG_ATTACH = 8
_BPF_PROG_DETACH = 9
_BPF_PROG_GET_FD_BY_ID = 13
_BPF_PROG_QUERY = 16
_PROG_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_MAX_PROGRAMS = 64
_LOG_BYTES = 65536

_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442
# All architectures that use the generic table, or came after it, have 280.
_SYS_BPF = {"x86_64": 321, "i686": 357, "armv7l": 386, "ppc64le": 361, "s390x": 351}
_SYS_BPF_GENERIC = 280

_SYS_SECCOMP = {"x86_64": 317, "i686": 354, "armv7l": 383, "ppc64le": 358, "s390x": 348}
_SYS_SECCOMP_GENERIC = 277
_SECCOMP_SET_MODE_FILTER = 1


def _syscall(number: int, arguments: Sequence[Any], path: str | None = None) -> int:
    """Result of a system call whose arguments are ctypes values of full register width."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result


def is_seccomp_flag_supported(flag: int) -> bool:
    """Whether this kernel knows a SECCOMP_FILTER_FLAG_*. Loads nothing: the filter asked for lies at address 0.

    Source: seccomp(2), "EFAULT" for an unreadable filter, "EINVAL" for unknown flags, in this order of checks.
    """
    import ctypes

    number = _SYS_SECCOMP.get(os.uname().machine, _SYS_SECCOMP_GENERIC)
    arguments = (ctypes.c_ulong(_SECCOMP_SET_MODE_FILTER), ctypes.c_ulong(flag), ctypes.c_void_p(None))
    try:
        _syscall(number, arguments)
    except OSError as exc:
        return exc.errno == errno.EFAULT
    return True


def mount_setattr_refusal() -> int:
    """0 if this kernel has mount_setattr(2), else the errno that stands in its way (ENOSYS, or a filter's).

    Changes nothing: no struct of attributes is given, which is refused (EINVAL) before the mount is looked for.
    Source: Linux kernel fs/namespace.c, SYSCALL_DEFINE5(mount_setattr), since v5.12 (commit 2a1867219c7b).
    """
    import ctypes

    arguments = (ctypes.c_long(-1), ctypes.c_char_p(b""), ctypes.c_long(0), ctypes.c_void_p(None), ctypes.c_size_t(0))
    try:
        _syscall(_SYS_MOUNT_SETATTR, arguments)
    except OSError as exc:
        return 0 if exc.errno == errno.EINVAL else exc.errno or errno.EIO
    return 0


def openat2(dir_fd: int, path: str, flags: int, mode: int, resolve: int) -> int:
    """Open ``path`` relative to ``dir_fd`` under the RESOLVE_* restrictions; the descriptor is the caller's.

    Raises: OSError (ENOSYS before v5.6, EXDEV or ELOOP for a path that leaves, EAGAIN when renames race with ..).
    """
    import ctypes

    how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, mode, resolve)
    arguments = (
        ctypes.c_long(dir_fd),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    return _syscall(_SYS_OPENAT2, arguments, path)


def syncfs(fd: int) -> None:
    """Bring everything of the file system that holds ``fd`` to its disk; blocks. Raises: OSError (EIO, ENOSPC)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(ctypes.c_int(fd)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _bpf(command: int, attributes: bytes) -> tuple[int, bytes]:
    """Result and attributes after a bpf(2) call; the attributes may hold addresses of live ctypes buffers."""
    import ctypes

    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    number = _SYS_BPF.get(os.uname().machine, _SYS_BPF_GENERIC)
    arguments = (ctypes.c_long(command), ctypes.byref(buffer), ctypes.c_size_t(len(attributes)))
    return _syscall(number, arguments, "bpf"), buffer.raw


def load_device_program(program: bytes) -> int:
    """Load eBPF instructions as a cgroup device filter; the descriptor is the caller's.

    Raises: OSError; the verifier's words are in ``strerror`` of an EINVAL or EACCES.
    """
    import ctypes
    import struct

    insns = ctypes.create_string_buffer(program, len(program))
    text = ctypes.create_string_buffer(b"Apache-2.0")
    head = (_PROG_TYPE_CGROUP_DEVICE, len(program) // 8, ctypes.addressof(insns), ctypes.addressof(text))
    try:
        return _bpf(_BPF_PROG_LOAD, struct.pack("=IIQQIIQII16s", *head, 0, 0, 0, 0, 0, b"corral_devices"))[0]
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.EACCES):
            raise
        log = ctypes.create_string_buffer(_LOG_BYTES)
        where = (1, _LOG_BYTES, ctypes.addressof(log))
        try:
            return _bpf(_BPF_PROG_LOAD, struct.pack("=IIQQIIQII16s", *head, *where, 0, 0, b"corral_devices"))[0]
        except OSError as again:
            verdict = log.value.decode("utf-8", "replace").strip()
            raise OSError(again.errno, f"{again.strerror}: {verdict}" if verdict else again.strerror, "bpf") from exc


def attach_device_program(cgroup_fd: int, program_fd: int, *, replace_fd: int = -1) -> None:
    """Let a loaded program decide about devices in a cgroup, beside those attached, or in place of ``replace_fd``."""
    import struct

    flags = BPF_F_ALLOW_MULTI | (BPF_F_REPLACE if replace_fd >= 0 else 0)
    words = (cgroup_fd, program_fd, _ATTACH_CGROUP_DEVICE, flags, max(replace_fd, 0))
    _bpf(_BPF_PROG_ATTACH, struct.pack("=IIIII", *words))


def detach_device_program(cgroup_fd: int, program_fd: int) -> None:
    """Take an attached program off a cgroup."""
    import struct

    _bpf(_BPF_PROG_DETACH, struct.pack("=IIII", cgroup_fd, program_fd, _ATTACH_CGROUP_DEVICE, 0))


def query_device_programs(cgroup_fd: int) -> list[int]:
    """Ids of the device programs attached to this very cgroup, in order. Raises: OSError (ENOSPC beyond 64)."""
    import ctypes
    import struct

    ids = (ctypes.c_uint32 * _MAX_PROGRAMS)()
    attributes = struct.pack(
        "=IIIIQII", cgroup_fd, _ATTACH_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), _MAX_PROGRAMS, 0
    )
    after = _bpf(_BPF_PROG_QUERY, attributes)[1]
    count: int = struct.unpack_from("=I", after, 24)[0]
    return [int(number) for number in ids[:count]]


def open_bpf_program(program_id: int) -> int:
    """A descriptor, owned by the caller, of a loaded program by its id."""
    import struct

    return _bpf(_BPF_PROG_GET_FD_BY_ID, struct.pack("=III", program_id, 0, 0))[0]
