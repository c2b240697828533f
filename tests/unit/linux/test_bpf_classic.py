"""Filters are checked before they are trusted, and newer syscalls are answered with ENOSYS."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.linux.bpf_classic import (
    AUDIT_ARCH_ARM,
    AUDIT_ARCH_S390X,
    AUDIT_ARCH_X86_64,
    TOKEN_X32,
    X32_BIT,
    compile_enosys_prologue,
    insn,
    is_countable,
    structure_problem,
)
from unit.linux.filter_machine import AUDIT_AARCH64, AUDIT_I386, run_filter

ALLOW = 0x7FFF0000
NOSYS = 0x50000 | errno.ENOSYS
RET = insn(6, ALLOW)


def answer(limits: list[tuple[int, int]], arch: int, number: int) -> int:
    """What a filter that allows everything says behind the prologue for ``limits``."""
    program = compile_enosys_prologue(limits) + RET
    assert "" == structure_problem(program)
    return run_filter(program, number, arch=arch)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, ALLOW),
        (300, ALLOW),
        (301, NOSYS),
        (X32_BIT - 1, NOSYS),
        (X32_BIT, ALLOW),
        (X32_BIT + 900, ALLOW),
        (-1, ALLOW),
    ],
)
def test_x32_is_left_to_the_filter_when_only_x86_64_is_listed(number: int, expected: int) -> None:
    """A number with the x32 bit belongs to another architecture, which the filter itself refuses."""
    assert expected == answer([(AUDIT_ARCH_X86_64, 300)], AUDIT_ARCH_X86_64, number)


@pytest.mark.parametrize(
    ("number", "expected"), [(300, ALLOW), (301, NOSYS), (X32_BIT + 512, ALLOW), (X32_BIT + 513, NOSYS)]
)
def test_x32_has_its_own_limit_when_both_are_listed(number: int, expected: int) -> None:
    """The two share an architecture in the kernel, and still have a limit each."""
    limits = [(AUDIT_ARCH_X86_64, 300), (AUDIT_I386, 7), (TOKEN_X32, X32_BIT + 512)]
    assert expected == answer(limits, AUDIT_ARCH_X86_64, number)


def test_x86_64_is_left_to_the_filter_when_only_x32_has_a_limit() -> None:
    """No syscall named for x86-64 means no limit there."""
    limits = [(TOKEN_X32, X32_BIT + 5)]
    assert ALLOW == answer(limits, AUDIT_ARCH_X86_64, 5000)
    assert NOSYS == answer(limits, AUDIT_ARCH_X86_64, X32_BIT + 6)


@pytest.mark.parametrize(
    ("number", "expected"), [(400, ALLOW), (401, NOSYS), (0x0EFFFF, NOSYS), (0x0F0000, ALLOW), (0x0F0005, ALLOW)]
)
def test_private_syscalls_reach_the_filter_when_arch_is_arm(number: int, expected: int) -> None:
    """set_tls and its like have huge numbers, but are not new."""
    assert expected == answer([(AUDIT_ARCH_ARM, 400)], AUDIT_ARCH_ARM, number)


@pytest.mark.parametrize(("number", "expected"), [(0, NOSYS), (1, ALLOW), (400, ALLOW), (401, NOSYS)])
def test_number_zero_is_unknown_when_arch_is_s390x(number: int, expected: int) -> None:
    """There, a call with a large number that the kernel does not know arrives as number 0."""
    assert expected == answer([(AUDIT_ARCH_S390X, 400)], AUDIT_ARCH_S390X, number)


ARCHES = [AUDIT_ARCH_X86_64, AUDIT_I386, AUDIT_AARCH64, AUDIT_ARCH_ARM, AUDIT_ARCH_S390X, 0x80000015, 0x40000028 + 100]


@given(
    limits=st.dictionaries(st.sampled_from([*ARCHES, TOKEN_X32]), st.integers(1, 1000), max_size=8),
    arch=st.sampled_from(ARCHES),
    number=st.integers(1, 1200),
    x32=st.booleans(),
)
def test_only_numbers_above_their_own_limit_get_enosys(
    limits: dict[int, int], arch: int, number: int, x32: bool
) -> None:
    """For every mixture of architectures: ENOSYS above the architecture's limit, the filter's word for all else."""
    given_limits = {arch: limit | (X32_BIT if arch == TOKEN_X32 else 0) for arch, limit in limits.items()}
    token = arch
    if x32 and arch == AUDIT_ARCH_X86_64:
        token, number = TOKEN_X32, number | X32_BIT
    expected = NOSYS if number > given_limits.get(token, 1 << 32) else ALLOW
    assert expected == answer(list(given_limits.items()), arch, number)


def test_prologue_is_empty_when_nothing_is_limited() -> None:
    """No limits, no instructions."""
    assert b"" == compile_enosys_prologue([])


def test_private_limit_is_refused_when_arch_is_arm() -> None:
    """A caller that counts set_tls would switch the prologue off."""
    with pytest.raises(ValueError, match="private syscall"):
        compile_enosys_prologue([(AUDIT_ARCH_ARM, 0x0F0005)])


@pytest.mark.parametrize(
    ("token", "number", "expected"),
    [
        (AUDIT_ARCH_X86_64, 5, True),
        (AUDIT_ARCH_X86_64, -101, False),
        (AUDIT_ARCH_ARM, 0x0F0005, False),
        (AUDIT_ARCH_ARM, 3, True),
    ],
)
def test_number_counts_when_it_is_an_ordinary_syscall(token: int, number: int, expected: bool) -> None:
    """libseccomp's pseudo numbers and ARM's private ones set no limit."""
    assert expected is is_countable(token, number)


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        (RET, ""),
        (insn(0x15, 1, 0, 1) + RET + RET, ""),
        (insn(0x05, 1) + RET + RET, ""),
        (insn(0x16, 0), ""),
        (b"", "0 bytes are not 1 to 4096 whole instructions"),
        (RET[:-1], "7 bytes are not 1 to 4096 whole instructions"),
        (RET * 4097, "32776 bytes are not 1 to 4096 whole instructions"),
        (insn(0x05, 1) + RET, "instruction 0 jumps out of the program"),
        (insn(0x05, 0xFFFFFFFF) + RET, "instruction 0 jumps out of the program"),
        (RET + insn(0x15, 1, 1, 0) + RET, "instruction 1 jumps out of the program"),
        (insn(0x25, 1, 0, 1) + RET, "instruction 0 jumps out of the program"),
        (insn(0x20, 64) + RET, "instruction 0 loads from offset 64"),
        (insn(0x20, 2) + RET, "instruction 0 loads from offset 2"),
        (insn(0x28, 0) + RET, "instruction 0 has opcode 0x28"),
        (RET + insn(0x106, 0) + RET, "instruction 1 has opcode 0x106"),
        (insn(0x15, 1, 255, 255) + RET * 256, ""),
        (insn(0x15, 1, 255, 255) + RET * 255, "instruction 0 jumps out of the program"),
        (RET * 9 + insn(0x05, 0xFFFF) + RET * 400, "instruction 9 jumps out of the program"),
        (insn(0x20, 0), "the last instruction does not return"),
        (RET + insn(0x05, 0), "instruction 1 jumps out of the program"),
    ],
)
def test_problem_is_named_when_program_is_unsound(program: bytes, problem: str) -> None:
    """Each rule of the check has its own words."""
    assert problem == structure_problem(program)


def slow_check(program: bytes) -> bool:
    """The rules again, one instruction after the other."""
    code = list(struct.iter_unpack("=HBBI", program))
    known = {0x00, 0x20, 0x05, 0x06, 0x16, 0x15, 0x1D, 0x54}
    for at, (op, jump_true, jump_false, k) in enumerate(code):
        left = len(code) - at - 1
        if op not in known or (op == 0x20 and (k % 4 or k > 60)) or (op == 0x05 and k >= left):
            return False
        if op in (0x15, 0x1D) and (jump_true >= left or jump_false >= left):
            return False
    return code[-1][0] in (0x06, 0x16)


INSNS = st.builds(
    insn,
    st.sampled_from([0x00, 0x20, 0x05, 0x06, 0x16, 0x15, 0x1D, 0x54, 0x120, 0x28]),
    st.integers(0, 70),
    st.integers(0, 9),
    st.integers(0, 9),
)


@given(st.lists(INSNS, min_size=1, max_size=12), st.integers(0, 300))
def test_check_agrees_with_the_slow_one_for_any_program(program: list[bytes], padding: int) -> None:
    """Reading by columns finds what reading by instructions finds, wherever in a program it stands."""
    whole = b"".join(program) + RET * padding
    assert slow_check(whole) is (structure_problem(whole) == "")


@given(st.binary(max_size=80))
def test_check_never_raises_for_any_bytes(program: bytes) -> None:
    """Whatever stands in a file, the check answers."""
    assert isinstance(structure_problem(program), str)
