"""Compiled filters answer as the profile says, in a model and in the kernel; the cache is believed only when sound."""

from __future__ import annotations

import errno
import os
import platform
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.errors import InvalidArgument, Unsupported
from corral.linux import libseccomp, seccomp, seccomp_cache
from corral.linux.bpf_classic import insn, structure_problem
from unit.linux.filter_machine import AUDIT_I386, run_filter

pytestmark = [
    pytest.mark.skipif(not libseccomp.library_path(), reason="libseccomp.so.2 is not installed"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the tables of these tests are x86-64's"),
]

ALLOW, EPERM, NOSYS, LOG = 0x7FFF0000, 0x50001, 0x50000 | errno.ENOSYS, 0x7FFC0000
READ, WRITE, MKDIR, GETPPID, CLONE, OPENAT2 = 0, 1, 83, 110, 56, 437


def profile(*entries: dict[str, Any], default: str = "SCMP_ACT_ERRNO", **more: Any) -> dict[str, Any]:
    """A profile with these entries."""
    return {"defaultAction": default, "syscalls": list(entries), **more}


def allow(*names: str, **more: Any) -> dict[str, Any]:
    """An entry that allows ``names``."""
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **more}


def condition(index: int, op: str, value: int, value_two: int = 0) -> dict[str, Any]:
    """One of an entry's args."""
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": value_two}


def compile_bpf(config: dict[str, Any]) -> bytes:
    """The program, without a cache."""
    return seccomp.compile_profile(config, cache_dir=None).bpf


BIG = (1 << 63) + 5
OPERATORS = [
    ("EQ", BIG, 0, BIG, BIG + (1 << 32)),
    ("NE", BIG, 0, BIG + (1 << 32), BIG),
    ("LT", BIG, 0, BIG - 1, BIG),
    ("LE", BIG, 0, BIG, BIG + 1),
    ("GE", BIG, 0, BIG, BIG - 1),
    ("GT", BIG, 0, BIG + 1, BIG),
    ("MASKED_EQ", 0xFF00000000F0, 0x30, 0x0030 | 0xF, 0xFF0000000030),
]


@pytest.mark.parametrize(("op", "value", "two", "match", "other"), OPERATORS, ids=[o[0] for o in OPERATORS])
def test_condition_decides_over_64_bits_when_compared(op: str, value: int, two: int, match: int, other: int) -> None:
    """Each operator, with operands that differ only where 32 bits would not show it."""
    bpf = compile_bpf(profile(allow("mkdir", args=[condition(3, op, value, two)])))
    assert ALLOW == run_filter(bpf, MKDIR, (0, 0, 0, match))
    assert EPERM == run_filter(bpf, MKDIR, (0, 0, 0, other))


def test_all_conditions_must_hold_when_on_different_arguments() -> None:
    """Conditions of one entry are joined by AND."""
    bpf = compile_bpf(profile(allow("mkdir", args=[condition(0, "EQ", 1), condition(1, "EQ", 2)])))
    assert [ALLOW, EPERM, EPERM] == [run_filter(bpf, MKDIR, args) for args in ((1, 2), (1, 3), (0, 2))]


def test_any_condition_suffices_when_on_the_same_argument() -> None:
    """Two conditions on one argument are alternatives, and so are all others of that entry."""
    bpf = compile_bpf(
        profile(allow("mkdir", args=[condition(0, "EQ", 1), condition(0, "EQ", 2), condition(1, "EQ", 9)]))
    )
    cases = ((1, 0), (2, 0), (5, 9), (5, 0))
    assert [ALLOW, ALLOW, ALLOW, EPERM] == [run_filter(bpf, MKDIR, args) for args in cases]


@pytest.mark.parametrize(
    ("action", "errno_ret", "expected"),
    [
        ("SCMP_ACT_ERRNO", None, 0x50001),
        ("SCMP_ACT_ERRNO", 13, 0x5000D),
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x80000000),
        ("SCMP_ACT_TRAP", None, 0x30000),
        ("SCMP_ACT_TRACE", 5, 0x7FF00005),
        ("SCMP_ACT_LOG", None, LOG),
        ("SCMP_ACT_NOTIFY", None, 0x7FC00000),
    ],
)
def test_action_is_returned_when_rule_matches(action: str, errno_ret: int | None, expected: int) -> None:
    """Every action of the spec arrives in the program."""
    rule = {"names": ["mkdir"], "action": action} | ({} if errno_ret is None else {"errnoRet": errno_ret})
    program = seccomp.compile_profile(profile(rule, default="SCMP_ACT_ALLOW"), cache_dir=None)
    assert (expected, ALLOW) == (run_filter(program.bpf, MKDIR), run_filter(program.bpf, READ))
    assert (action == "SCMP_ACT_NOTIFY", action == "SCMP_ACT_NOTIFY") == (program.has_notify, bool(program.flags & 8))


