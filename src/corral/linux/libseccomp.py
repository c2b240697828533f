"""The system's libseccomp.so.2 through ctypes, as far as compiling a filter needs it (2.5 and later).

ctypes is imported when a library is opened, and the file is found without it, so that a cached program costs neither.

Source: seccomp.h, seccomp_rule_add(3), seccomp_export_bpf(3).
"""

from __future__ import annotations

import posix
import sys

from corral.errors import Unsupported
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Self

_SONAME = "libseccomp.so.2"
_ATTR_OPTIMIZE = 8
_NR_ERROR = -1


def library_path() -> str:
    """The file that will be loaded: the first in the system's own directories. Empty if there is none."""
    triplet = getattr(sys.implementation, "_multiarch", "")
    names = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
    for directory in (f"/lib/{triplet}", f"/usr/lib/{triplet}", *names) if triplet else names:
        path = f"{directory}/{_SONAME}"
        if paths.exists(path):
            return path
    return ""


def library_identity(path: str) -> str:
    """What changes when the library does: real path (with the version in it), size and time of its file."""
    info = posix.stat(path)
    return f"{paths.realpath(path)} {info.st_size} {info.st_mtime_ns}"


class Library:
    """The loaded library."""

    __slots__ = ("_ctypes", "_lib", "version")

    def __init__(self, path: str = "") -> None:
        """Raises: Unsupported when there is no libseccomp."""
        import ctypes

        try:
            lib = ctypes.CDLL(path or library_path() or _SONAME, use_errno=True)
        except OSError as exc:
            raise Unsupported(
                f"load {_SONAME}: {exc}", hint="install the package libseccomp2 (libseccomp on Fedora)", phase="seccomp"
            ) from exc
        u32, pointer, integer = ctypes.c_uint32, ctypes.c_void_p, ctypes.c_int
        lib.seccomp_version.restype = ctypes.POINTER(ctypes.c_uint * 3)
        lib.seccomp_arch_native.restype = lib.seccomp_arch_resolve_name.restype = u32
        lib.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
        lib.seccomp_init.argtypes, lib.seccomp_init.restype = [u32], pointer
        lib.seccomp_release.argtypes, lib.seccomp_release.restype = [pointer], None
        lib.seccomp_arch_add.argtypes = [pointer, u32]
        lib.seccomp_attr_set.argtypes = [pointer, integer, u32]
        lib.seccomp_syscall_resolve_name_arch.argtypes = [u32, ctypes.c_char_p]
        lib.seccomp_rule_add_array.argtypes = [pointer, u32, integer, ctypes.c_uint, pointer]
        lib.seccomp_export_bpf.argtypes = [pointer, integer]
        self._ctypes: Any = ctypes
        self._lib: Any = lib
        self.version: tuple[int, int, int] = tuple(lib.seccomp_version().contents)

    def native_architecture(self) -> int:
        """The token of the architecture that the library was built for."""
        return int(self._lib.seccomp_arch_native())

    def architecture_or_none(self, name: str) -> int | None:
        """The token of an architecture by libseccomp's name; None if this version does not know it."""
        return int(self._lib.seccomp_arch_resolve_name(name.encode())) or None

    def syscall_or_none(self, architecture: int, name: str) -> int | None:
        """A syscall's number, negative where the architecture lacks it; None for a name that no architecture has."""
        number = int(self._lib.seccomp_syscall_resolve_name_arch(architecture, name.encode()))
        return None if number == _NR_ERROR else number


class Filter:
    """A filter under construction; a context manager that releases it. Each method raises OSError."""

    __slots__ = ("_context", "_library")

    def __init__(self, library: Library, default_action: int) -> None:
        self._library = library
        self._context = library._lib.seccomp_init(default_action)
        if not self._context:
            raise OSError(22, f"libseccomp refuses default action {default_action:#x}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._library._lib.seccomp_release(self._context)
        self._context = None

    def add_architecture(self, token: int) -> None:
        """Let the filter cover ``token`` too; that it does already is fine."""
        self._check(self._library._lib.seccomp_arch_add(self._context, token), ok=(-17,))

    def use_binary_tree(self) -> None:
        """Look syscalls up by bisection; nothing happens where the library cannot."""
        self._library._lib.seccomp_attr_set(self._context, _ATTR_OPTIMIZE, 2)

    def add_rule(self, action: int, number: int, conditions: Sequence[tuple[int, int, int, int]]) -> None:
        """``action`` for a syscall where all ``conditions`` hold (argument, operator, datum a, datum b).

        Not the exact variant: that refuses any filter for several architectures.
        """
        library = self._library
        ctypes = library._ctypes
        # struct scmp_arg_cmp is two 32-bit and two 64-bit numbers.
        words: list[int] = []
        for argument, operator, first, second in conditions:
            packed = argument | operator << 32 if sys.byteorder == "little" else argument << 32 | operator
            words += (packed, first, second)
        array = (ctypes.c_uint64 * len(words))(*words) if words else None
        self._check(library._lib.seccomp_rule_add_array(self._context, action, number, len(conditions), array))

    def export(self) -> bytes:
        """The classic BPF program."""
        fd = posix.memfd_create("seccomp", posix.MFD_CLOEXEC)
        try:
            self._check(self._library._lib.seccomp_export_bpf(self._context, fd))
            size = posix.fstat(fd).st_size
            return posix.pread(fd, size, 0)
        finally:
            posix.close(fd)

    @staticmethod
    def _check(result: int, ok: tuple[int, ...] = ()) -> None:
        if result < 0 and result not in ok:
            raise OSError(-result, posix.strerror(-result))
