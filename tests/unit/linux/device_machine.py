"""A machine for the eBPF of device programs, slow and plain: what the kernel would answer."""

from __future__ import annotations

import struct

BLOCK, CHAR = 1, 2
MKNOD, READ, WRITE = 1, 2, 4


def run_program(program: bytes, kind: int, major: int, minor: int, access: int) -> bool:
    """Whether the program lets a request pass. Fails on what the verifier would refuse: loops, unset registers."""
    context = struct.pack("=III", access << 16 | kind, major, minor)
    code = [struct.unpack_from("=BBhi", program, at) for at in range(0, len(program), 8)]
    registers: dict[int, int] = {}
    at = 0
    while True:
        op, pair, offset, imm = code[at]
        target, source = pair & 15, pair >> 4
        unsigned = imm & 0xFFFFFFFF
        at += 1
        assert offset >= 0, "a jump back"
        if op == 0x61:
            assert source == 1
            registers[target] = struct.unpack_from("=I", context, offset)[0]
        elif op == 0xB4:
            registers[target] = unsigned
        elif op == 0xBC:
            registers[target] = registers[source]
        elif op == 0x54:
            registers[target] &= unsigned
        elif op == 0x74:
            registers[target] >>= unsigned
        elif op == 0x05:
            at += offset
        elif op == 0x56:
            at += offset if registers[target] != unsigned else 0
        elif op == 0x46:
            at += offset if registers[target] & unsigned else 0
        elif op == 0x95:
            return bool(registers[0])
        else:
            raise AssertionError(f"opcode {op:#x} is not one of ours")
