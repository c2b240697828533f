"""A machine for classic BPF over struct seccomp_data, slow and plain: what the kernel would answer."""

from __future__ import annotations

import struct

AUDIT_X86_64 = 0xC000003E
AUDIT_I386 = 0x40000003
AUDIT_ARM = 0x40000028
AUDIT_S390X = 0x80000016
AUDIT_AARCH64 = 0xC00000B7


def run_filter(program: bytes, number: int, args: tuple[int, ...] = (), arch: int = AUDIT_X86_64) -> int:
    """The filter's answer (a SECCOMP_RET_ value) for one call."""
    padded = (*args, *(0,) * (6 - len(args)))
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator = at = 0
    while True:
        op, jump_true, jump_false, k = code[at]
        at += 1
        if op == 0x06:
            return int(k)
        if op == 0x20:
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif op == 0x54:
            accumulator &= k
        elif op == 0x05:
            at += k
        elif op in (0x15, 0x25, 0x35, 0x45):
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}
            at += jump_true if holds[op] else jump_false
        else:
            raise AssertionError(f"instruction {op:#x} is not one that libseccomp makes")