@pytest.mark.parametrize(
    ("default", "more", "expected"),
    [
        ("SCMP_ACT_ERRNO", {}, NOSYS),
        ("SCMP_ACT_ERRNO", {"defaultErrnoRet": errno.ENOSYS}, NOSYS),
        ("SCMP_ACT_KILL_PROCESS", {}, NOSYS),
        ("SCMP_ACT_TRAP", {}, NOSYS),
        ("SCMP_ACT_LOG", {}, LOG),
        ("SCMP_ACT_ALLOW", {}, ALLOW),
        ("SCMP_ACT_TRACE", {}, 0x7FF00001),
    ],
)
def test_newer_syscall_gets_enosys_when_default_refuses(default: str, more: dict[str, Any], expected: int) -> None:
    """Above the largest number named: ENOSYS, unless the default lets calls through (a tracer answers for itself)."""
    bpf = compile_bpf(profile(allow("read", "openat2"), default=default, **more))
    assert expected == run_filter(bpf, OPENAT2 + 1)
    assert NOSYS != run_filter(bpf, MKDIR) or errno.ENOSYS in more.values()


def test_skipped_rules_raise_the_limit_when_equal_to_the_default() -> None:
    """A syscall that the profile refuses by name is known to it."""
    rule = {"names": ["openat2"], "action": "SCMP_ACT_ERRNO"}
    bpf = compile_bpf(profile(allow("read"), rule))
    assert [ALLOW, EPERM, EPERM, NOSYS] == [run_filter(bpf, number) for number in (READ, MKDIR, OPENAT2, OPENAT2 + 1)]


def test_each_architecture_has_its_table_when_listed() -> None:
    """i386 has its own numbers; an architecture that is not listed is killed."""
    config = profile(allow("read", "mkdir"), architectures=["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"])
    bpf = compile_bpf(config)
    assert (ALLOW, EPERM, NOSYS) == tuple(run_filter(bpf, number, arch=AUDIT_I386) for number in (39, 5, 40))
    assert 0 == run_filter(compile_bpf(profile(allow("mkdir"))), 39, arch=AUDIT_I386)
    assert 0 == run_filter(bpf, 0x40000000 + 83)


def test_x32_is_covered_when_listed() -> None:
    """x32 calls are x86-64 calls with a bit set, and get the same rules."""
    bpf = compile_bpf(profile(allow("mkdir"), architectures=["SCMP_ARCH_X32"]))
    assert (ALLOW, EPERM, NOSYS) == tuple(run_filter(bpf, 0x40000000 + number) for number in (83, 82, 84))


NAMES = {"read": 0, "write": 1, "mkdir": 83, "getppid": 110, "openat2": 437, "clone": 56, "mount": 165}


@st.composite
def simple_profiles(draw: st.DrawFn) -> dict[str, Any]:
    """One entry per name at most, each with conditions on different arguments."""
    entries = []
    for name in draw(st.lists(st.sampled_from(sorted(NAMES)), unique=True, min_size=1)):
        args = [
            condition(index, draw(st.sampled_from(["EQ", "NE", "LT", "LE", "GE", "GT"])), draw(st.integers(0, 3)) << 31)
            for index in draw(st.lists(st.integers(0, 5), unique=True, max_size=2))
        ]
        entries.append(allow(name, args=args))
    return profile(*entries)


def holds(arg: dict[str, Any], args: tuple[int, ...]) -> bool:
    """Whether one condition holds, in Python."""
    left, right = args[arg["index"]], arg["value"]
    op = arg["op"].removeprefix("SCMP_CMP_")
    table = {"EQ": left == right, "NE": left != right, "LT": left < right, "LE": left <= right}
    return bool({**table, "GE": left >= right, "GT": left > right}[op])


@settings(deadline=None, max_examples=60)
@given(
    config=simple_profiles(),
    number=st.sampled_from([*NAMES.values(), 2, 300, 500]),
    args=st.tuples(*[st.integers(0, 6).map(lambda n: n << 30)] * 6),
)
def test_program_agrees_with_the_profile_for_any_call(
    config: dict[str, Any], number: int, args: tuple[int, ...]
) -> None:
    """The profile read in Python and the compiled program give one answer."""
    expected = NOSYS if number > max(NAMES[entry["names"][0]] for entry in config["syscalls"]) else EPERM
    for entry in config["syscalls"]:
        if NAMES[entry["names"][0]] == number and all(holds(arg, args) for arg in entry["args"]):
            expected = ALLOW
    assert expected == run_filter(compile_bpf(config), number, args)


