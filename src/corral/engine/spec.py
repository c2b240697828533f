"""From a definition to the config.json that the runtime takes. Pure: no file is read and nothing is asked.

What needs the host (names of users, numbers of devices, where volumes lie) comes resolved in ``place``; see
``engine/accounts.py`` and ``engine/host_facts.py``. The mounts are ``engine/spec_mounts.py``'s, the limits
``engine/spec_limits.py``'s.

Source: runtime-spec config.md, config-linux.md; image-spec conversion.md.
"""

from __future__ import annotations

from corral.engine.seccomp_default import default_profile
from corral.engine.spec_limits import compile_resources, compile_rlimits
from corral.engine.spec_mounts import INIT_PATH, compile_mounts
from corral.errors import InvalidArgument
from corral.linux.caps import CAPABILITIES, number_or_none
from corral.oci import hidden
from corral.oci.features import OCI_VERSION_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.engine.definition import Definition, ImageConfig, SpecPlace
    from corral.oci.spec import Capabilities, Device, IDMapping, Linux, Namespace, Process, Spec

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_COMMAND = ("/bin/sh",)

# What root keeps. The set of Podman and of CRI-O: Docker's less MKNOD, NET_RAW and AUDIT_WRITE.
DEFAULT_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)

# Above what a runtime hides by default: numbers of the host's discs, and its policy.
MASKED_PATHS = tuple(sorted((*hidden.MASKED_PATHS, "/sys/dev/block", "/sys/fs/selinux")))

# Namespace in the definition -> its word in config.json.
_KINDS = (("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup"))


def compile_spec(definition: Definition, image: ImageConfig, place: SpecPlace) -> Spec:
    """The configuration of one run. ``image`` is empty for a root that is no image.

    Raises: InvalidArgument where the definition contradicts itself.
    """
    spec: Spec = {
        "ociVersion": OCI_VERSION_MAX,
        "process": compile_process(definition, image, place),
        "root": {"path": place["rootfs"]},
        "mounts": compile_mounts(definition, place),
        "linux": _linux(definition, place),
    }
    if definition.get("security", {}).get("read_only"):
        spec["root"]["readonly"] = True
    if _mode(definition, "uts") == "private":
        spec["hostname"] = hostname(definition)
        if definition.get("domainname"):
            spec["domainname"] = definition["domainname"]
    if definition.get("hooks"):
        spec["hooks"] = definition["hooks"]  # type: ignore[typeddict-item]
    # The owner's alone: an image's author does not get to talk to the runtime, which acts on some annotations.
    annotations = dict(definition.get("annotations", {}))
    annotations["org.opencontainers.image.stopSignal"] = stop_signal(definition, image)
    spec["annotations"] = annotations
    return spec


def runtime_flags(definition: Definition) -> list[str]:
    """Flags of ``corral-runtime create`` that the definition asks for and config.json cannot say."""
    return ["--cgroup-writable"] if definition.get("security", {}).get("writable_cgroups") else []


def hostname(definition: Definition) -> str:
    """The container's name for itself: as asked for, or the short id."""
    return definition.get("hostname") or definition["id"][:12]


def stop_signal(definition: Definition, image: ImageConfig) -> str:
    """The signal that ``stop`` sends first: the definition's, the image's, or SIGTERM."""
    return definition["process"].get("stop_signal") or image.get("stop_signal") or "SIGTERM"


def argv(definition: Definition, image: ImageConfig) -> list[str]:
    """The words that are executed. Raises: InvalidArgument if there are none.

    An entrypoint of the definition's own drops the image's command, as everywhere.
    """
    process = definition["process"]
    if "entrypoint" in process:
        words = [*process["entrypoint"], *process.get("command", [])]
    else:
        words = [*image.get("entrypoint", []), *(process.get("command") or image.get("command", []))]
    if not words and definition["root"]["kind"] == "host":
        words = list(DEFAULT_COMMAND)
    if not words or not words[0]:
        raise InvalidArgument(
            f"run {definition['name']!r}: no command given, and the image has none",
            hint="put the command behind the image, or give --entrypoint",
        )
    return words


