"""From a command line to a compiled container: reads the bundle and the host, and writes the record.

All that is impure about ``create`` and ``run`` in the planner stands here; what it returns is data.
"""

from __future__ import annotations

import posix
import time

from corral.errors import CorralError, InvalidArgument, NotFound
from corral.linux import paths
from corral.oci.json import dumps, loads
from corral.oci.validate import normalize, to_error, validate
from corral.runtime.create import compile_create
from corral.runtime.delegation import prepare_delegation
from corral.runtime.documents import SPEC_VERSION
from corral.runtime.groups import Groups, choose_manager, place_groups
from corral.runtime.host import read_host
from corral.runtime.inputs import read_file
from corral.runtime.job import Job, Options
from corral.runtime.programs import compile_programs
from corral.runtime.record import SCHEMA, reserve
from corral.runtime.wire import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.oci.spec import Spec
    from corral.runtime.options import CommandLine
    from corral.runtime.record import Reservation
    from corral.runtime.rootfs import RootfsPlan

FAIL_UNKNOWN_ANNOTATION = "run.oci.seccomp_fail_unknown_syscall"


class Surroundings:
    """The caller's context, as its request tells: the resident planner has another one."""

    __slots__ = ("cwd", "env", "keeps_terminal", "open_fds", "pid")

    def __init__(
        self, cwd: str, env: dict[str, str], open_fds: tuple[int, ...] = (), *, pid: int | str = "self"
    ) -> None:
        self.pid = pid
        # The front stays, and has the terminal, although the command says create or --detach.
        self.keeps_terminal = False
        self.cwd = cwd
        self.env = env
        self.open_fds = open_fds

    def absolute(self, path: str) -> str:
        """``path`` from the caller's working directory, normalised as text."""
        return paths.normpath(paths.join(self.cwd, path)) if path else ""


class Prepared:
    """A container ready to be made: the plan's bytes, the job behind them, and its record."""

    __slots__ = ("job", "plan", "reservation", "state")

    def __init__(self, job: Job, plan: bytes, reservation: Reservation, state: dict[str, object]) -> None:
        self.job = job
        self.plan = plan
        self.reservation = reservation
        self.state = state


def state_root(line: CommandLine, around: Surroundings) -> str:
    """The state root of a command line, absolute."""
    return around.absolute(line.root())


def prepare(line: CommandLine, around: Surroundings, layers: RootfsPlan | None = None) -> Prepared:
    """Compile create or run and reserve its name. Raises: CorralError; nothing is left behind then.

    ``layers``: what the root is made of, mounted at the config's root.path; None: it is what stands there.
    """
    job, raw = load_job(line, around, layers=layers)
    raise_problems(job.problems)
    created = _now()
    programs = compile_programs(job, created=created, owner=_user_name(job.host.euid))
    state = _state(job, created)
    files = {f"{name}.plan": encode(plan) for name, plan in programs.items()}
    files["config.json"] = raw
    files["state.json"] = dumps(state).encode()
    plan_bytes = encode(job.plan)
    reservation = reserve(paths.dirname(job.record), job.container_id, files)
    return Prepared(job, plan_bytes, reservation, state)


def load_job(
    line: CommandLine, around: Surroundings, container_id: str = "", *, layers: RootfsPlan | None = None
) -> tuple[Job, bytes]:
    """Read, validate and compile. What forbids the container here is collected in the job's ``problems``.

    Raises: CorralError for a config that cannot be read or is invalid, and for flags that make no sense.
    """
    container_id = container_id or line.container_id()
    raw = read_config(line, around)
    document = loads(raw, config_path(line, around))
    found = validate(document)
    error = to_error(found)
    if error is not None:
        raise error
    job = compile_job(line, around, normalize(document), container_id)
    job.warnings.extend(f"{problem.pointer}: {problem.message}" for problem in found if problem.is_warning)
    if layers is not None:
        from corral.runtime.rootfs import check_layers

        check_layers(job, layers)
        job.layers = layers
    compile_create(job)
    return job, raw