def test_unknown_syscall_is_skipped_with_a_warning_when_named() -> None:
    """A name that libseccomp does not know is no error, and is told once."""
    program = seccomp.compile_profile(profile(allow("read", "frob", "frob")), cache_dir=None)
    [warning] = program.warnings
    assert warning.startswith("seccomp syscall 'frob' is unknown to libseccomp 2.")
    assert warning.endswith(": skipped")
    assert ALLOW == run_filter(program.bpf, READ)


def test_unknown_syscall_is_refused_when_asked_to() -> None:
    """With fail_unknown the name's place is reported."""
    with pytest.raises(InvalidArgument) as caught:
        seccomp.compile_profile(profile(allow("read", "frob")), cache_dir=None, fail_unknown=True)
    assert "linux.seccomp.syscalls[0].names[1]" == caught.value.pointer
    assert "run.oci.seccomp_fail_unknown_syscall" in caught.value.hint


def test_killable_wait_is_dropped_when_nothing_notifies() -> None:
    """The kernel takes that flag only with a listener."""
    flags = ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_LOG"]
    notify = {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}
    plain = seccomp.compile_profile(profile(allow("read"), flags=flags), cache_dir=None)
    noted = seccomp.compile_profile(profile(notify, default="SCMP_ACT_ALLOW", flags=flags), cache_dir=None)
    assert (2, 1) == (plain.flags, len(plain.warnings))
    assert (2 | 8 | 32, 0) == (noted.flags, len(noted.warnings))


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        (
            profile(architectures=["SCMP_ARCH_S390X"]),
            InvalidArgument,
            "add seccomp architecture SCMP_ARCH_S390X: byte order differs from this host's"
            " (config linux.seccomp.architectures[0])",
        ),
        (
            profile(
                *(
                    {"names": ["read"], "action": a, "args": [condition(0, "EQ", 1)]}
                    for a in ("SCMP_ACT_ALLOW", "SCMP_ACT_KILL")
                )
            ),
            InvalidArgument,
            "add seccomp rule for read: an earlier rule has another action for the same condition"
            " (config linux.seccomp.syscalls[1].names[0])",
        ),
    ],
    ids=["endian", "conflict"],
)
def test_libseccomps_refusal_is_explained_when_profile_cannot_be(
    config: dict[str, Any], kind: type[Exception], message: str
) -> None:
    """What only libseccomp or the kernel can know still comes with words and a place."""
    with pytest.raises(kind) as caught:
        compile_bpf(config)
    assert message == str(caught.value)


def test_program_is_refused_when_larger_than_the_kernel_takes() -> None:
    """The kernel's limit is named, with the size reached."""
    config = profile(*(allow("read", args=[condition(0, "EQ", n << 32 | n)]) for n in range(2000)))
    with pytest.raises(InvalidArgument, match=r"[0-9]+ instructions, the kernel takes 4096") as caught:
        compile_bpf(config)
    assert "linux.seccomp.syscalls" == caught.value.pointer


