"""The process of the config: arguments, environment, user, limits and scheduling."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance.harness import Bundle, Runtime, parse_status
from conformance.host import host, lacking
from conformance.runtimes import needs
from conformance.spec import drop_namespace, set_capabilities

STATUS = "cat /proc/self/status"


def test_arguments_arrive_unchanged(runtime: Runtime, bundle: Bundle) -> None:
    """Spaces, quotes, empty and non-ASCII arguments are not touched."""
    words = ["a b", "", "'\"$x`", "grün", "-x"]
    bundle.process["args"] = ["/bin/sh", "-c", 'for a; do echo "<$a>"; done', "sh", *words]
    assert runtime.run(bundle).lines == [f"<{word}>" for word in words]


def test_environment_is_that_of_the_config_only(runtime: Runtime, bundle: Bundle) -> None:
    """No variable of the caller leaks in; HOME is added."""
    bundle.process["env"] = ["PATH=/bin", "A=1", "B=x=y z", "EMPTY="]
    bundle.process["args"] = ["/bin/env"]
    done = runtime.run(bundle, env={"LEAK": "1", "_LEAK_TOO": "1"})
    assert sorted(done.lines) == ["A=1", "B=x=y z", "EMPTY=", "HOME=/root", "PATH=/bin"]


def test_last_of_two_equal_variables_wins(runtime: Runtime, bundle: Bundle) -> None:
    """A name given twice has its last value, as in podman's images."""
    bundle.process["env"] = ["PATH=/bin", "A=1", "A=2"]
    assert runtime.run(bundle, "echo $A").stdout == "2\n"


def test_program_is_found_through_the_path_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    """A bare name is looked for in process.env's PATH, inside the rootfs."""
    (bundle.rootfs / "opt").mkdir()
    os.link(bundle.rootfs / "bin/busybox", bundle.rootfs / "opt/cat")
    bundle.process["env"] = ["PATH=/nowhere:/opt"]
    bundle.process["args"] = ["cat", "/etc/passwd"]
    assert runtime.run(bundle).stdout == (bundle.rootfs / "etc/passwd").read_text()


def test_working_directory(runtime: Runtime, bundle: Bundle) -> None:
    """process.cwd is where the program starts."""
    bundle.process["cwd"] = "/var"
    assert runtime.run(bundle, "pwd; readlink /proc/self/cwd").lines == ["/var", "/var"]


def test_working_directory_is_made_when_missing(runtime: Runtime, bundle: Bundle) -> None:
    """A cwd that the image lacks is made, as Docker's WORKDIR expects."""
    bundle.process["cwd"] = "/srv/new"
    assert runtime.run(bundle, "pwd").stdout == "/srv/new\n"
    assert (bundle.rootfs / "srv/new").is_dir()


def test_relative_program_counts_from_the_working_directory(runtime: Runtime, bundle: Bundle) -> None:
    """A name with a slash is taken from cwd."""
    bundle.process["cwd"] = "/bin"
    bundle.process["args"] = ["./busybox", "echo", "found"]
    assert runtime.run(bundle).stdout == "found\n"


def test_script_with_interpreter_runs(runtime: Runtime, bundle: Bundle) -> None:
    """A file that starts with #! is run by its interpreter."""
    script = bundle.rootfs / "script"
    script.write_text("#!/bin/sh\necho ran $0\n")
    script.chmod(0o755)
    bundle.process["args"] = ["/script"]
    assert runtime.run(bundle).stdout == "ran /script\n"


def test_user_and_group(runtime: Runtime, bundle: Bundle) -> None:
    """All four user ids and all four group ids are those of the config."""
    bundle.process["user"] = {"uid": 1000, "gid": 2000}
    status = parse_status(runtime.run(bundle, STATUS).stdout)
    assert status["Uid"].split() == ["1000"] * 4
    assert status["Gid"].split() == ["2000"] * 4


def test_additional_groups(runtime: Runtime, bundle: Bundle) -> None:
    """additionalGids are the supplementary groups, and there are no others."""
    bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 2000]}
    groups = parse_status(runtime.run(bundle, STATUS).stdout)["Groups"].split()
    assert groups == ["5", "2000"]


def test_groups_of_the_caller_are_dropped(runtime: Runtime, bundle: Bundle) -> None:
    """Without additionalGids, none of the caller's supplementary groups stays."""
    runtime.prefix = ["setpriv", "--groups", "4,24,2000", "--"]
    groups = parse_status(runtime.run(bundle, STATUS).stdout)["Groups"].split()
    assert groups == []