def compile_job(line: CommandLine, around: Surroundings, spec: Spec, container_id: str) -> Job:
    """All that compilation needs of a valid config, this host and this caller, not yet compiled."""
    bundle = bundle_path(line, around)
    job = Job(
        spec,
        read_host(around.pid),
        container_id=container_id,
        bundle=bundle,
        rootfs=paths.realpath(paths.join(bundle, spec["root"]["path"])),
        record=f"{state_root(line, around)}/{container_id}",
        options=_options(line, around),
    )
    _check_rootfs(job)
    _add_notify_mount(job)
    try:
        manager = choose_manager(line.text("cgroup-manager"), systemd_flag=line.flag("systemd-cgroup"))
        job.groups = place_groups(job, manager=manager, environ=around.env)
    except CorralError as exc:
        job.problem(exc)
        # Nowhere to put limits: what stands in their way has just been said, once.
        job.groups = Groups([], is_explicit=False)
        spec.get("linux", {}).pop("resources", None)
    prepare_delegation(job)
    try:
        # `check` and `explain` leave no trace, not even in a cache.
        _load_seccomp(job, makes_something=line.command in ("create", "run"))
    except CorralError as exc:
        job.problem(exc)
    return job


def raise_problems(problems: list[CorralError]) -> None:
    """Raise the first of ``problems``, and tell how many there are."""
    if not problems:
        return
    first = problems[0]
    if len(problems) > 1:
        more = f"and {len(problems) - 1} more: `corral-runtime check` shows all"
        first.hint = f"{first.hint}; {more}" if first.hint else more
    raise first


def bundle_path(line: CommandLine, around: Surroundings) -> str:
    """The bundle's directory, absolute."""
    return around.absolute(line.text("bundle") or ".")


def config_path(line: CommandLine, around: Surroundings) -> str:
    """The path of config.json, or of ``--config``, absolute."""
    return around.absolute(line.text("config")) or f"{bundle_path(line, around)}/config.json"


def read_config(line: CommandLine, around: Surroundings) -> bytes:
    """The bytes of config.json, or of ``--config``. Raises: NotFound, InvalidArgument."""
    path = config_path(line, around)
    try:
        return read_file(path)
    except FileNotFoundError as exc:
        raise NotFound(
            f"read {path}: no such file or directory",
            hint="give the bundle's directory with --bundle; `corral-runtime spec` writes a config.json",
            path=path,
        ) from exc
    except (NotADirectoryError, PermissionError) as exc:
        raise InvalidArgument(f"read {path}: {(exc.strerror or '').lower()}", path=path) from exc


def _check_rootfs(job: Job) -> None:
    if job.rootfs == "/":
        # Devices, links and mount points would be made in the host's own tree.
        job.refuse(
            "use the rootfs /: it is the root of the host itself",
            "root.path",
            hint="give a directory of the container's own, such as an overlay over /",
        )
        return
    if paths.isdir(job.rootfs):
        return
    cause = "not a directory" if paths.exists(job.rootfs) else "no such file or directory"
    job.problem(
        NotFound(
            f"open the rootfs {job.rootfs}: {cause}",
            hint="root.path is relative to the bundle, and must be a directory",
            pointer="root.path",
            path=job.rootfs,
        )
    )


def _options(line: CommandLine, around: Surroundings) -> Options:
    options = Options(is_create=line.command == "create")
    options.is_detached = options.is_create or line.flag("detach")
    options.keep = line.flag("keep")
    options.keeps_terminal = around.keeps_terminal
    options.cgroup_layout = line.text("cgroup-layout")
    options.cgroup_writable = line.flag("cgroup-writable")
    options.console_socket = around.absolute(line.text("console-socket"))
    options.pid_file = around.absolute(line.text("pid-file"))
    options.pidfd_socket = around.absolute(line.text("pidfd-socket"))
    options.no_pivot = line.flag("no-pivot")
    options.no_new_keyring = line.flag("no-new-keyring")
    options.no_subreaper = line.flag("no-subreaper")
    options.listen_fds = listen_fds(around)
    options.preserve_fds = preserved_fds(line, around, options.listen_fds)
    options.notify_socket = around.env.get("NOTIFY_SOCKET", "")
    return options


