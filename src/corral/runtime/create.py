"""Compile a container: config.json and the host's facts to a plan. Pure; see ``prepare`` for what is read before.

The order of a container's birth: groups made and limited; the stub born, mapped, placed and read back; mounts; the
runtime's hooks; the new root; identity; the verdict; then, for ``create``, the wait for ``start``; and the exec.
"""

from __future__ import annotations

from corral.errors import Unsupported
from corral.oci.names import MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES, PERSONALITY_DOMAINS, sysctl_path
from corral.oci.shape import member_of
from corral.runtime import births, mounts, process, programs
from corral.runtime.delegation import compile_delegation
from corral.runtime.documents import process_state
from corral.runtime.groups import add_definitions, compile_attach, compile_groups, compile_limits_of, compile_scope
from corral.runtime.job import CLONE_NEWCGROUP, CLONE_NEWNET, CLONE_NEWUSER
from corral.runtime.plan import (
    FRONT,
    INIT,
    SLOT_CONSOLE_SOCKET,
    SLOT_INIT_LOCK,
    SLOT_SECCOMP,
    SLOT_START,
    Step,
)
from corral.runtime.process import Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.job import Job
    from corral.runtime.plan import Plan

KEEP_GROUPS_ANNOTATION = "run.oci.keep_original_groups"
PIDFD_ANNOTATION = "run.oci.pidfd_receiver"

RESCTRL_MAY_MAKE = 1
RESCTRL_MONITOR = 2


def compile_create(job: Job) -> Plan:
    """Fill ``job.plan`` for create or run. Whatever forbids the container is then in ``job.problems``."""
    plan, options = job.plan, job.options
    terminal = bool(job.process and job.process.get("terminal"))
    plan.front("FRONT_MODE", options.mode(terminal=terminal), options.preserve_fds + options.listen_fds)
    _check(job, terminal=terminal)
    programs.prepare_hooks(plan, job, "prestart", "createRuntime", "createContainer")
    add_definitions(plan, job.groups, job.host.layout)
    compile_limits_of(job)
    scope = job.groups.scope
    if scope is None:
        compile_groups(job)
    if terminal and options.console_socket:
        plan.front("CONSOLE_CONNECT", options.console_socket, SLOT_CONSOLE_SOCKET, pointer="process.terminal")
    if options.notify_socket:
        plan.front("NOTIFY_LISTEN", f"{job.record}/notify/notify.sock")
    if options.is_create:
        plan.front("START_LISTEN", SLOT_START, SLOT_INIT_LOCK)
    mounts.compile_trees(job)
    births.compile_birth(job)
    if scope is not None:
        compile_scope(job, scope)
    compile_attach(job)
    _compile_resctrl(job)
    if job.process is not None:
        process.compile_outer(plan, job.process)
        process.compile_stdio(plan, job.process, job.spec.get("linux", {}))
    plan.add(INIT, "SYNC", "its place in the cgroups")
    _compile_init(job)
    # Before anything is done, though only the whole compilation finds them all.
    plan.steps[1:1] = [Step(FRONT, "WARN", (warning,), "", 0) for warning in job.warnings]
    return plan


def _check(job: Job, *, terminal: bool) -> None:
    """What only shows when config, flags and host are seen together."""
    options, linux = job.options, job.spec.get("linux", {})
    if terminal and options.is_detached and not (options.console_socket or options.keeps_terminal):
        job.refuse(
            "open the terminal: cannot allocate tty if runc will detach without setting console socket",
            "process.terminal",
            hint="give --console-socket, or run in the foreground",
        )
    if options.console_socket and not terminal:
        job.refuse(
            "use the console socket: cannot use console socket if runc will not detach or allocate tty",
            "process.terminal",
            hint="set process.terminal, or leave --console-socket out",
        )
    if job.process is not None:
        job.problems.extend(process.check_labels(job.process, job.host))
    if linux.get("mountLabel") and "selinux" not in job.host.lsms:
        job.problem(
            Unsupported(
                f"set the mount label {linux['mountLabel']!r}: selinux is not enabled on this host",
                hint="enable selinux in the kernel, or drop mountLabel",
                pointer="linux.mountLabel",
                phase="security",
            )
        )
    user = job.process.get("user", {}) if job.process is not None else {}
    if user.get("additionalGids") and not births.may_set_groups(job) and not _keeps_groups(job):
        job.refuse(
            "set additional groups: a user namespace with a single id mapping has setgroups denied",
            "process.user.additionalGids",
            hint="map more ids with newgidmap, or drop additionalGids",
        )


def _keeps_groups(job: Job) -> bool:
    return job.annotations.get(KEEP_GROUPS_ANNOTATION, "") in ("1", "true")


def _compile_resctrl(job: Job) -> None:
    rdt = job.spec.get("linux", {}).get("intelRdt")
    if rdt is None:
        return
    if not job.host.resctrl:
        job.problem(
            Unsupported(
                "set up intelRdt: resctrl is not mounted on this host",
                hint="mount -t resctrl resctrl /sys/fs/resctrl, on a processor that has it; or drop intelRdt",
                pointer="linux.intelRdt",
                phase="cgroup",
            )
        )
        return
    schemata = list(rdt.get("schemata", []))
    schemata.extend(rdt[key] for key in ("l3CacheSchema", "memBwSchema") if rdt.get(key))
    own = not rdt.get("closID") or bool(schemata)
    flags = (RESCTRL_MAY_MAKE if own else 0) | (RESCTRL_MONITOR if rdt.get("enableMonitoring") else 0)
    job.plan.front(
        "RESCTRL_MAKE",
        programs.resctrl_group(job),
        "".join(line + "\n" for line in schemata),
        job.container_id,
        flags,
        pointer="linux.intelRdt",
    )


