"""Configs that cannot be had, and what a user reads then: edits of the base config, flags of run, message, hint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance import spec as specs

Spec = specs.Spec
Edit = Callable[[Spec], Any]
PROGRAM_HINT = "process.args[0] is looked up in PATH of process.env, inside the container"
EXECUTE_HINT = "the file needs the execute bit for the user of the process"


def process(**members: Any) -> Edit:
    """Set members of ``process``."""
    return lambda spec: spec["process"].update(members)


def linux(**members: Any) -> Edit:
    """Set members of ``linux``."""
    return lambda spec: spec["linux"].update(members)


def top(**members: Any) -> Edit:
    """Set members at the top."""
    return lambda spec: spec.update(members)


def hook(kind: str, path: str, *args: str, **members: Any) -> Edit:
    """One hook."""
    return top(hooks={kind: [{"path": path, "args": [path, *args], **members}]})


def mount(destination: str, kind: str, source: str, *options: str) -> Edit:
    """One more mount, number 4."""
    return lambda spec: specs.add_mount(spec, destination, kind, source, *options)


def namespace(kind: str, path: str | None = None) -> Edit:
    """One more namespace, or in place of the one of its kind."""
    return lambda spec: specs.add_namespace(spec, kind, path)


def both(*edits: Edit) -> Edit:
    """Several edits."""
    return lambda spec: [edit(spec) for edit in edits]


def nothing(spec: Spec) -> None:
    """No edit."""


# name: (edit, flags, message, hint)
LAUNCHES: dict[str, tuple[Edit, tuple[str, ...], str, str]] = {
    "missing-program": (
        process(args=["/no/such"]),
        (),
        "exec /no/such (config process.args[0]): stat /no/such: no such file or directory",
        PROGRAM_HINT,
    ),
    "line-break": (
        process(args=["/no\nsuch"]),
        (),
        "exec /no such (config process.args[0]): stat /no such: no such file or directory",
        PROGRAM_HINT,
    ),
    "missing-in-path": (
        process(args=["nosuch"]),
        (),
        'exec nosuch (config process.args[0]): "nosuch": executable file not found in $PATH: no such file or directory',
        PROGRAM_HINT,
    ),
    "not-executable": (
        process(args=["/plain"]),
        (),
        "exec /plain (config process.args[0]): stat /plain: permission denied",
        EXECUTE_HINT,
    ),
    "directory": (
        process(args=["/tmp"]),
        (),
        "exec /tmp (config process.args[0]): stat /tmp: permission denied",
        EXECUTE_HINT,
    ),
    "interpreter": (
        process(args=["/script"]),
        (),
        "exec the program (config process.args): /script: its interpreter: no such file or directory",
        "if the file is there, its interpreter (#! line, or ELF loader) is missing in the rootfs",
    ),
    "garbage": (
        process(args=["/garbage"]),
        (),
        "exec the program (config process.args): /garbage: exec format error",
        "the program is for another architecture, or a script without a #! line",
    ),
    "no-args": (
        process(args=[]),
        (),
        "validate config.json: empty (config process.args)",
        "name the program to run",
    ),
    "no-process": (
        lambda spec: spec.pop("process"),
        (),
        "start a process: the config has none (config process)",
        "add process with args and cwd",
    ),
    "cwd-file": (
        process(cwd="/plain"),
        (),
        "change to the working directory /plain (config process.cwd): enter '/plain': not a directory",
        "something on the way is a file: choose another process.cwd",
    ),
    "cwd-relative": (
        process(cwd="tmp"),
        (),
        "validate config.json: 'tmp' is not an absolute path (config process.cwd)",
        "",
    ),
    "rlimit": (
        process(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}]),
        (),
        "validate config.json: soft limit 2 is above the hard limit 1 (config process.rlimits[0].soft)",
        "",
    ),
    "oom-score": (
        process(oomScoreAdj=5000),
        (),
        "validate config.json: 5000 is not between -1000 and 1000 (config process.oomScoreAdj)",
        "",
    ),
    "uid": (
        process(user={"uid": -1, "gid": 0}),
        (),
        "validate config.json: -1 is not between 0 and 4294967294 (config process.user.uid)",
        "",
    ),
    "terminal-detached": (
        process(terminal=True),
        ("--detach",),
        "open the terminal: cannot allocate tty if runc will detach without setting console socket "
        "(config process.terminal)",
        "give --console-socket, or run in the foreground",
    ),
    "console-without-terminal": (
        nothing,
        ("--console-socket", "/x"),
        "use the console socket: cannot use console socket if runc will not detach or allocate tty "
        "(config process.terminal)",
        "set process.terminal, or leave --console-socket out",
    ),
    "console-missing": (
        process(terminal=True),
        ("--console-socket", "{tmp}/none"),
        "connect to the console socket {tmp}/none (config process.terminal): connect to '{tmp}/none': "
        "no such file or directory",
        "the caller must listen on the console socket before create",
    ),
    "pid-file": (
        nothing,
        ("--pid-file", "/no/dir/pid"),
        "write the pid file /no/dir/pid: open '/no/dir/pid': no such file or directory",
        "",
    ),
    "preserve-fds": (
        nothing,
        ("--preserve-fds", "3"),
        "preserve 3 descriptors: descriptor 3 is not open",
        "--preserve-fds 3 passes descriptors 3 to 5",
    ),
    "bind-source": (
        mount("/mnt", "bind", "/no/such", "bind"),
        (),
        "mount /no/such on /mnt (config mounts[4]): open '/no/such': no such file or directory",
        "a bind mount needs an existing source",
    ),
    "file-system": (
        mount("/mnt", "nosuchfs", "x"),
        (),
        "mount x on /mnt (config mounts[4]): the kernel does not know file system type 'nosuchfs': no such device",
        "the kernel does not know this filesystem type (a module may be missing)",
    ),
    "mount-option": (
        mount("/mnt", "tmpfs", "tmpfs", "frob=1"),
        (),
        "mount tmpfs on /mnt (config mounts[4]): tmpfs: Unknown parameter 'frob': invalid argument",
        "",
    ),
    "mount-in-proc": (
        mount("/proc/sys", "bind", "/tmp", "bind"),
        (),
        "mount /tmp on /proc/sys (config mounts[4]): '/proc/sys' cannot be mounted because it is inside /proc: "
        "operation not permitted",
        "",
    ),
    "hook-missing": (
        hook("prestart", "/no/hook"),
        (),
        "run the prestart hook /no/hook (config hooks.prestart[0]): exec '/no/hook': no such file or directory",
        "hooks are looked up on the host, startContainer hooks in the container; if the file is there, "
        "its interpreter is not",
    ),
    "hook-exit": (
        hook("createRuntime", "/bin/sh", "-c", "echo some words >&2; exit 3"),
        (),
        "run the createRuntime hook /bin/sh (config hooks.createRuntime[0]): exit status 3, it wrote: some words",
        "",
    ),
    "hook-timeout": (
        hook("createRuntime", "/bin/sleep", "100", timeout=1),
        (),
        "run the createRuntime hook /bin/sleep (config hooks.createRuntime[0]): killed after its timeout of 1000 ms",
        "",
    ),
    "hook-in-the-container": (
        hook("startContainer", "/bin/false"),
        (),
        "run the startContainer hook /bin/false (config hooks.startContainer[0]): exit status 1",
        "",
    ),
    "hook-poststart": (
        hook("poststart", "/bin/false"),
        (),
        "run the poststart hook /bin/false (config hooks.poststart[0]): exit status 1",
        "",
    ),
    "namespace-gone": (
        namespace("network", "/proc/0/ns/net"),
        (),
        "join the namespaces given by path (config linux.namespaces[5].path): open '/proc/0/ns/net': "
        "no such file or directory",
        "the namespace's file is gone: the process that held it has ended",
    ),
    "namespace-kind": (
        namespace("network", "/proc/self/ns/uts"),
        (),
        "join the namespaces given by path (config linux.namespaces[5].path): join the net namespace "
        "/proc/self/ns/uts: invalid argument",
        "the file is a namespace of another type than the config says, or none at all",
    ),
    "namespace-unknown": (
        namespace("nope"),
        (),
        "validate config.json: 'nope' is none of cgroup, ipc, mount, network, pid, time, user, uts "
        "(config linux.namespaces[5].type)",
        "",
    ),
    "namespace-twice": (
        lambda spec: spec["linux"]["namespaces"].append({"type": "pid"}),
        (),
        "validate config.json: pid is given twice (config linux.namespaces[5].type)",
        "",
    ),
    "no-mount-namespace": (
        lambda spec: specs.drop_namespace(spec, "mount"),
        (),
        "set up mounts: the container has no mount namespace, and mounts would be made on the host (config mounts)",
        'add {"type": "mount"} to linux.namespaces',
    ),
    "hostname": (
        both(lambda spec: specs.drop_namespace(spec, "uts"), top(hostname="x")),
        (),
        "validate config.json: set without a uts namespace: it would rename the host (config hostname)",
        'add {"type": "uts"} to linux.namespaces',
    ),
    "mappings": (
        namespace("user"),
        (),
        "validate config.json: missing, but linux.namespaces asks for a new user namespace (config linux.uidMappings)",
        "a new user namespace without mappings could run nothing; 1 more problem: corral-runtime check lists all",
    ),
    "sysctl-host": (
        linux(sysctl={"vm.swappiness": "1"}),
        (),
        'validate config.json: not namespaced: it would change the host (config linux.sysctl["vm.swappiness"])',
        "set it on the host",
    ),
    "sysctl-unknown": (
        both(namespace("network"), linux(sysctl={"net.nope": "1"})),
        (),
        """set the sysctl net/nope to '1' (config linux.sysctl["net.nope"]): open '/proc/sys/net/nope': """
        "no such file or directory",
        "this kernel has no such sysctl, or not inside a namespace",
    ),
    "net-device": (
        both(namespace("network"), linux(netDevices={"nosuch0": {}})),
        (),
        'move the network device nosuch0 into the container (config linux.netDevices["nosuch0"]): '
        "find the network device 'nosuch0': no such device",
        "linux.netDevices is keyed by the name of an interface on the host",
    ),
    "time-offsets": (
        linux(timeOffsets={"monotonic": {"secs": 1}}),
        (),
        "validate config.json: set without a time namespace (config linux.timeOffsets)",
        'add {"type": "time"} to linux.namespaces',
    ),
    "seccomp-listener": (
        both(
            linux(
                seccomp={
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "listenerPath": "{tmp}/none",
                    "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_NOTIFY"}],
                }
            )
        ),
        (),
        "send the seccomp listener to {tmp}/none (config linux.seccomp.listenerPath): connect to '{tmp}/none': "
        "no such file or directory",
        "",
    ),
    "systemd-form": (
        linux(cgroupsPath="a:b:c"),
        (),
        "place group at 'a:b:c' with the cgroupfs driver: it is in the systemd form 'slice:prefix:name' "
        "(config linux.cgroupsPath)",
        "ask for the systemd driver (--systemd-cgroup), or give a path that begins with '/'",
    ),
    "memory-too-low": (
        linux(resources={"memory": {"limit": 1}}),
        (),
        "wait for the mounts: the container's first process was killed by signal 9",
        "if nobody killed it, the memory limit (linux.resources.memory.limit) is too low to begin with",
    ),
    "limit-type": (
        linux(resources={"pids": {"limit": "x"}}),
        (),
        "validate config.json: want an integer, got the string 'x' (config linux.resources.pids.limit)",
        "",
    ),
    "rootfs": (
        top(root={"path": "nope"}),
        (),
        "open the rootfs {tmp}/bundle/nope: no such file or directory (config root.path)",
        "root.path is relative to the bundle, and must be a directory",
    ),
    "no-root": (
        lambda spec: spec.pop("root"),
        (),
        "validate config.json: missing (config root)",
        "the runtime specification requires it",
    ),
    "version": (
        top(ociVersion="9.0.0"),
        (),
        "validate config.json: '9.0.0' is not a version 1 (config ociVersion)",
        "this runtime knows 1.0.0 to 1.3.0",
    ),
}
