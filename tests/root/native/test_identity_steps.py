"""Who a process becomes and how it is scheduled: each step run, then looked at from a command after it."""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.oci.names import IO_PRIORITY_CLASSES
from corral.runtime.plan import FRONT
from native.driver import Bench

pytestmark = pytest.mark.requires("root", "cc")

ALL = (1 << 41) - 1
CHOWN, KILL, NET_BIND, SYS_ADMIN, SETPCAP = 1 << 0, 1 << 5, 1 << 10, 1 << 21, 1 << 8
NO_SETGROUPS, KEEP_GROUPS, KEEP_CAPS, KEEP_ADMIN, ONLY_CAPS = 1, 2, 4, 8, 16
OOM_CLAMP = 1
RLIMIT_NOFILE = 7


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Steps run in the tests' own namespaces; the command after them may read the folder."""
    tmp_path.chmod(0o755)
    return Bench(tmp_path)


def become(uid: int = 1234, gid: int = 2345, groups: tuple[int, ...] = (), **more: int) -> tuple[Any, ...]:
    """A CREDENTIALS step; ``more``: the five sets, which are empty otherwise, and flags."""
    sets = [more.get(name, 0) for name in ("bounding", "effective", "permitted", "inheritable", "ambient")]
    return ("CREDENTIALS", uid, gid, struct.pack(f"<{len(groups)}I", *groups), *sets, more.get("flags", 0))


