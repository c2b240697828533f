"""Compile ``exec``: one more process in a running container, born in its namespaces and placed in its cgroups.

Source: runc-exec(8) for the flags; runtime-spec config.md "Process" and execCPUAffinity.
"""

from __future__ import annotations

from corral.errors import CorralError, FailedPrecondition, InvalidArgument, NotFound
from corral.linux import paths
from corral.oci.json import loads
from corral.oci.names import NAMESPACES
from corral.oci.validate import normalize, to_error
from corral.oci.validate_process import validate_process
from corral.runtime import process as compile_process
from corral.runtime.births import allows_groups
from corral.runtime.create import KEEP_GROUPS_ANNOTATION
from corral.runtime.documents import exec_state
from corral.runtime.groups import add_attach
from corral.runtime.host import read_host
from corral.runtime.inputs import read_file
from corral.runtime.job import MODE_EXEC, Options
from corral.runtime.plan import INIT, SLOT_CONSOLE_SOCKET, SLOT_SECCOMP, Plan
from corral.runtime.prepare import listen_fds, preserved_fds, raise_problems, state_root
from corral.runtime.process import Identity
from corral.runtime.record import PAUSED, STALE, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.linux.seccomp import SeccompProgram
    from corral.oci.spec import Process, Spec
    from corral.runtime.host import Host
    from corral.runtime.options import CommandLine
    from corral.runtime.prepare import Surroundings

ATTACH_FOLLOW_INIT = 1
# (uid_t)-1: "leave it as it is", nobody's number.
_NO_ID = 0xFFFFFFFF


class Exec:
    """An exec to be compiled: the container, the process asked for, and the caller's flags."""

    __slots__ = ("host", "line", "options", "plan", "process", "record", "spec", "warnings")

    def __init__(
        self, record: Record, spec: Spec, process: Process, *, host: Host, options: Options, line: CommandLine
    ) -> None:
        self.record = record
        self.spec = spec
        self.process = process
        self.host = host
        self.options = options
        self.line = line
        self.plan = Plan()
        self.warnings: list[str] = []


def prepare_exec(line: CommandLine, around: Surroundings) -> Plan:
    """The plan of an exec. Raises: CorralError."""
    record = Record(state_root(line, around), line.container_id())
    check_state(record, ignore_paused=line.flag("ignore-paused"))
    spec: Spec = normalize(record.read_config())
    warnings: list[str] = []
    process = read_process(line, around, spec, warnings)
    options = Options()
    options.is_detached = line.flag("detach")
    options.console_socket = around.absolute(line.text("console-socket"))
    options.pid_file = around.absolute(line.text("pid-file"))
    options.pidfd_socket = around.absolute(line.text("pidfd-socket"))
    options.no_subreaper = line.flag("no-subreaper")
    options.keeps_terminal = around.keeps_terminal
    options.listen_fds = listen_fds(around)
    options.preserve_fds = preserved_fds(line, around, options.listen_fds)
    job = Exec(record, spec, process, host=read_host(around.pid), options=options, line=line)
    job.warnings = warnings
    return compile_exec(job)


def check_state(record: Record, *, ignore_paused: bool) -> None:
    """Refuse what cannot take another process, in runc's words. Raises: FailedPrecondition."""
    name = record.container_id
    if record.status == STALE:
        raise FailedPrecondition(
            f"exec in container {name!r}: its creation was interrupted",
            hint=f"remove it: corral-runtime delete {name}",
        )
    if not record.is_running:
        raise FailedPrecondition(
            f"exec in container {name!r}: cannot exec in a stopped container: container not running",
            hint="start a new container from the same bundle",
        )
    if record.status == PAUSED and not ignore_paused:
        raise FailedPrecondition(
            f"exec in container {name!r}: cannot exec in a paused container",
            hint=f"resume it: corral-runtime resume {name}; or wait for that with --ignore-paused",
        )


def read_process(line: CommandLine, around: Surroundings, spec: Spec, warnings: list[str]) -> Process:
    """The process to run: --process, or the container's own with the flags over it. Raises: InvalidArgument."""
    path = around.absolute(line.text("process"))
    if path:
        document = _read_json(path)
    else:
        document = _from_flags(line, spec)
    found = validate_process(document, "process")
    error = to_error(found, "validate process")
    if error is not None:
        raise error
    # The same name in several sets is told once.
    warnings.extend(dict.fromkeys(problem.message for problem in found if problem.is_warning))
    clean: Process = normalize(document)  # type: ignore[assignment]
    if line.flag("tty"):
        clean["terminal"] = True
    return clean


def _read_json(path: str) -> Any:  # noqa: ANN401 -- unchecked JSON, validated by the caller
    try:
        return loads(read_file(path), path)
    except OSError as exc:
        raise NotFound(
            f"read {path}: {(exc.strerror or '').lower()}",
            hint="--process names a file with a process object",
            path=path,
        ) from exc


