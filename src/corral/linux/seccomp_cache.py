"""Compiled seccomp programs kept on disk. A file there is evidence, never authority: anything odd about it, and it
counts as absent.

A file holds: magic, key, sha256 of the body, body (length of the warnings, warnings, program). It must be a regular
file of ours that nobody else may write, in a directory of ours that nobody else may write.
"""

from __future__ import annotations

import _struct as struct
import posix
import sys

from corral.linux import paths
from corral.linux.bpf_classic import INSN_SIZE, MAX_INSNS, structure_problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAGIC = b"corral-seccomp-1\n"
_DIGEST = 32
_HEADER = len(_MAGIC) + 2 * _DIGEST
_MAX_WARNINGS = 65536
_MAX_FILE = _HEADER + 4 + _MAX_WARNINGS + MAX_INSNS * INSN_SIZE
_FOREIGN_WRITE = 0o022

# What files held when they were last looked through, by key: a file that still holds the same needs no second look.
_seen: dict[bytes, tuple[bytes, tuple[bytes, tuple[str, ...]]]] = {}
_SEEN_MAX = 8


def sha256(data: bytes) -> bytes:
    """The digest, from the small C module: hashlib would load OpenSSL, which costs more than the cache saves."""
    # By version: a search for a module that is not there is made anew each time.
    module: Any = __import__("_sha2" if sys.version_info >= (3, 12) else "_sha256")
    digest: bytes = module.sha256(data).digest()
    return digest


def _is_ours(info: posix.stat_result, kind: int) -> bool:
    return info.st_mode & 0o170000 == kind and info.st_uid == posix.geteuid() and not info.st_mode & _FOREIGN_WRITE


def _open_directory(path: str) -> int:
    """A descriptor, or -1 if it cannot be had or trusted."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except OSError:
        return -1
    if _is_ours(posix.fstat(fd), 0o040000):
        return fd
    posix.close(fd)
    return -1


def _read_file(directory: int, name: str) -> bytes:
    """The content of a trustworthy file, empty for any other. Never blocks: a FIFO is not a regular file."""
    try:
        flags = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
        fd = posix.open(name, flags, dir_fd=directory)
    except OSError:
        return b""
    try:
        info = posix.fstat(fd)
        if not _is_ours(info, 0o100000) or not _HEADER < info.st_size <= _MAX_FILE:
            return b""
        return posix.read(fd, _MAX_FILE + 1)
    except OSError:
        return b""
    finally:
        posix.close(fd)


def _decode(data: bytes, key: bytes) -> tuple[bytes, tuple[str, ...]] | None:
    body = data[_HEADER:]
    if data[:_HEADER] != _MAGIC + key + sha256(body) or len(body) < 4:
        return None
    (size,) = struct.unpack_from("=I", body)
    if size > len(body) - 4:
        return None
    program = body[4 + size :]
    if structure_problem(program):
        return None
    text = body[4 : 4 + size].decode("utf-8", "replace")
    return program, tuple(text.split("\n")) if text else ()


def load(directory: str, key: bytes) -> tuple[bytes, tuple[str, ...]] | None:
    """The program and the warnings stored under ``key`` (32 bytes), or None unless all about them is in order."""
    fd = _open_directory(directory)
    if fd < 0:
        return None
    try:
        data = _read_file(fd, key.hex())
    finally:
        posix.close(fd)
    if not data:
        return None
    seen = _seen.get(key)
    if seen is not None and seen[0] == data:
        return seen[1]
    found = _decode(data, key)
    if found is not None:
        if len(_seen) >= _SEEN_MAX:
            _seen.clear()
        _seen[key] = (data, found)
    return found


def store(directory: str, key: bytes, program: bytes, warnings: tuple[str, ...]) -> str:
    """Put a program in place of whatever is stored under ``key``, whole or not at all. Makes ``directory``.

    Returns an empty string, or why it was not stored: a cache that cannot be written is no error.
    """
    text = "\n".join(warnings).encode()
    if len(text) > _MAX_WARNINGS:
        return "too many warnings"
    body = struct.pack("=I", len(text)) + text + program
    temporary = f".{key.hex()}.{posix.getpid()}"
    try:
        paths.make_directories(directory, 0o700)
        fd = _open_directory(directory)
        if fd < 0:
            return f"{directory} is not a directory that only we may write"
    except OSError as exc:
        return str(exc)
    try:
        _write_file(fd, temporary, _MAGIC + key + sha256(body) + body)
        posix.rename(temporary, key.hex(), src_dir_fd=fd, dst_dir_fd=fd)
    except OSError as exc:
        try:
            posix.unlink(temporary, dir_fd=fd)
        except OSError:
            pass
        return str(exc)
    finally:
        posix.close(fd)
    return ""


def _write_file(directory: int, name: str, data: bytes) -> None:
    try:
        posix.unlink(name, dir_fd=directory)  # of a process that had our pid and died
    except FileNotFoundError:
        pass
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    fd = posix.open(name, flags, 0o600, dir_fd=directory)
    try:
        while data:
            data = data[posix.write(fd, data) :]
    finally:
        posix.close(fd)