def _compile_init(job: Job) -> None:
    """Everything from the stub's release to its exec, with the front's part at each rendezvous."""
    plan = job.plan
    if job.new_flags & CLONE_NEWUSER and not job.needs_stage:
        plan.init("BECOME_ROOT", births.may_set_groups(job), pointer="linux.uidMappings")
    plan.init("SESSION", "" if job.options.no_new_keyring else f"_ses.{job.container_id}")
    if job.new_flags & CLONE_NEWCGROUP:
        plan.init("UNSHARE", CLONE_NEWCGROUP, pointer="linux.namespaces")
    if job.groups.delegation is not None:
        compile_delegation(job, job.groups.delegation)
    plan.init("PRIVATE_PROC", 0)
    if job.new_flags & CLONE_NEWNET:
        plan.init("LOOPBACK", 0, pointer="linux.namespaces")
    if job.process is not None:
        process.compile_scheduling(plan, job.process)
    mounts.compile_root(job)
    _compile_names(job)
    meeting = plan.add(INIT, "SYNC", "the mounts")
    for name, device in sorted(job.spec.get("linux", {}).get("netDevices", {}).items()):
        plan.front("NET_MOVE", name, device.get("name", "") or name, pointer=member_of("linux.netDevices", name))
    programs.add_hooks(plan, job, "prestart", "creating")
    programs.add_hooks(plan, job, "createRuntime", "creating")
    if len(plan) > meeting + 1:
        plan.add(INIT, "SYNC", "the runtime's hooks")
    else:
        # Nothing is the front's to do here: init need not wait for it.
        plan.steps.pop()
    programs.add_hooks(plan, job, "createContainer", "creating", actor=INIT)
    mounts.compile_pivot(job)
    _compile_kernel_settings(job)
    if job.process is not None:
        _compile_program(job)
    else:
        job.refuse("start a process: the config has none", "process", hint="add process with args and cwd")


def _compile_names(job: Job) -> None:
    if job.spec.get("hostname"):
        job.plan.init("HOSTNAME", job.spec["hostname"], pointer="hostname")
    if job.spec.get("domainname"):
        job.plan.init("DOMAINNAME", job.spec["domainname"], pointer="domainname")


def _compile_kernel_settings(job: Job) -> None:
    linux = job.spec.get("linux", {})
    for key, value in sorted(linux.get("sysctl", {}).items()):
        job.plan.init("SYSCTL", sysctl_path(key), value, pointer=member_of("linux.sysctl", key))
    policy = linux.get("memoryPolicy")
    if policy:
        mode = MEMORY_POLICY_MODES[policy["mode"]]
        for flag in policy.get("flags", []):
            mode |= MEMORY_POLICY_FLAGS[flag]
        job.plan.init("MEMORY_POLICY", mode, policy.get("nodes", ""), pointer="linux.memoryPolicy")
    personality = linux.get("personality")
    if personality:
        job.plan.init("PERSONALITY", PERSONALITY_DOMAINS[personality["domain"]], pointer="linux.personality")


def _compile_program(job: Job) -> None:
    plan, config, options = job.plan, job.process, job.options
    assert config is not None
    identity = Identity(
        has_new_userns=job.has_user_namespace,
        may_set_groups=bool(births.may_set_groups(job)),
        keep_groups=_keeps_groups(job),
        seccomp=job.seccomp,
    )
    process.compile_identity(plan, config, job.host, identity, job.warnings)
    plan.init("PREPARE_FDS", options.preserve_fds + options.listen_fds)
    process.compile_seccomp_notify(plan, identity)
    plan.add(INIT, "SYNC", "the verdict")
    _compile_handover(job)
    plan.add(INIT, "SYNC", "its release")
    plan.front("DONE", 0)
    if options.is_create:
        plan.init("WAIT_START", SLOT_START, SLOT_INIT_LOCK)
    programs.add_hooks(plan, job, "startContainer", "created", actor=INIT)
    process.compile_exec(plan, config, job.host, identity, _environment(job, config.get("env", [])))


def _compile_handover(job: Job) -> None:
    """What the front gives to the outside while init waits: nothing before the verdict but what it depends on."""
    plan, options = job.plan, job.options
    if job.seccomp is not None and job.seccomp.has_notify:
        seccomp = job.spec["linux"]["seccomp"]
        pieces = process_state(
            job.container_id, job.bundle, job.annotations, metadata=seccomp.get("listenerMetadata", "")
        )
        plan.front("SECCOMP_SEND", seccomp["listenerPath"], *pieces, SLOT_SECCOMP, pointer="linux.seccomp.listenerPath")
    plan.front("COMMIT", 0)
    if options.pidfd_socket:
        plan.front("PIDFD_SEND", options.pidfd_socket)
    receiver = job.annotations.get(PIDFD_ANNOTATION, "")
    if receiver:
        plan.front("PIDFD_SEND", receiver, pointer=member_of("annotations", PIDFD_ANNOTATION))
    # The last of them: others take it for the sign that all is well.
    if options.pid_file:
        plan.front("PID_FILE", options.pid_file)


def _environment(job: Job, env: list[str]) -> list[str]:
    env = list(env)
    if job.options.listen_fds:
        # The program is pid 1 of its namespace, or what it cannot know: runc says 1 as well.
        env += [f"LISTEN_FDS={job.options.listen_fds}", "LISTEN_PID=1"]
    if job.options.notify_socket:
        env.append("NOTIFY_SOCKET=/run/notify/notify.sock")
    return env
