"""Classic BPF as seccomp(2) takes it: a structural check, and a prologue that answers ENOSYS to newer syscalls.

An instruction is a struct sock_filter: code (u16), jump if true, jump if false (u8 each), k (u32), in host order.

Source: Linux Documentation/userspace-api/seccomp_filter.rst, Documentation/networking/filter.rst.
"""

from __future__ import annotations

import _struct as struct
import errno
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

INSN_SIZE = 8
# The kernel's BPF_MAXINSNS.
MAX_INSNS = 4096

AUDIT_ARCH_X86_64 = 0xC000003E
AUDIT_ARCH_ARM = 0x40000028
AUDIT_ARCH_S390 = 0x00000016
AUDIT_ARCH_S390X = 0x80000016
# libseccomp's own token: the kernel tells x32 from x86-64 by a bit of the syscall's number only.
TOKEN_X32 = 0x4000003E
X32_BIT = 0x40000000
# ARM's private syscalls (set_tls, cacheflush ...) sit far above all others.
_ARM_PRIVATE = 0x0F0000

_LD_ABS = 0x20
_JA = 0x05
_JEQ = 0x15
_JGT = 0x25
_JGE = 0x35
_JSET = 0x45
_RET = 0x06
_RET_A = 0x16
_CONDITIONAL = frozenset((_JEQ, _JGT, _JGE, _JSET, _JEQ | 8, _JGT | 8, _JGE | 8, _JSET | 8))
_RETURNS = frozenset((_RET, _RET_A))
# Loads of constants and scratch memory, stores, arithmetic on constants and X, and the two register moves.
_PLAIN = frozenset(
    (
        *(0x00, 0x01, 0x60, 0x61, 0x02, 0x03, 0x07, 0x87, 0x80, 0x81, 0x84),
        *(base | source for base in (0x04, 0x14, 0x24, 0x34, 0x44, 0x54, 0x64, 0x74, 0xA4) for source in (0, 8)),
    )
)

_KNOWN = _CONDITIONAL | _RETURNS | _PLAIN | {_LD_ABS, _JA}
_K = struct.Struct("=I")

# Offsets into struct seccomp_data, whose size is 64.
_NR = 0
_ARCH = 4
_DATA_SIZE = 64

_RET_ERRNO = 0x00050000


def insn(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    """One instruction."""
    return struct.pack("=HBBI", code, jump_true, jump_false, k)


def structure_problem(program: bytes) -> str:
    """Why ``program`` is no sound filter, or an empty string.

    Sound: whole instructions, at most 4096, known opcodes, aligned loads within seccomp_data, every jump forward
    within the program, a return at the end. The kernel checks the same again when it loads it.
    """
    count, rest = divmod(len(program), INSN_SIZE)
    if rest or not 0 < count <= MAX_INSNS:
        return f"{len(program)} bytes are not 1 to {MAX_INSNS} whole instructions"
    # Column by column rather than instruction by instruction: a cached filter of a thousand is checked at each start.
    low, high = (program[0::8], program[1::8]) if sys.byteorder == "little" else (program[1::8], program[0::8])
    if not _KNOWN.issuperset(low) or any(high):
        at = next(at for at in range(count) if high[at] or low[at] not in _KNOWN)
        return f"instruction {at} has opcode {high[at] << 8 | low[at]:#x}"
    for at in _positions(low, _LD_ABS):
        (k,) = _K.unpack_from(program, at * INSN_SIZE + 4)
        if k & 3 or k >= _DATA_SIZE:
            return f"instruction {at} loads from offset {k}"
    for at in _positions(low, _JA):
        if _K.unpack_from(program, at * INSN_SIZE + 4)[0] >= count - at - 1:
            return f"instruction {at} jumps out of the program"
    # A conditional jump is at most 255 long, so only the last ones can lead out.
    for at in range(max(0, count - 256), count):
        if low[at] in _CONDITIONAL and max(program[at * 8 + 2], program[at * 8 + 3]) >= count - at - 1:
            return f"instruction {at} jumps out of the program"
    return "" if low[-1] in _RETURNS else "the last instruction does not return"


def _positions(opcodes: bytes, opcode: int) -> Iterator[int]:
    at = opcodes.find(opcode)
    while at >= 0:
        yield at
        at = opcodes.find(opcode, at + 1)


def _refuse_above(limit: int) -> list[bytes]:
    """ENOSYS for a number (in the accumulator) above ``limit``; else go on behind."""
    return [insn(_JGT, limit, 0, 1), insn(_RET, _RET_ERRNO | errno.ENOSYS)]


def _section(arch: int, limits: dict[int, int]) -> list[bytes]:
    """Instructions for one architecture of the kernel; each place to leave for the filter is an empty item."""
    leave = b""
    body = [insn(_LD_ABS, _NR)]
    if arch == AUDIT_ARCH_X86_64:
        ordinary = _refuse_above(limits[arch]) if arch in limits else []
        x32 = _refuse_above(limits[TOKEN_X32]) if TOKEN_X32 in limits else []
        # Without x32 in the profile, libseccomp's filter kills x32 calls as a foreign architecture: leave it to that.
        return [*body, insn(_JSET, X32_BIT, len(ordinary) + 1, 0), *ordinary, leave, *x32, leave]
    if arch in (AUDIT_ARCH_S390, AUDIT_ARCH_S390X):
        # Number 0 carries syscalls with large numbers there, and stays 0 if the kernel knows no such call.
        body += [insn(_JEQ, 0, 0, 1), insn(_RET, _RET_ERRNO | errno.ENOSYS)]
    elif arch == AUDIT_ARCH_ARM:
        body.append(insn(_JGE, _ARM_PRIVATE, 2, 0))
    return [*body, *_refuse_above(limits[arch]), leave]


def compile_enosys_prologue(limits: Sequence[tuple[int, int]]) -> bytes:
    """Instructions to put before a filter: a syscall number above its architecture's limit gets ENOSYS.

    ``limits``: (libseccomp's architecture token, largest number that the profile names). A C library that tries a new
    syscall first falls back on ENOSYS, but not on the EPERM that most profiles answer by default. A number that the
    profile names, or an architecture not listed, goes to the filter behind.
    """
    sections: dict[int, dict[int, int]] = {}
    for token, limit in limits:
        if token == AUDIT_ARCH_ARM and limit >= _ARM_PRIVATE:
            raise ValueError("a private syscall of ARM is no limit")
        arch = AUDIT_ARCH_X86_64 if token == TOKEN_X32 else token
        sections.setdefault(arch, {})[token] = limit
    if not sections:
        return b""
    program = [insn(_LD_ABS, _ARCH)]
    for arch, known in sections.items():
        section = _section(arch, known)
        program += [insn(_JEQ, arch, 0, len(section)), *section]
    # Only now is the way to the end known. An unconditional jump reaches any distance.
    return b"".join(item or insn(_JA, len(program) - 1 - at) for at, item in enumerate(program))


def is_countable(token: int, number: int) -> bool:
    """Whether a syscall's ``number`` may raise its architecture's limit: negative ones and ARM's private ones may not.

    libseccomp gives negative numbers to syscalls that an architecture lacks.
    """
    return number >= 0 and not (token == AUDIT_ARCH_ARM and number >= _ARM_PRIVATE)