MAX_PRESERVED = 1024


def preserved_fds(line: CommandLine, around: Surroundings, listening: int) -> int:
    """The number given by --preserve-fds, counted after ``listening`` sockets. Raises: InvalidArgument.

    Each must be open: a number that is free now would be one of the front's own descriptors later (CVE-2024-21626).
    """
    number = line.number("preserve-fds")
    if not 0 <= number <= MAX_PRESERVED:
        raise InvalidArgument(f"preserve {number} descriptors: not between 0 and {MAX_PRESERVED}")
    first = 3 + listening
    for fd in range(first, first + number):
        if fd not in around.open_fds:
            raise InvalidArgument(
                f"preserve {number} descriptors: descriptor {fd} is not open",
                hint=f"--preserve-fds {number} passes descriptors {first} to {first + number - 1}",
            )
    return number


def listen_fds(around: Surroundings) -> int:
    """LISTEN_FDS of the caller (sd_listen_fds(3)); 0 without, or if it was left behind by somebody else.

    That it was is told by a LISTEN_PID which is not the front's, or by sockets that are not there.
    """
    text = around.env.get("LISTEN_FDS", "")
    if not (text.isascii() and text.isdigit() and len(text) < 5):
        return 0
    front = posix.getppid() if around.pid == "self" else around.pid
    if around.env.get("LISTEN_PID", str(front)) != str(front):
        return 0
    number = int(text)
    return number if all(fd in around.open_fds for fd in range(3, 3 + number)) else 0


def _add_notify_mount(job: Job) -> None:
    """Show the relay's directory inside, at the place that runc uses too."""
    if job.options.notify_socket:
        job.spec.setdefault("mounts", []).append(
            {
                "destination": "/run/notify",
                "type": "bind",
                "source": f"{job.record}/notify",
                "options": ["bind", "nosuid", "noexec", "nodev", "ro"],
            }
        )


def _load_seccomp(job: Job, *, makes_something: bool) -> None:
    seccomp = job.spec.get("linux", {}).get("seccomp")
    if seccomp is None:
        return
    from corral.linux.seccomp import compile_profile

    fail_unknown = job.annotations.get(FAIL_UNKNOWN_ANNOTATION, "") in ("1", "true")
    job.seccomp = compile_profile(
        seccomp,
        cache_dir=f"{paths.dirname(job.record)}/.seccomp" if makes_something else None,
        log=job.warnings.append,
        fail_unknown=fail_unknown,
    )
    job.warnings.extend(job.seccomp.warnings)


def _now() -> str:
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanos:09d}Z"


def _user_name(uid: int) -> str:
    if uid == 0:
        return "root"
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _state(job: Job, created: str) -> dict[str, object]:
    """state.json as intended; what became of each cgroup is filled in with the verdict."""
    freezer = job.host.layout.hierarchy_for("freezer")
    frozen_at = None
    for _, hierarchy, path in job.groups.members:
        if hierarchy is freezer:
            frozen_at = [hierarchy.version, hierarchy.directory(path)]
    return {
        "schema": SCHEMA,
        "ociVersion": SPEC_VERSION,
        "id": job.container_id,
        "bundle": job.bundle,
        "rootfs": job.rootfs,
        "created": created,
        "owner": _user_name(job.host.euid),
        "annotations": job.annotations,
        "cgroups": job.groups.records(),
        "cgroupAbsences": job.groups.absences,
        "freezer": frozen_at,
        "scope": job.groups.scope.to_record() if job.groups.scope is not None else None,
    }