def _from_flags(line: CommandLine, spec: Spec) -> dict[str, Any]:
    """The container's process with its program replaced. Signals of intent that runc drops too are dropped here."""
    args = line.args[1:]
    if not args:
        raise InvalidArgument(
            "exec: the program is missing", hint="usage: exec [flags] ID PROGRAM [ARGS...], or --process FILE"
        )
    document: dict[str, Any] = dict(spec.get("process", {"cwd": "/"}))
    document["args"] = args
    document["terminal"] = line.flag("tty")
    document.pop("consoleSize", None)
    if line.text("cwd"):
        document["cwd"] = line.text("cwd")
    if line.text("apparmor"):
        document["apparmorProfile"] = line.text("apparmor")
    if line.text("process-label"):
        document["selinuxLabel"] = line.text("process-label")
    if line.flag("no-new-privs"):
        document["noNewPrivileges"] = True
    document["env"] = [*document.get("env", []), *line.texts("env")]
    _add_capabilities(document, line.texts("cap"))
    _set_user(document, line)
    return document


def _add_capabilities(document: dict[str, Any], names: list[str]) -> None:
    if not names:
        return
    sets = {key: list(value) for key, value in (document.get("capabilities") or {}).items()}
    for key in ("bounding", "effective", "permitted"):
        sets[key] = [*sets.get(key, []), *names]
    # Ambient needs inheritable too, and a container without inheritable ones shall not get them by exec.
    if sets.get("inheritable"):
        sets["ambient"] = [*sets.get("ambient", []), *names]
        sets["inheritable"] = [*sets["inheritable"], *names]
    document["capabilities"] = sets


def _set_user(document: dict[str, Any], line: CommandLine) -> None:
    user = dict(document.get("user", {}))
    given = line.text("user")
    if given:
        uid, colon, gid = given.partition(":")
        user["uid"] = _id(uid, "--user", given)
        user["gid"] = _id(gid, "--user", given) if colon else user.get("gid", 0)
    if line.texts("additional-gids"):
        user["additionalGids"] = [
            *user.get("additionalGids", []),
            *(_id(text, "--additional-gids", text) for text in line.texts("additional-gids")),
        ]
    document["user"] = user


def _id(text: str, flag: str, given: str) -> int:
    if text.isascii() and text.isdigit():
        if len(text.lstrip("0")) <= 10 and int(text) < _NO_ID:
            return int(text)
        raise InvalidArgument(
            f"exec: flag {flag}: {given!r} has an id beyond {_NO_ID - 1}", hint="the kernel counts ids in 32 bits"
        )
    raise InvalidArgument(f"exec: flag {flag}: {given!r} is not a number", hint="give ids as numbers: UID[:GID]")


def compile_exec(job: Exec) -> Plan:
    """The plan of an exec. Raises: CorralError."""
    plan, options, record, process = job.plan, job.options, job.record, job.process
    terminal = bool(process.get("terminal"))
    _check_terminal(options, terminal=terminal)
    problems: list[CorralError] = list(compile_process.check_labels(process, job.host))
    raise_problems(problems)
    plan.front("FRONT_MODE", options.mode(terminal=terminal) | MODE_EXEC, options.preserve_fds + options.listen_fds)
    groups = _define_groups(job)
    if terminal and options.console_socket:
        plan.front("CONSOLE_CONNECT", options.console_socket, SLOT_CONSOLE_SOCKET)
    affinity = process.get("execCPUAffinity", {})
    # Born there where the kernel lets it; what it refuses, it moves to.
    plan.front("STAGE", next((number for number, version in groups if version == 2), -1))
    plan.stage("JOIN_CONTAINER", record.pid, record.start_time, _namespaces_to_join(job))
    if affinity.get("initial"):
        plan.stage("CPU_AFFINITY", affinity["initial"], pointer="process.execCPUAffinity.initial")
    plan.stage("FORK", 0, 0)
    for number, version in groups:
        add_attach(plan, number, version, ATTACH_FOLLOW_INIT)
    compile_process.compile_outer(plan, process)
    compile_process.compile_stdio(plan, process, job.spec.get("linux", {}))
    plan.add(INIT, "SYNC", "its place in the cgroups")
    _compile_init(job, terminal=terminal, final_affinity=affinity.get("final", ""))
    return plan


def _check_terminal(options: Options, *, terminal: bool) -> None:
    if terminal and options.is_detached and not (options.console_socket or options.keeps_terminal):
        raise InvalidArgument(
            "exec: cannot allocate tty if runc will detach without setting console socket",
            hint="give --console-socket, or leave --detach out",
        )
    if options.console_socket and not terminal:
        raise InvalidArgument(
            "exec: cannot use console socket if runc will not detach or allocate tty", hint="add --tty"
        )


