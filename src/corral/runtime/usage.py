"""Help texts, off the hot path. One line a command, then the flags of each from the table of ``options``."""

from __future__ import annotations

from corral.runtime.options import COMMAND_FLAGS, FLAG, GLOBAL_FLAGS, NUMBER, REPEAT, SHORT

_COMMANDS: dict[str, tuple[str, str]] = {
    "create": ("ID", "make a container; its process waits for start"),
    "start": ("ID", "start the process of a created container"),
    "run": ("ID", "create and start a container, and wait for its end"),
    "exec": ("ID PROGRAM [ARGS...]", "run another process in a running container"),
    "state": ("ID", "print the state of a container"),
    "kill": ("ID [SIGNAL]", "send a signal (TERM) to a container"),
    "delete": ("ID", "remove a container and all that it owns"),
    "pause": ("ID", "freeze all processes of a container"),
    "resume": ("ID", "thaw the processes of a paused container"),
    "ps": ("ID [PS-OPTIONS]", "list the processes of a container"),
    "list": ("", "list the containers of this state root"),
    "update": ("ID", "change the limits of a container"),
    "events": ("ID", "print statistics and events of a container as JSON lines"),
    "mounts": ("add|remove ID FILE", "mount into, or unmount from, a running container"),
    "spec": ("", "write a config.json to start from"),
    "features": ("", "print what this runtime can do, as JSON"),
    "check": ("[BUNDLE]", "validate a bundle against the specification and this host; starts nothing"),
    "doctor": ("", "tell what this host offers to containers, what is lacking and how to mend it"),
    "explain": ("[BUNDLE]", "print the steps that would make the container"),
    "gc": ("", "finish what crashes left behind"),
    "planner": ("", "stay resident and compile for other calls, which are faster then"),
    "checkpoint": ("ID", "not supported"),
    "restore": ("ID", "not supported"),
}

_FLAG_TEXTS: dict[str, str] = {
    "additional-gids": "additional group, may be repeated",
    "all": "signal all processes of the container",
    "apparmor": "AppArmor profile of the process",
    "blkio-weight": "block I/O weight, 10 to 1000",
    "bundle": "directory of the bundle (default: the current one)",
    "cap": "add a capability, may be repeated",
    "cgroup": "sub-group [CONTROLLER,...:]PATH of the container's cgroup to run in",
    "cgroup-layout": "of a systemd scope: scope (the container is in it, default), or engine (in a group below)",
    "cgroup-manager": "cgroupfs, systemd or disabled",
    "cgroup-writable": "let the container manage cgroups of its own, within its limits (pure cgroup v2)",
    "config": "path of config.json (default: in the bundle)",
    "console-socket": "unix socket that receives the terminal's master",
    "cpu-burst": "burst in microseconds",
    "cpu-idle": "1: only idle time",
    "cpu-period": "period in microseconds",
    "cpu-quota": "quota in microseconds for a period",
    "cpu-rt-period": "realtime period in microseconds",
    "cpu-rt-runtime": "realtime runtime in microseconds",
    "cpu-share": "CPU shares",
    "cpuset-cpus": "CPUs, as 0-2,7",
    "cpuset-mems": "memory nodes",
    "criu": "accepted, without effect",
    "cwd": "working directory in the container",
    "debug": "print debug messages too",
    "detach": "return when the process has started",
    "effective": "print the limits: asked for, in the kernel, and what really binds",
    "env": "environment NAME=VALUE, may be repeated",
    "force": "kill it first; an unknown id is no error",
    "format": "table or json",
    "help": "print this",
    "id": "id to compile for (default: example)",
    "ignore-paused": "also in a paused container; the process waits for its resumption",
    "interval": "time between two statistics, as 5s",
    "json": "as JSON",
    "keep": "do not delete the container at its end",
    "kernel-memory": "accepted, without effect (no kernel has it any more)",
    "kernel-memory-tcp": "TCP buffer memory in bytes",
    "l3-cache-schema": "Intel RDT/CAT L3 schema",
    "log": "file for messages (default: stderr)",
    "log-format": "text or json",
    "mem-bw-schema": "Intel RDT/MBA schema",
    "memory": "memory limit in bytes",
    "memory-reservation": "memory reservation in bytes",
    "memory-swap": "memory and swap together in bytes, -1: unlimited",
    "no-new-keyring": "keep the caller's session keyring",
    "no-new-privs": "set no_new_privs",
    "no-pivot": "no pivot_root: for a root on ramfs",
    "no-subreaper": "do not become a subreaper",
    "pid-file": "file for the process's pid",
    "pidfd-socket": "unix socket that receives a pidfd of the process",
    "pids-limit": "largest number of processes",
    "preserve-fds": "pass descriptors 3 to 2+N",
    "process": "file with a process object",
    "process-label": "SELinux label of the process",
    "quiet": "ids only",
    "regex": "ID is a regular expression: delete all that match",
    "resources": "file with a resources object, - for stdin",
    "root": "directory of the state (default: /run/corral, or $XDG_RUNTIME_DIR/corral)",
    "rootless": "accepted: true, false or auto; Corral looks for itself",
    "socket": "path of the planner's socket (default: in the state root)",
    "stop-fd": "end when this descriptor is readable or its other end is closed",
    "stats": "print statistics once and exit",
    "systemd-cgroup": "use systemd's cgroup driver",
    "tty": "give the process a terminal",
    "user": "UID[:GID]",
    "version": "print the version",
}
# Where a command's flag means something else than the flag of that name elsewhere.
_OWN_TEXTS = {("spec", "rootless"): "for a user without privileges: with a user namespace of one id"}
_KIND_TEXT = {FLAG: "", NUMBER: " N", REPEAT: " VALUE"}


def usage(command: str) -> str:
    """The help of a command, or of the program for ``""`` and for an unknown one."""
    if command not in _COMMANDS:
        return _overview()
    arguments, text = _COMMANDS[command]
    call = f"corral-runtime {command} [flags] {arguments}".rstrip()
    head = f"NAME:\n   corral-runtime {command} - {text}\n\nUSAGE:\n   {call}\n"
    flags = {**COMMAND_FLAGS[command], "help": FLAG}
    return head + "\nOPTIONS:\n" + _flag_lines(command, flags)


def _overview() -> str:
    width = max(map(len, _COMMANDS))
    lines = [f"   {name.ljust(width)}  {text}" for name, (_, text) in _COMMANDS.items()]
    return (
        "NAME:\n   corral-runtime - OCI container runtime\n\n"
        "USAGE:\n   corral-runtime [global flags] COMMAND [flags] [arguments...]\n\n"
        "COMMANDS:\n" + "\n".join(lines) + "\n\nGLOBAL OPTIONS:\n" + _flag_lines("", GLOBAL_FLAGS)
    )


def _flag_lines(command: str, flags: dict[str, str]) -> str:
    short = {name: f", -{letter}" for letter, name in {"h": "help", **SHORT.get(command, {})}.items()}
    rows = [
        (
            f"--{name}{short.get(name, '')}{_KIND_TEXT.get(kind, ' VALUE')}",
            _OWN_TEXTS.get((command, name), _FLAG_TEXTS[name]),
        )
        for name, kind in sorted(flags.items())
    ]
    width = max(len(left) for left, _ in rows)
    return "".join(f"   {left.ljust(width)}  {text}\n" for left, text in rows)