def environment(definition: Definition, image: ImageConfig, home: str) -> list[str]:
    """``NAME=value`` lines: defaults, then the image's, then the definition's; the last of a name wins."""
    process = definition["process"]
    merged: dict[str, str] = {}
    defaults = [DEFAULT_PATH, "container=corral", f"HOSTNAME={hostname(definition)}"]
    if process.get("terminal"):
        defaults.append("TERM=xterm")
    for line in (*defaults, *image.get("env", []), *process.get("env", [])):
        name, equals, value = line.partition("=")
        if equals:
            merged[name] = value
        else:
            # `--env NAME-` was turned into a bare name: it is not to be there.
            merged.pop(name, None)
    merged.setdefault("HOME", home)
    return [f"{name}={value}" for name, value in merged.items()]


def compile_process(definition: Definition, image: ImageConfig, place: SpecPlace) -> Process:
    """``process``: what runs, as whom, with which rights."""
    asked = definition["process"]
    security = definition.get("security", {})
    account = place["account"]
    words = argv(definition, image)
    if asked.get("init"):
        if not place.get("init"):
            raise InvalidArgument(
                f"run {definition['name']!r} with --init: corral-init is not installed",
                hint="it is installed beside corral-runtime",
            )
        words = [INIT_PATH, "--", *words]
    process: Process = {
        "user": {"uid": account["uid"], "gid": account["gid"]},
        "args": words,
        "env": environment(definition, image, account["home"]),
        "cwd": asked.get("workdir") or image.get("workdir") or "/",
        "capabilities": _capabilities(definition, place),
        "rlimits": compile_rlimits(asked.get("ulimits", []), place.get("nofile_hard", 0)),
    }
    if account["groups"]:
        process["user"]["additionalGids"] = account["groups"]
    if asked.get("umask"):
        process["user"]["umask"] = int(asked["umask"], 8)
    if asked.get("terminal"):
        process["terminal"] = True
    if security.get("no_new_privileges"):
        process["noNewPrivileges"] = True
    if security.get("apparmor"):
        process["apparmorProfile"] = security["apparmor"]
    if security.get("selinux_label"):
        process["selinuxLabel"] = security["selinux_label"]
    adjustment = definition.get("resources", {}).get("oom_score_adj")
    if adjustment is not None:
        process["oomScoreAdj"] = adjustment
    return process


def bounding_set(definition: Definition, place: SpecPlace) -> list[str]:
    """The capabilities that the container can ever have, in the kernel's order.

    Raises: InvalidArgument for a name that no capability bears.
    """
    security = definition.get("security", {})
    held = set(DEFAULT_CAPABILITIES)
    if security.get("privileged"):
        held = set(place["capabilities"])
    dropped = [_capability(name) for name in security.get("cap_drop", [])]
    added = [_capability(name) for name in security.get("cap_add", [])]
    if "ALL" in dropped:
        held = set()
    if "ALL" in added:
        held = set(place["capabilities"])
    held |= {name for name in added if name != "ALL"}
    # `--cap-drop ALL --cap-add X` keeps X; `--cap-add ALL --cap-drop X` has all but X.
    held -= {name for name in dropped if name not in added}
    return [name for name in CAPABILITIES if name in held]


def _capability(name: str) -> str:
    upper = name.upper()
    if upper in ("ALL", "CAP_ALL"):
        return "ALL"
    number = number_or_none(name)
    if number is None:
        raise InvalidArgument(
            f"capability {name!r}: there is no such capability", hint="capabilities(7) lists them, as in NET_ADMIN"
        )
    return CAPABILITIES[number]


def _capabilities(definition: Definition, place: SpecPlace) -> Capabilities:
    bounding = bounding_set(definition, place)
    if place["account"]["uid"] == 0:
        return {"bounding": bounding, "effective": bounding, "permitted": bounding}
    # Another user has only what was given by name, and keeps it across exec.
    added = {_capability(name) for name in definition.get("security", {}).get("cap_add", [])}
    own = [name for name in bounding if name in added or "ALL" in added]
    return {"bounding": bounding, "effective": own, "permitted": own, "inheritable": own, "ambient": own}