@pytest.mark.parametrize(("value", "expected"), [(0o077, "0077"), (0o027, "0027"), (0, "0000")])
def test_umask(runtime: Runtime, bundle: Bundle, value: int, expected: str) -> None:
    """process.user.umask is the program's umask, also when it is 0."""
    bundle.process["user"]["umask"] = value
    assert parse_status(runtime.run(bundle, STATUS).stdout)["Umask"] == expected


def test_umask_default(runtime: Runtime, bundle: Bundle) -> None:
    """Without one the umask is 0022, whatever the caller had."""
    assert parse_status(runtime.run(bundle, STATUS).stdout)["Umask"] == "0022"


@pytest.mark.parametrize(
    ("uid", "expected"), [(0, "/root"), (1000, "/home/user"), (4242, "/")], ids=["root", "user", "unlisted"]
)
def test_home_comes_from_the_containers_passwd(runtime: Runtime, bundle: Bundle, uid: int, expected: str) -> None:
    """HOME is that of the container's /etc/passwd, and / for a user who is not in it."""
    bundle.process["user"] = {"uid": uid, "gid": uid}
    assert runtime.run(bundle, "echo $HOME").stdout == f"{expected}\n"


def test_home_of_the_config_is_kept(runtime: Runtime, bundle: Bundle) -> None:
    """A HOME in process.env is not replaced."""
    bundle.process["env"].append("HOME=/mine")
    assert runtime.run(bundle, "echo $HOME").stdout == "/mine\n"


HOSTILE = {
    "nul": "\0\0\0",
    "short": "root",
    "colons": ":::::::\n",
    "three": "root:x:0\n",
    "long": "x" * 70000,
    "comments": "#\n\n\n",
    "relative": "root:x:0:0::../../home:\n",
}
MILD = {"empty": "", "overflow": "root:x:99999999999999999999:0::/bad:\n"}


@pytest.mark.parametrize("name", [*MILD, *(pytest.param(n, marks=needs("hostile-passwd")) for n in HOSTILE)])
def test_hostile_passwd_does_no_harm(runtime: Runtime, bundle: Bundle, name: str) -> None:
    """Whatever is in the container's /etc/passwd, the program runs, with HOME=/."""
    (bundle.rootfs / "etc/passwd").write_text({**HOSTILE, **MILD}[name])
    assert runtime.run(bundle, "echo $HOME").stdout == "/\n"


def test_passwd_that_is_a_link_to_the_host_is_not_followed(runtime: Runtime, bundle: Bundle) -> None:
    """The file is looked up in the container's root."""
    host_file = bundle.path / "passwd"
    host_file.write_text("root:x:0:0:root:/from-host:/bin/sh\n")
    (bundle.rootfs / "etc/passwd").unlink()
    (bundle.rootfs / "etc/passwd").symlink_to(host_file)
    assert runtime.run(bundle, "echo $HOME").stdout != "/from-host\n"


LIMITS = {
    "RLIMIT_NOFILE": ("Max open files", 1000, 2000),
    "RLIMIT_NPROC": ("Max processes", 3000, 4000),
    "RLIMIT_CORE": ("Max core file size", 0, 0),
    "RLIMIT_CPU": ("Max cpu time", 500, 600),
    "RLIMIT_DATA": ("Max data size", 1 << 30, 1 << 31),
    "RLIMIT_FSIZE": ("Max file size", 1 << 20, 1 << 21),
    "RLIMIT_LOCKS": ("Max file locks", 10, 20),
    "RLIMIT_MEMLOCK": ("Max locked memory", 4096, 8192),
    "RLIMIT_MSGQUEUE": ("Max msgqueue size", 1000, 2000),
    "RLIMIT_NICE": ("Max nice priority", 0, 0),
    "RLIMIT_RSS": ("Max resident set", 1 << 30, 1 << 31),
    "RLIMIT_RTPRIO": ("Max realtime priority", 0, 0),
    "RLIMIT_RTTIME": ("Max realtime timeout", 100, 200),
    "RLIMIT_SIGPENDING": ("Max pending signals", 100, 200),
    "RLIMIT_STACK": ("Max stack size", 1 << 22, 1 << 23),
    "RLIMIT_AS": ("Max address space", 1 << 32, 1 << 33),
}


@pytest.mark.parametrize("name", LIMITS)
def test_rlimit(runtime: Runtime, bundle: Bundle, name: str) -> None:
    """Each resource limit, soft and hard, is what /proc/self/limits says."""
    title, soft, hard = LIMITS[name]
    bundle.process["rlimits"] = [{"type": name, "soft": soft, "hard": hard}]
    shown = runtime.run(bundle, f"grep '^{title}' /proc/self/limits").stdout
    assert shown[len(title) :].split()[:2] == [str(soft), str(hard)]