def status_of(bench: Bench, *steps: tuple[Any, ...]) -> dict[str, str]:
    """/proc/self/status of a command after the steps, which must succeed."""
    result = bench.run(list(steps), "cat", "/proc/self/status")
    assert result.status == 0, result.err
    pairs = (line.partition(":") for line in result.out.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def held() -> int:
    """What the tests themselves have in their permitted set."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("CapPrm")).split()[1], 16)


# ---- credentials -----------------------------------------------------------------------------------------------------


def test_credentials_set_user_group_and_additional_groups(bench: Bench) -> None:
    """Real, effective, saved and filesystem ids alike; the groups are exactly those given."""
    status = status_of(bench, become(groups=(7, 99999)))
    assert (status["Uid"].split(), status["Gid"].split()) == (["1234"] * 4, ["2345"] * 4)
    assert status["Groups"].split() == ["7", "99999"]


def test_credentials_drop_all_groups_when_none_are_given(bench: Bench) -> None:
    """An empty list is a list."""
    assert status_of(bench, become())["Groups"] == ""


@pytest.mark.parametrize("flag", [NO_SETGROUPS, KEEP_GROUPS])
def test_credentials_leave_the_groups_when_told_to(bench: Bench, flag: int) -> None:
    """Where setgroups is denied, or the caller's groups are to be kept."""
    kept = status_of(bench, become(groups=(7,)), become(groups=(8,), bounding=ALL, flags=flag | KEEP_CAPS, uid=1234))
    assert kept["Groups"] == "7"


def test_credentials_set_every_capability_set(bench: Bench) -> None:
    """Bounding limits, permitted and effective survive the change of user by ambient over the exec."""
    sets = CHOWN | KILL
    status = status_of(
        bench, become(bounding=sets | NET_BIND, effective=sets, permitted=sets, inheritable=CHOWN, ambient=CHOWN)
    )
    found = {name: int(status[name], 16) for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")}
    assert found == {
        "CapBnd": (sets | NET_BIND) & held(),
        "CapPrm": CHOWN,
        "CapEff": CHOWN,
        "CapInh": CHOWN,
        "CapAmb": CHOWN,
    }


def test_root_keeps_what_the_bounding_set_allows(bench: Bench) -> None:
    """uid 0 without capabilities in the config: the exec gives root what bounding leaves, nothing else."""
    status = status_of(bench, become(uid=0, gid=0, bounding=CHOWN, effective=CHOWN, permitted=CHOWN))
    assert (int(status["CapPrm"], 16), int(status["CapBnd"], 16)) == (CHOWN, CHOWN)


def test_ambient_capability_is_left_out_when_it_is_not_inheritable(bench: Bench) -> None:
    """A mistaken config: the process lives with less."""
    assert int(status_of(bench, become(bounding=CHOWN, permitted=CHOWN, ambient=CHOWN))["CapAmb"], 16) == 0


def test_inheritable_capability_is_left_out_when_it_is_not_bounding(bench: Bench) -> None:
    """capset(2) would refuse the whole set."""
    status = status_of(bench, become(bounding=KILL, permitted=CHOWN, inheritable=CHOWN | KILL))
    assert int(status["CapInh"], 16) == KILL


def test_admin_is_kept_until_the_filter_is_loaded_and_then_dropped(bench: Bench) -> None:
    """Without no_new_privs seccomp(2) wants CAP_SYS_ADMIN; the second CREDENTIALS takes it away."""
    if not held() & SYS_ADMIN:
        pytest.skip("the tests lack CAP_SYS_ADMIN")
    admin = status_of(
        bench, become(uid=0, gid=0, bounding=CHOWN | SYS_ADMIN, permitted=CHOWN, flags=KEEP_ADMIN), ALLOW_ALL
    )
    assert admin["Seccomp"] == "2"
    assert admin["NoNewPrivs"] == "0"
    sets = (0, 0, b"", CHOWN, CHOWN, CHOWN, 0, 0, ONLY_CAPS)
    again = status_of(
        bench,
        become(uid=0, gid=0, bounding=CHOWN, permitted=CHOWN, effective=CHOWN, flags=KEEP_ADMIN),
        ALLOW_ALL,
        ("CREDENTIALS", *sets),
    )
    assert int(again["CapEff"], 16) == CHOWN


def test_credentials_are_refused_in_words_when_a_fault_is_injected(bench: Bench) -> None:
    """The run ends at the step, as the user it was."""
    result = bench.run([become()], "true", CORRAL_FAILPOINT="init:CREDENTIALS:errno=1")
    assert (result.status, result.err) == (1, "become uid 1234, gid 2345: operation not permitted")


def test_credentials_name_what_is_refused(bench: Bench) -> None:
    """Whoever has given up CAP_SETUID and CAP_SETGID becomes nobody else."""
    result = bench.run([become(uid=5, gid=5), become(uid=6, gid=5, flags=KEEP_GROUPS)], "true")
    assert result.err == "become uid 6, gid 5: become uid 6: operation not permitted"


# ---- no_new_privs and seccomp ----------------------------------------------------------------------------------------

BPF_RET, RET_ALLOW, RET_ERRNO = 6, 0x7FFF0000, 0x00050000
MKDIR, MKDIRAT = {"x86_64": (83, 258)}.get(os.uname().machine, (34, 34))


def bpf(*instructions: tuple[int, int, int, int]) -> bytes:
    """Classic BPF instructions as bytes."""
    return b"".join(struct.pack("<HBBI", *one) for one in instructions)


ALLOW_ALL = ("SECCOMP", bpf((BPF_RET, 0, 0, RET_ALLOW)), 0, -1)
REFUSE_MKDIR = bpf(
    (0x20, 0, 0, 0),
    (0x15, 1, 0, MKDIR),
    (0x15, 0, 1, MKDIRAT),
    (BPF_RET, 0, 0, RET_ERRNO | 38),
    (BPF_RET, 0, 0, RET_ALLOW),
)


def test_no_new_privs_is_set(bench: Bench) -> None:
    """The flag shows in the process's status."""
    assert status_of(bench, ("NO_NEW_PRIVS", 0))["NoNewPrivs"] == "1"


def test_filter_is_in_force_after_the_exec(bench: Bench) -> None:
    """The refused call gets the filter's errno, all others pass."""
    result = bench.run([("SECCOMP", REFUSE_MKDIR, 0, -1)], "mkdir", str(bench.folder / "x"))
    assert (result.status, "Function not implemented" in result.err) == (1, True)
    assert not (bench.folder / "x").exists()


@pytest.mark.parametrize(("program", "words"), [(b"", "the program has 0 bytes"), (b"1234567", "has 7 bytes")])
def test_filter_is_refused_when_it_is_no_program(bench: Bench, program: bytes, words: str) -> None:
    """A length that is no multiple of an instruction's never reaches the kernel."""
    result = bench.run([("SECCOMP", program, 0, -1)], "true")
    assert (result.status, words in result.err) == (1, True)


def test_filter_is_refused_in_words_when_the_kernel_does_not_take_it(bench: Bench) -> None:
    """A program that does not end in a return."""
    result = bench.run([("SECCOMP", bpf((0x20, 0, 0, 0)), 0, -1)], "true")
    assert result.err == "load the seccomp filter: seccomp(2) with flags 0 and 1 instructions: invalid argument"


def test_listener_lands_in_its_slot_when_asked_for(bench: Bench) -> None:
    """NEW_LISTENER (8): the descriptor stays with us, close-on-exec."""
    step = ("SECCOMP", bpf((BPF_RET, 0, 0, RET_ALLOW)), 8, 67)
    result = bench.run([step], "sh", "-c", "ls -l /proc/$PPID/fd | grep -c seccomp")
    assert result.out.strip() == "1"


def test_label_is_refused_in_words_when_there_is_no_such_module(bench: Bench) -> None:
    """The value and the file are named."""
    result = bench.run([("LSM_LABEL", "apparmor", "exec", "exec corral-none")], "true")
    assert result.status == 1
    assert result.err.startswith("set the apparmor label exec corral-none: ")


# ---- limits and scheduling -------------------------------------------------------------------------------------------


def test_limit_of_init_is_set_by_the_front(bench: Bench, process: subprocess.Popen[bytes]) -> None:
    """Soft and hard, on the other process."""
    result = bench.run(
        [("PRLIMIT", RLIMIT_NOFILE, "RLIMIT_NOFILE", 77, 88)], actor=FRONT, DRIVER_INIT_PID=str(process.pid)
    )
    assert (result.status, result.err) == (0, "")
    lines = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
    assert next(line for line in lines if line.startswith("Max open files")).split()[3:5] == ["77", "88"]


def test_limit_is_refused_in_words_when_soft_is_above_hard(bench: Bench, process: subprocess.Popen[bytes]) -> None:
    """The limit by name, and both values."""
    result = bench.run(
        [("PRLIMIT", RLIMIT_NOFILE, "RLIMIT_NOFILE", 9, 8)], actor=FRONT, DRIVER_INIT_PID=str(process.pid)
    )
    assert result.err == "set the limit RLIMIT_NOFILE: prlimit soft 9, hard 8: invalid argument"


def test_oom_score_is_written_for_init(bench: Bench, process: subprocess.Popen[bytes]) -> None:
    """Up is always allowed."""
    result = bench.run([("OOM_SCORE", 300, 0)], actor=FRONT, DRIVER_INIT_PID=str(process.pid))
    assert (result.status, result.err) == (0, "")
    assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "300\n"


def test_oom_score_is_clamped_when_the_host_does_not_allow_it(bench: Bench) -> None:
    """Lowered as far as may be, with a warning; without the flag it is an error."""
    # Without CAP_SYS_RESOURCE a process may come back to what it inherited, and not below.
    script = (
        "echo 100 > /proc/$$/oom_score_adj; "
        "setpriv --bounding-set=-sys_resource --inh-caps=-all sh -c '"
        "echo 500 > /proc/$$/oom_score_adj; sleep 1000 & echo $!; wait'"
    )
    shell = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert shell.stdout is not None
    pid = int(shell.stdout.readline())
    wrapper = ("setpriv", "--bounding-set=-sys_resource")
    try:
        argv = bench.command([("OOM_SCORE", -500, OOM_CLAMP)], actor=FRONT)
        env = {**os.environ, "DRIVER_INIT_PID": str(pid), "ASAN_OPTIONS": "detect_leaks=0"}
        clamped = subprocess.run([*wrapper, *argv], env=env, capture_output=True, text=True, timeout=20)
        argv = bench.command([("OOM_SCORE", -500, 0)], actor=FRONT)
        refused = subprocess.run([*wrapper, *argv], env=env, capture_output=True, text=True, timeout=20)
        found = int(Path(f"/proc/{pid}/oom_score_adj").read_text())
    finally:
        os.killpg(shell.pid, 9)
        shell.communicate()
    assert clamped.returncode == 0, clamped.stderr
    assert "oom_score_adj -500 was asked for, this host allows no less than" in clamped.stderr
    assert (refused.returncode, "permission denied" in refused.stderr) == (1, True)
    assert -500 < found <= 500


def test_affinity_is_set_to_the_list(bench: Bench) -> None:
    """Ranges and single numbers; the kernel drops processors that are not there."""
    assert status_of(bench, ("CPU_AFFINITY", "0"))["Cpus_allowed_list"] == "0"
    assert status_of(bench, ("CPU_AFFINITY", "0-0,4000-4001"))["Cpus_allowed_list"] == "0"


@pytest.mark.parametrize("text", ["x", "1-", "-1", "3-2", "1,,2", "8192", "99999999999999999999", "1 2"])
def test_affinity_is_refused_when_it_is_no_list(bench: Bench, text: str) -> None:
    """The list is named."""
    result = bench.run([("CPU_AFFINITY", text)], "true")
    assert result.err == f"set the cpu affinity to {text}: the list '{text}': invalid argument"


def test_memory_policy_is_set(bench: Bench) -> None:
    """MPOL_BIND (2) to node 0 shows in numa_maps, where the kernel has it."""
    result = bench.run([("MEMORY_POLICY", 2, "0")], "cat", "/proc/self/numa_maps")
    if "function not implemented" in result.err:
        pytest.skip("this kernel has no memory policies")
    assert (result.status, "bind:0" in result.out) == (0, True)
    assert bench.run([("MEMORY_POLICY", 2, "1023")], "true").err.endswith("invalid argument")


def test_scheduler_is_set(bench: Bench) -> None:
    """SCHED_BATCH (3) with nice 5, as struct sched_attr."""
    attr = struct.pack("<IIQiIQQQ", 48, 3, 0, 5, 0, 0, 0, 0)
    result = bench.run([("SCHEDULER", attr)], "sh", "-c", "chrt -p $$; nice")
    assert "SCHED_BATCH" in result.out
    assert result.out.splitlines()[-1] == "5"
    assert bench.run([("SCHEDULER", b"x" * 8)], "true").err.endswith("struct sched_attr of 8 bytes: invalid argument")


def test_io_priority_is_set(bench: Bench) -> None:
    """The class in the upper bits, the level below."""
    value = IO_PRIORITY_CLASSES["IOPRIO_CLASS_BE"] << 13 | 6
    assert bench.run([("IO_PRIORITY", value)], "ionice").out.strip() == "best-effort: prio 6"


def test_personality_is_set(bench: Bench) -> None:
    """PER_LINUX32 (8) changes what uname says of the machine."""
    machine = os.uname().machine
    result = bench.run([("PERSONALITY", 8)], "uname", "-m")
    assert result.status == 0
    assert (result.out.strip() != machine) == (machine in ("x86_64", "aarch64"))


def test_umask_is_set(bench: Bench) -> None:
    """What is beyond the nine bits is dropped."""
    assert status_of(bench, ("UMASK", 0o027))["Umask"] == "0027"


# ---- program and exec ------------------------------------------------------------------------------------------------


def make_program(path: Path, text: str, mode: int = 0o755) -> Path:
    """A script."""
    path.write_text(text)
    path.chmod(mode)
    return path


def execute(bench: Bench, argv0: str, search: str = "", env: tuple[str, ...] = (), user: int = 0) -> Any:
    """Look a program up as a user, and execute it with one argument."""
    steps = [become(uid=user, gid=user, flags=KEEP_CAPS if user == 0 else 0)]
    return bench.run([*steps, ("FIND_PROGRAM", argv0, search), ("EXEC", [argv0, "x"], list(env), 0)])


def test_program_is_found_along_the_path_and_gets_its_arguments(bench: Bench) -> None:
    """argv[0] is the config's own word; the environment is exactly the given one."""
    folder = bench.folder / "bin"
    folder.mkdir()
    make_program(folder / "tool", '#!/bin/sh\necho "$0 $1 $A"\n')
    result = execute(bench, "tool", f"/nowhere:{folder}", ("A=1",))
    assert result.out == f"{folder}/tool x 1\n"


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody can reach."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_program_is_searched_further_when_the_first_is_not_for_us(bench: Bench, public: Path) -> None:
    """Found but not executable: remembered, and the search goes on; as the user that will execute it."""
    for name in ("one", "two"):
        (public / name).mkdir()
    make_program(public / "one" / "tool", "#!/bin/sh\necho one\n", 0o700)
    make_program(public / "two" / "tool", "#!/bin/sh\necho two\n")
    search = f"{public}/one:{public}/two"
    assert execute(bench, "tool", search, user=1234).out == "two\n"
    (public / "two" / "tool").unlink()
    assert execute(bench, "tool", search, user=1234).err == 'exec tool: "tool": permission denied'


@pytest.mark.parametrize(
    ("argv0", "words"),
    [
        ("no-such-tool", 'exec no-such-tool: "no-such-tool": executable file not found in $PATH'),
        ("/no/such", "exec /no/such: stat /no/such: no such file or directory"),
        ("/etc", "exec /etc: stat /etc: permission denied"),
        ("/etc/passwd", "exec /etc/passwd: stat /etc/passwd: permission denied"),
    ],
)
def test_missing_program_is_named_in_the_words_that_callers_look_for(bench: Bench, argv0: str, words: str) -> None:
    """podman and docker derive their exit codes 126 and 127 from them."""
    assert execute(bench, argv0, "/bin").err.startswith(words)


def test_interpreter_is_named_when_it_is_what_is_missing(bench: Bench) -> None:
    """ENOENT for a file that is there would be a riddle."""
    script = make_program(bench.folder / "script", "#!/no/such/interpreter\n")
    assert f"{script}: its interpreter: no such file or directory" in execute(bench, str(script)).err


def test_home_is_added_when_the_environment_has_none(bench: Bench) -> None:
    """An empty HOME counts as none, and does not stay in front of ours."""
    steps = [("FIND_HOME", 0), ("FIND_PROGRAM", "sh", "/bin")]
    for env, expected in [([], "/root"), (["HOME="], "/root"), (["HOME=/x"], "/x")]:
        result = bench.run([*steps, ("EXEC", ["sh", "-c", "echo $HOME"], env, 0)])
        assert result.out == f"{expected}\n"


def test_descriptors_beyond_the_kept_ones_do_not_reach_the_program(bench: Bench) -> None:
    """0 to 2 and the next n stay, all others are closed at exec."""
    steps = [("PREPARE_FDS", 1), ("FIND_PROGRAM", "sh", "/bin"), ("EXEC", ["sh", "-c", "echo /proc/self/fd/*"], [], 0)]
    driver = " ".join(bench.command(steps))
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    command = ["sh", "-c", f"exec {driver} 3</dev/null 4</dev/null 9</dev/null"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20, check=True)
    numbers = sorted(int(name.rsplit("/", 1)[1]) for name in done.stdout.split())
    # The shell itself opens the directory that it lists, at the lowest free number.
    assert numbers == [0, 1, 2, 3, 4]
