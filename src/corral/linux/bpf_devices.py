"""Device access rules as an eBPF program, for cgroup v2, which has no files for them.

Meaning: the rules apply in order. For each access asked for (read, write, mknod), the *last* rule that covers it
decides, and all must be allowed; what no rule covers is refused. A rule for all devices and all accesses therefore
resets whatever stood before it, as writing ``a`` to devices.allow or devices.deny does on v1. Unlike v1, a rule may
also cut a hole into a broader one before it (v1 ignores such a line).

Source: runtime-spec config-linux.md#allowed-device-list, Linux Documentation/admin-guide/cgroup-v1/devices.rst,
include/uapi/linux/bpf.h (struct bpf_cgroup_dev_ctx).
"""

from __future__ import annotations

import _struct as struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    # allow, type (a, b or c), major, minor (-1: any), access (letters of rwm)
    DeviceRule = tuple[bool, str, int, int, str]

ANY = -1

_ACCESS = {"m": 1, "r": 2, "w": 4}
_ALL = 7
_TYPES = {"a": 0, "b": 1, "c": 2}
_MAX_NUMBER = 0xFFFFFFFF

_R0, _R1, _TYPE, _PENDING, _MAJOR, _MINOR = range(6)
_LOAD_WORD = 0x61
_MOV32, _AND32, _RSH32 = 0xB4, 0x54, 0x74
_MOV32_REG = 0xBC
_JNE32, _JSET32 = 0x56, 0x46
_JA = 0x05
_EXIT = 0x95
_INSN = struct.Struct("=BBhi")


def _insn(code: int, target: int = 0, imm: int = 0, *, source: int = 0, offset: int = 0) -> bytes:
    # The field is signed, the values compared are not.
    signed = imm - (1 << 32) if imm > 0x7FFFFFFF else imm
    # Two register numbers share a byte, the low half being the first of the pair in memory order.
    registers = target | source << 4 if struct.pack("=H", 1)[0] else target << 4 | source
    return _INSN.pack(code, registers, offset, signed)


def _answer(value: int) -> list[bytes]:
    return [_insn(_MOV32, _R0, value), _insn(_EXIT)]


def access_mask(access: str) -> int:
    """Bits of the kernel (1 mknod, 2 read, 4 write) for letters of ``rwm``. Raises: ValueError for other letters."""
    mask = 0
    for letter in access:
        if letter not in _ACCESS:
            raise ValueError(f"device access {access!r} has letters other than rwm")
        mask |= _ACCESS[letter]
    return mask


def _check(rule: DeviceRule) -> tuple[bool, int, int, int, int]:
    allow, kind, major, minor, access = rule
    if kind not in _TYPES:
        raise ValueError(f"device type {kind!r} is none of a, b, c")
    for number in (major, minor):
        if not ANY <= number <= _MAX_NUMBER:
            raise ValueError(f"device number {number} is not -1 to {_MAX_NUMBER}")
    return allow, _TYPES[kind], major, minor, access_mask(access)


def _verdict(allow: bool, mask: int) -> list[bytes]:
    """What a matching rule does with the accesses that no later rule has decided."""
    if not allow:
        return [_insn(_JSET32, _PENDING, mask, offset=1), _insn(_JA, offset=2), *_answer(0)]
    if mask == _ALL:
        return _answer(1)
    return [_insn(_AND32, _PENDING, _ALL & ~mask), _insn(_JNE32, _PENDING, 0, offset=2), *_answer(1)]


def assemble_device_program(rules: Iterable[DeviceRule]) -> bytes:
    """The instructions (8 bytes each) of a BPF_PROG_TYPE_CGROUP_DEVICE program for ordered ``rules``.

    Pure; the same rules give the same bytes. Raises: ValueError for a type, number or access that cannot be.
    """
    program = [
        _insn(_LOAD_WORD, _TYPE, source=_R1, offset=0),
        _insn(_LOAD_WORD, _MAJOR, source=_R1, offset=4),
        _insn(_LOAD_WORD, _MINOR, source=_R1, offset=8),
        # The first word is access << 16 | type.
        _insn(_MOV32_REG, _PENDING, source=_TYPE),
        _insn(_RSH32, _PENDING, 16),
        _insn(_AND32, _TYPE, 0xFFFF),
    ]
    for allow, kind, major, minor, mask in reversed([_check(rule) for rule in rules]):
        if not mask:
            continue
        if kind == 0 and major == minor == ANY and mask == _ALL:
            # Earlier rules no longer count, and the verifier would refuse code that cannot be reached.
            return b"".join([*program, *_answer(int(allow))])
        verdict = _verdict(allow, mask)
        tests = [(_TYPE, kind)] if kind else []
        tests += [(register, number) for register, number in ((_MAJOR, major), (_MINOR, minor)) if number != ANY]
        for index, (register, number) in enumerate(tests):
            skipped = len(tests) - index - 1 + len(verdict)
            program.append(_insn(_JNE32, register, number, offset=skipped))
        program += verdict
    return b"".join([*program, *_answer(0)])


def replace_device_program(cgroup_fd: int, program: bytes) -> None:
    """Make ``program`` the only device filter of the cgroup. Meanwhile access is never wider than before or after.

    Imports ctypes. Raises: OSError.
    """
    import os

    from corral.linux import syscalls

    old: list[int] = []
    new = syscalls.load_device_program(program)
    try:
        for number in syscalls.query_device_programs(cgroup_fd):
            old.append(syscalls.open_bpf_program(number))  # noqa: PERF401 - those opened must be closed if one refuses
        if len(old) == 1:
            syscalls.attach_device_program(cgroup_fd, new, replace_fd=old[0])
            return
        syscalls.attach_device_program(cgroup_fd, new)
        for fd in old:
            syscalls.detach_device_program(cgroup_fd, fd)
    finally:
        for fd in (new, *old):
            os.close(fd)