def test_rlimit_that_cannot_be_had_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A limit that the kernel refuses is an error, not a lower limit."""
    # Above fs.nr_open not even CAP_SYS_RESOURCE helps.
    limit = int(Path("/proc/sys/fs/nr_open").read_text()) + 1
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": limit, "hard": limit}]
    runtime.refuse(bundle)


@pytest.mark.parametrize(
    "limits",
    [
        [{"type": "RLIMIT_NOTHING", "soft": 1, "hard": 1}],
        [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}],
    ],
    ids=["unknown", "soft-above-hard"],
)
def test_wrong_rlimit_is_refused(runtime: Runtime, bundle: Bundle, limits: list[dict[str, object]]) -> None:
    """A type that does not exist, and a soft limit above the hard one, are errors."""
    bundle.process["rlimits"] = limits
    runtime.refuse(bundle)


@pytest.mark.parametrize("value", [0, 100, 1000])
def test_oom_score_adj(runtime: Runtime, bundle: Bundle, value: int) -> None:
    """process.oomScoreAdj is the init's oom_score_adj."""
    bundle.process["oomScoreAdj"] = value
    assert runtime.run(bundle, "cat /proc/self/oom_score_adj").stdout == f"{value}\n"


def test_oom_score_adj_is_inherited_when_absent(runtime: Runtime, bundle: Bundle) -> None:
    """Without it, the caller's value stays, as the specification says."""
    expected = Path("/proc/self/oom_score_adj").read_text()
    assert runtime.run(bundle, "cat /proc/self/oom_score_adj").stdout == expected


@needs("oom-score-clamp")
def test_oom_score_adj_below_what_the_host_allows_is_clamped(runtime: Runtime, bundle: Bundle) -> None:
    """Where CAP_SYS_RESOURCE is missing the value is raised to the caller's own, as kubelet's pods need."""
    own = int(Path("/proc/self/oom_score_adj").read_text())
    bundle.process["oomScoreAdj"] = -998
    value = int(runtime.run(bundle, "cat /proc/self/oom_score_adj").stdout)
    assert value == (-998 if lacking("oom-score-lowering") is None else own)


POLICIES = {"SCHED_OTHER": 0, "SCHED_BATCH": 3, "SCHED_IDLE": 5}


@needs("scheduler")
@pytest.mark.parametrize("policy", POLICIES)
def test_scheduler_policy(runtime: Runtime, bundle: Bundle, policy: str) -> None:
    """process.scheduler.policy is what sched_getattr says."""
    bundle.process["scheduler"] = {"policy": policy}
    assert f"policy={POLICIES[policy]} " in runtime.run(bundle, "probe scheduler").stdout


@needs("scheduler")
@pytest.mark.parametrize("nice", [5, 19, -5])
def test_scheduler_nice(runtime: Runtime, bundle: Bundle, nice: int) -> None:
    """process.scheduler.nice is the nice value."""
    bundle.process["scheduler"] = {"policy": "SCHED_OTHER", "nice": nice}
    assert f"nice={nice} " in runtime.run(bundle, "probe scheduler").stdout


@needs("scheduler")
def test_scheduler_flags(runtime: Runtime, bundle: Bundle) -> None:
    """SCHED_FLAG_RESET_ON_FORK is set on the program itself."""
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    bundle.process["args"] = ["/bin/probe", "scheduler"]
    assert "flags=1 " in runtime.run(bundle).stdout


@needs("scheduler")
def test_scheduler_of_an_unknown_policy_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A policy that does not exist is an error."""
    bundle.process["scheduler"] = {"policy": "SCHED_WHENEVER"}
    runtime.refuse(bundle)


CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}


@needs("io-priority")
@pytest.mark.parametrize("name", CLASSES)
def test_io_priority(runtime: Runtime, bundle: Bundle, name: str) -> None:
    """process.ioPriority is what ioprio_get says."""
    level = 0 if name.endswith("IDLE") else 4
    bundle.process["ioPriority"] = {"class": name, "priority": level}
    assert runtime.run(bundle, "probe ioprio").stdout == f"class={CLASSES[name]} level={level}\n"


@needs("io-priority")
def test_io_priority_of_an_unknown_class_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A class that does not exist is an error."""
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_X", "priority": 1}
    runtime.refuse(bundle)