def _namespaces_to_join(job: Exec) -> int:
    """All that the container has of its own. A namespace it shares with the host is ours already."""
    flags = 0
    for namespace in job.spec.get("linux", {}).get("namespaces", []):
        flags |= NAMESPACES[namespace["type"]][0]
    return flags


def _define_groups(job: Exec) -> list[tuple[int, int]]:
    """CG_DEFINE for each group that the container really has; a sub-group is chosen by --cgroup [CTRL:]PATH.

    Returns the id and the version of each.
    """
    chosen = _chosen_subgroups(job)
    by_mount = {hierarchy.mount_point: hierarchy for hierarchy in job.host.layout.hierarchies}
    numbers = []
    for number, group in enumerate(job.record.state["cgroups"]):
        if group["fate"] not in ("created", "joined") or group["mount_point"] not in by_mount:
            continue
        hierarchy = by_mount[group["mount_point"]]
        path = group["path"] + _subgroup_of(chosen, hierarchy.controllers)
        job.plan.front("CG_DEFINE", number, group["version"], group["mount_point"], path, 0)
        numbers.append((number, group["version"]))
    return numbers


def _chosen_subgroups(job: Exec) -> dict[str, str]:
    """--cgroup values by controller, "" for all. Raises: InvalidArgument for a path that leaves the container's."""
    chosen = {}
    for text in job.line.texts("cgroup"):
        names, colon, path = text.rpartition(":")
        if ".." in path.split("/"):
            raise InvalidArgument(f"exec: flag --cgroup: {text!r} has a '..' component", hint="name a sub-group")
        path = "/" + path.strip("/")
        for name in names.split(",") if colon else [""]:
            chosen[name] = "" if path == "/" else path
    return chosen


def _subgroup_of(chosen: dict[str, str], controllers: tuple[str, ...]) -> str:
    for controller in controllers:
        if controller in chosen:
            return chosen[controller]
    return chosen.get("", "")


def _compile_init(job: Exec, *, terminal: bool, final_affinity: str) -> None:
    plan, process, options = job.plan, job.process, job.options
    linux = job.spec.get("linux", {})
    in_userns = any(n["type"] == "user" for n in linux.get("namespaces", []))
    may_set_groups = allows_groups(f"/proc/{job.record.pid}", otherwise=not job.host.setgroups_denied)
    if in_userns:
        plan.init("BECOME_ROOT", int(may_set_groups))
    # A session of its own; the keyring is the container's, if it has one of its own.
    plan.init("SESSION", f"_ses.{job.record.container_id}")
    if final_affinity:
        plan.init("CPU_AFFINITY", final_affinity, pointer="process.execCPUAffinity.final")
    plan.init("PRIVATE_PROC", 0)
    compile_process.compile_scheduling(plan, process)
    if terminal:
        compile_process.compile_console(plan, process, options, bind=False)
    identity = Identity(
        has_new_userns=in_userns,
        may_set_groups=may_set_groups,
        keep_groups=job.spec.get("annotations", {}).get(KEEP_GROUPS_ANNOTATION, "") in ("1", "true"),
        seccomp=_load_seccomp(job),
    )
    compile_process.compile_identity(plan, process, job.host, identity, job.warnings)
    plan.init("PREPARE_FDS", options.preserve_fds + options.listen_fds)
    compile_process.compile_seccomp_notify(plan, identity)
    plan.add(INIT, "SYNC", "the verdict")
    for warning in job.warnings:
        plan.front("WARN", warning)
    if identity.seccomp is not None and identity.seccomp.has_notify:
        _send_listener(job)
    if options.pidfd_socket:
        plan.front("PIDFD_SEND", options.pidfd_socket)
    if options.pid_file:
        plan.front("PID_FILE", options.pid_file)
    plan.add(INIT, "SYNC", "its release")
    env = list(process.get("env", []))
    if options.listen_fds:
        env += [f"LISTEN_FDS={options.listen_fds}", "LISTEN_PID=1"]
    compile_process.compile_exec(plan, process, job.host, identity, env)


def _send_listener(job: Exec) -> None:
    """Each process has a listener of its own, and so each is announced to the agent."""
    seccomp = job.spec["linux"]["seccomp"]
    pieces = exec_state(
        job.record.container_id,
        job.record.state["bundle"],
        job.spec.get("annotations", {}),
        metadata=seccomp.get("listenerMetadata", ""),
        pid=job.record.pid,
    )
    job.plan.front("SECCOMP_SEND", seccomp["listenerPath"], *pieces, SLOT_SECCOMP, pointer="linux.seccomp.listenerPath")


def _load_seccomp(job: Exec) -> SeccompProgram | None:
    seccomp = job.spec.get("linux", {}).get("seccomp")
    if seccomp is None:
        return None
    from corral.linux.seccomp import compile_profile

    return compile_profile(seccomp, cache_dir=f"{paths.dirname(job.record.path)}/.seccomp")