def _mode(definition: Definition, kind: str) -> str:
    modes: dict[str, str] = definition.get("namespaces", {})  # type: ignore[assignment]
    return modes.get(kind) or "private"


def _linux(definition: Definition, place: SpecPlace) -> Linux:
    security = definition.get("security", {})
    linux: Linux = {
        "namespaces": _namespaces(definition, place),
        "resources": compile_resources(definition, place),
    }
    if place["cgroups_path"]:
        linux["cgroupsPath"] = place["cgroups_path"]
    uid_map, gid_map = (definition.get("namespaces", {}).get(key, []) for key in ("uid_map", "gid_map"))
    if uid_map and gid_map:
        linux["uidMappings"] = _extents(uid_map)  # type: ignore[arg-type]
        linux["gidMappings"] = _extents(gid_map)  # type: ignore[arg-type]
    sysctls = _sysctls(definition)
    if sysctls:
        linux["sysctl"] = sysctls
    devices = _devices(place)
    if devices:
        linux["devices"] = devices
    if security.get("selinux_label"):
        linux["mountLabel"] = security["selinux_label"]
    _close(linux, definition, place)
    return linux


def _close(linux: Linux, definition: Definition, place: SpecPlace) -> None:
    """Masked and read-only paths, and the system call filter; a privileged container has none of them."""
    security = definition.get("security", {})
    if "seccomp" in place:
        linux["seccomp"] = place["seccomp"]  # type: ignore[typeddict-item]
    elif security.get("seccomp") != "unconfined" and not security.get("privileged"):
        linux["seccomp"] = default_profile(bounding_set(definition, place), place["machine"])
    if security.get("privileged"):
        masked: list[str] = []
        readonly: list[str] = []
    else:
        unmasked = security.get("unmask", [])
        masked = [path for path in MASKED_PATHS if not _is_unmasked(path, unmasked)]
        readonly = [path for path in hidden.READONLY_PATHS if not _is_unmasked(path, unmasked)]
    masked += [path for path in security.get("mask", []) if path not in masked]
    linux["maskedPaths"] = masked
    linux["readonlyPaths"] = readonly


def _is_unmasked(path: str, asked: list[str]) -> bool:
    return any(item == "ALL" or path == item or path.startswith(item.rstrip("/") + "/") for item in asked)


def _namespaces(definition: Definition, place: SpecPlace) -> list[Namespace]:
    joined = place.get("namespaces", {})
    found: list[Namespace] = [{"type": "mount"}]
    if "user" in joined:
        found.append({"type": "user", "path": joined["user"]})
    elif definition.get("namespaces", {}).get("uid_map"):
        found.append({"type": "user"})
    modes = {kind: _mode(definition, key) for key, kind in _KINDS}
    network = definition["network"]["mode"]
    modes["network"] = "host" if network == "host" else "private"
    for kind, mode in modes.items():
        if kind in joined:
            found.append({"type": kind, "path": joined[kind]})
        elif mode == "private":
            found.append({"type": kind})
        elif mode != "host":
            raise InvalidArgument(
                f"share the {kind} namespace of {mode!r}: it is not known where it is",
                hint="the other container has to be running",
            )
    return found


def _extents(mappings: list[tuple[int, int, int]]) -> list[IDMapping]:
    return [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in mappings]


def _sysctls(definition: Definition) -> dict[str, str]:
    asked = definition.get("sysctls", {})
    if definition["network"]["mode"] in ("host", "container", "pod"):
        return asked
    # Datagram ICMP sockets for everybody inside: ping works without CAP_NET_RAW.
    return {"net.ipv4.ping_group_range": "0 0", **asked}


def _devices(place: SpecPlace) -> list[Device]:
    return [
        {
            "path": item["target"],
            "type": item["type"],
            "major": item["major"],
            "minor": item["minor"],
            "fileMode": item["mode"],
            "uid": item["uid"],
            "gid": item["gid"],
        }
        for item in place.get("devices", [])
    ]