@needs("personality")
@pytest.mark.parametrize(("domain", "machine"), [("LINUX", "x86_64"), ("LINUX32", "i686")])
def test_personality(runtime: Runtime, bundle: Bundle, domain: str, machine: str) -> None:
    """linux.personality changes what uname tells."""
    if os.uname().machine != "x86_64":
        pytest.skip("host: the names of the machines are those of x86-64")
    bundle.linux["personality"] = {"domain": domain}
    assert runtime.run(bundle, "uname -m").stdout == f"{machine}\n"


@needs("memory-policy")
@host("memory-policy")
@pytest.mark.parametrize(
    ("policy", "nodes", "flags", "expected"),
    [
        ("MPOL_DEFAULT", None, [], "mode=0 flags=0 nodes=0"),
        ("MPOL_BIND", "0", [], "mode=2 flags=0 nodes=1"),
        ("MPOL_PREFERRED", "0", [], "mode=1 flags=0 nodes=1"),
        ("MPOL_INTERLEAVE", "0", [], "mode=3 flags=0 nodes=1"),
        ("MPOL_LOCAL", None, [], "mode=4 flags=0 nodes=0"),
        ("MPOL_BIND", "0", ["MPOL_F_STATIC_NODES"], "mode=2 flags=32768 nodes=1"),
        ("MPOL_BIND", "0", ["MPOL_F_RELATIVE_NODES"], "mode=2 flags=16384 nodes=1"),
    ],
    ids=["default", "bind", "preferred", "interleave", "local", "static", "relative"],
)
def test_memory_policy(
    runtime: Runtime, bundle: Bundle, policy: str, nodes: str | None, flags: list[str], expected: str
) -> None:
    """linux.memoryPolicy is what get_mempolicy says."""
    wanted = {"mode": policy, "nodes": nodes, "flags": flags}
    bundle.linux["memoryPolicy"] = {key: value for key, value in wanted.items() if value}
    bundle.process["args"] = ["/bin/probe", "mempolicy"]
    assert runtime.run(bundle).stdout == f"{expected}\n"


@needs("memory-policy")
def test_memory_policy_of_an_unknown_mode_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A mode that does not exist is an error."""
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_ANYWHERE", "nodes": "0"}
    runtime.refuse(bundle)


def test_program_starts_with_no_signal_blocked_or_ignored(runtime: Runtime, bundle: Bundle) -> None:
    """What the runtime does with signals for its own sake is not passed on to the program."""
    bundle.process["args"] = ["/bin/probe", "signals"]
    assert runtime.run(bundle).stdout == ""


def test_session_keyring_is_new(runtime: Runtime, bundle: Bundle) -> None:
    """The program has a session keyring of its own, unless --no-new-keyring is given."""
    if not Path("/proc/keys").exists():
        pytest.skip("host: no keys")
    ask = "probe syscall 250 0 -3 0"  # keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)
    own = runtime.run(bundle, ask).stdout
    assert own.startswith("result=")
    assert runtime.run(bundle, ask, "--no-new-keyring").stdout != own


def test_init_is_a_session_leader(runtime: Runtime, bundle: Bundle) -> None:
    """The program leads a session and a process group of its own."""
    with runtime.start(bundle) as c:
        fields = c.proc("stat").rsplit(")", 1)[1].split()
        assert [int(fields[2]), int(fields[3])] == [c.pid, c.pid]


def test_parent_death_signal_is_not_set(runtime: Runtime, bundle: Bundle) -> None:
    """A detached container outlives the runtime's process: its parent is this test by now."""
    with runtime.start(bundle) as c:
        assert c.status == "running"
        assert int(c.proc("stat").rsplit(")", 1)[1].split()[1]) == os.getpid()


def test_runtime_binary_is_not_reachable_from_the_container(runtime: Runtime, bundle: Bundle) -> None:
    """No link in the container's /proc leads to a program of the host (CVE-2019-5736)."""
    with runtime.create(bundle, "true") as c:
        assert Path(f"/proc/{c.pid}/exe").resolve(strict=False) != Path(runtime.path).resolve()


def test_proc_is_the_hosts_without_pid_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """Without a pid namespace the program may see, and with CAP_KILL signal, the host's processes."""
    drop_namespace(bundle.spec, "pid")
    set_capabilities(bundle.spec, "CAP_KILL")
    assert runtime.run(bundle, f"kill -0 {os.getpid()} && echo seen").stdout == "seen\n"


def test_unknown_property_is_ignored(runtime: Runtime, bundle: Bundle) -> None:
    """Properties that the specification does not know are not an error."""
    bundle.spec["x-tomorrow"] = {"a": [1, 2]}
    bundle.process["x-tomorrow"] = None
    bundle.linux["x-tomorrow"] = "y"
    assert runtime.run(bundle, "echo ran").stdout == "ran\n"