def test_missing_library_is_unsupported_when_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without libseccomp, the package to install is named."""
    monkeypatch.setattr(libseccomp, "library_path", lambda: "/nowhere/libseccomp.so.2")
    monkeypatch.setattr(libseccomp, "library_identity", lambda _: "none")
    with pytest.raises(Unsupported, match=r"load libseccomp\.so\.2") as caught:
        compile_bpf(profile())
    assert "libseccomp2" in caught.value.hint
    assert seccomp.library_version() is None


def test_version_is_told_when_library_is_there() -> None:
    """At least the version that the design relies on."""
    version = seccomp.library_version()
    assert version is not None
    assert (2, 5, 0) <= version


KERNEL_CHILD = """
import ctypes, os, sys
sys.path[:0] = sys.argv[1:2]
flags, bpf = int(sys.argv[2]), bytes.fromhex(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)
class Prog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
prog = Prog(len(bpf) // 8, bpf)
def call(*args):
    result = libc.syscall(*map(ctypes.c_long, args))
    return -ctypes.get_errno() if result < 0 else 0
assert libc.prctl(38, 1, 0, 0, 0) == 0
listener = libc.syscall(ctypes.c_long(317), ctypes.c_long(1), ctypes.c_long(flags), ctypes.byref(prog))
assert listener >= 0, os.strerror(ctypes.get_errno())
print(call(110), call(83, 0, 0), call(83, 0, 1), call(9999), bool(listener))
"""


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            profile(
                {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
                {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [condition(1, "EQ", 1)]},
                default="SCMP_ACT_ALLOW",
                flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"],
            ),
            f"-95 -{errno.EFAULT} -1 -38 False",
        ),
        (
            profile(
                allow(
                    *(
                        "read",
                        "write",
                        "mmap",
                        "munmap",
                        "brk",
                        "futex",
                        "rt_sigaction",
                        "exit_group",
                        "close",
                        "getppid",
                    ),
                    *(
                        "madvise",
                        "fstat",
                        "newfstatat",
                        "lseek",
                        "openat",
                        "ioctl",
                        "rt_sigprocmask",
                        "mprotect",
                        "mremap",
                    ),
                ),
                allow("mkdir", args=[condition(1, "EQ", 0)]),
                architectures=["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            ),
            f"0 -{errno.EFAULT} -1 -38 False",
        ),
        (
            profile({"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}, default="SCMP_ACT_ALLOW"),
            f"0 -{errno.EFAULT} -{errno.EFAULT} -38 True",
        ),
    ],
    ids=["default-allow", "default-refuse", "notify"],
)
def test_kernel_obeys_the_program_when_loaded(config: dict[str, Any], expected: str) -> None:
    """An unprivileged process loads the filter, and its calls are answered accordingly."""
    program = seccomp.compile_profile(config, cache_dir=None)
    command = [sys.executable, "-ISE", "-c", KERNEL_CHILD, "", str(program.flags), program.bpf.hex()]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (expected, "") == (child.stdout.strip(), child.stderr)


CONFIG = profile(allow("read", "frob"))


def entry_of(cache: Path) -> Path:
    """The one file in the cache."""
    [path] = cache.iterdir()
    return path


def test_program_comes_from_the_cache_when_profile_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time libseccomp is not asked, and program, flags and warnings are the same."""
    cache = tmp_path / "a" / "cache"
    first = seccomp.compile_profile(CONFIG, cache_dir=str(cache))
    assert (0o700, 0o600) == (stat.S_IMODE(cache.stat().st_mode), stat.S_IMODE(entry_of(cache).stat().st_mode))
    monkeypatch.setattr(libseccomp, "Library", lambda *_: pytest.fail("compiled again"))
    # Who listens changes nothing about the program.
    again = seccomp.compile_profile({**CONFIG, "listenerPath": "/x"}, cache_dir=str(cache))
    assert (first.bpf, first.flags, first.warnings) == (again.bpf, again.flags, again.warnings)
    assert 1 == len(again.warnings)


@pytest.mark.parametrize("change", [{"defaultErrnoRet": 2}, {"architectures": ["SCMP_ARCH_X86"]}, {"syscalls": []}])
def test_program_is_compiled_when_profile_differs(tmp_path: Path, change: dict[str, Any]) -> None:
    """All that decides about the program is in the key."""
    seccomp.compile_profile(CONFIG, cache_dir=str(tmp_path))
    seccomp.compile_profile(CONFIG | change, cache_dir=str(tmp_path))
    assert 2 == len(list(tmp_path.iterdir()))


def test_wrong_profile_is_refused_when_cache_is_used(tmp_path: Path) -> None:
    """Nothing is stored for a profile that does not compile."""
    with pytest.raises(InvalidArgument):
        seccomp.compile_profile(profile(allow("read", "frob")), cache_dir=str(tmp_path), fail_unknown=True)
    assert [] == list(tmp_path.iterdir())


def rewrite(path: Path, body: bytes) -> None:
    """A cache file whose digest fits its body."""
    key = bytes.fromhex(path.name)
    path.write_bytes(b"corral-seccomp-1\n" + key + seccomp_cache.sha256(body) + body)


def as_link(path: Path) -> None:
    """The same content, behind a symbolic link."""
    other = path.parent.parent / "elsewhere"
    path.rename(other)
    path.symlink_to(other)


def as_fifo(path: Path) -> None:
    """Something on which a careless open would block."""
    path.unlink()
    os.mkfifo(path)


ALLOW_ALL = insn(6, ALLOW)
TAMPER: dict[str, Any] = {
    "empty": lambda p: p.write_bytes(b""),
    "short": lambda p: p.write_bytes(p.read_bytes()[:60]),
    "bit": lambda p: p.write_bytes(p.read_bytes()[:-1] + b"\x7e"),
    "longer": lambda p: p.write_bytes(p.read_bytes() + ALLOW_ALL),
    "magic": lambda p: p.write_bytes(b"X" + p.read_bytes()[1:]),
    "other-key": lambda p: p.write_bytes(p.read_bytes()[:17] + bytes(32) + p.read_bytes()[49:]),
    "huge": lambda p: p.write_bytes(p.read_bytes() + bytes(200_000)),
    "group-writable": lambda p: p.chmod(0o660),
    "world-writable": lambda p: p.chmod(0o606),
    "link": as_link,
    "fifo": as_fifo,
    "bad-jump": lambda p: rewrite(p, bytes(4) + insn(5, 9) + ALLOW_ALL),
    "no-return": lambda p: rewrite(p, bytes(4) + insn(0x20, 0)),
    "odd-length": lambda p: rewrite(p, bytes(4) + ALLOW_ALL + b"x"),
    "warnings-too-long": lambda p: rewrite(p, b"\xff\xff\xff\xff" + ALLOW_ALL),
    "no-body": lambda p: rewrite(p, b""),
}


@pytest.mark.parametrize("tamper", TAMPER.values(), ids=TAMPER.keys())
def test_cache_entry_is_replaced_when_anything_about_it_is_odd(tmp_path: Path, tamper: Any) -> None:
    """A file that is not exactly as it should be counts as absent, and a sound one takes its place."""
    cache = tmp_path / "cache"
    expected = seccomp.compile_profile(CONFIG, cache_dir=str(cache)).bpf
    path = entry_of(cache)
    good = path.read_bytes()
    tamper(path)
    assert expected == seccomp.compile_profile(CONFIG, cache_dir=str(cache)).bpf
    assert (good, 0o600) == (path.read_bytes(), stat.S_IMODE(path.lstat().st_mode))


def test_sound_but_different_program_is_believed_when_digest_fits(tmp_path: Path) -> None:
    """The cache does work: this is what the checks above protect."""
    seccomp.compile_profile(CONFIG, cache_dir=str(tmp_path))
    rewrite(entry_of(tmp_path), bytes(4) + ALLOW_ALL)
    assert ALLOW_ALL == seccomp.compile_profile(CONFIG, cache_dir=str(tmp_path)).bpf


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_directory_is_not_used_when_others_may_write_it(tmp_path: Path, mode: int) -> None:
    """Neither read nor written, and the log says so."""
    cache = tmp_path / "cache"
    seccomp.compile_profile(CONFIG, cache_dir=str(cache))
    rewrite(entry_of(cache), bytes(4) + ALLOW_ALL)
    cache.chmod(mode)
    lines: list[str] = []
    assert ALLOW_ALL != seccomp.compile_profile(CONFIG, cache_dir=str(cache), log=lines.append).bpf
    assert [f"keep seccomp program: {cache} is not a directory that only we may write"] == lines


def test_directory_is_not_used_when_it_is_a_link(tmp_path: Path) -> None:
    """A link could be turned elsewhere between two looks."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    assert structure_problem(seccomp.compile_profile(CONFIG, cache_dir=str(tmp_path / "link")).bpf) == ""
    assert [] == list((tmp_path / "real").iterdir())


def test_filter_is_compiled_when_directory_cannot_be_made(tmp_path: Path) -> None:
    """A cache that cannot be had costs time, not the container."""
    (tmp_path / "file").touch()
    lines: list[str] = []
    program = seccomp.compile_profile(CONFIG, cache_dir=str(tmp_path / "file" / "cache"), log=lines.append)
    assert ALLOW == run_filter(program.bpf, READ)
    assert 1 == len(lines)


def test_old_temporary_file_is_replaced_when_in_the_way(tmp_path: Path) -> None:
    """What a killed process left behind does not stop the next one with its pid."""
    key = bytes(32)
    tmp_path.chmod(0o700)
    (tmp_path / f".{key.hex()}.{os.getpid()}").write_text("left")
    assert "" == seccomp_cache.store(str(tmp_path), key, ALLOW_ALL, ())
    assert (ALLOW_ALL, ()) == seccomp_cache.load(str(tmp_path), key)
    assert [key.hex()] == os.listdir(tmp_path)


def test_cached_program_costs_no_ctypes_when_it_is_sound(tmp_path: Path) -> None:
    """The cold path loads neither ctypes, nor libseccomp, nor hashlib, nor json."""
    seccomp.compile_profile(CONFIG, cache_dir=str(tmp_path))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from corral.linux import seccomp;"
        "seccomp.compile_profile(eval(sys.argv[2]), cache_dir=sys.argv[3]);"
        "print(sorted({'ctypes', 'hashlib', 'json', 're', 'typing', 'enum'} & set(sys.modules)))"
    )
    source = str(Path(seccomp.__file__).parents[2])
    command = [sys.executable, "-ISE", "-c", code, source, repr(CONFIG), str(tmp_path)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ("[]", "") == (child.stdout.strip(), child.stderr)
