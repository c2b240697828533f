"""The ``mounts`` of config.json: what every container has, then what was asked for, each place once. Pure.

Source: runtime-spec config.md "Mounts", config-linux.md "Default Filesystems"; mount(8); podman-run(1) "--volume".
"""

from __future__ import annotations

from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.engine.definition import Definition, SpecPlace
    from corral.engine.definition import Mount as Asked
    from corral.oci.spec import Mount

INIT_PATH = "/run/corral-init"
_SHM_BYTES = 64 * 1024 * 1024

# The engine's own words among a mount's options: acted on elsewhere, or meaningless to the kernel.
_OURS = frozenset(("U", "z", "Z", "copy", "nocopy", "rw", "ro", "notmpcopyup", "consistent", "cached", "delegated"))
_PROPAGATION = frozenset("shared rshared slave rslave private rprivate unbindable runbindable".split())
# A mount of one's own on these replaces everything that would have been mounted beneath.
_WHOLE = ("/dev", "/proc", "/sys")


def compile_mounts(definition: Definition, place: SpecPlace) -> list[Mount]:
    """All mounts in the order in which they are made: defaults, the engine's files, then the user's by depth."""
    # Of an image's directory the content belongs to the container; of this host's /tmp it does not.
    copies_up = definition["root"]["kind"] != "host"
    asked = {_clean(item["target"]): _asked_mount(item, place, copies_up) for item in definition.get("mounts", [])}
    ours = [*_defaults(definition, place), *_files(definition, place)]
    kept = [mount for mount in ours if not _is_replaced(mount["destination"], asked)]
    # A parent before what lies in it: sorted by depth, and stable otherwise.
    return kept + sorted(asked.values(), key=lambda mount: mount["destination"].count("/"))


def _clean(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _is_replaced(destination: str, asked: dict[str, Mount]) -> bool:
    return destination in asked or any(
        top in asked and asked[top].get("type") != "tmpfs" and destination.startswith(top + "/") for top in _WHOLE
    )


def _mount(destination: str, kind: str, source: str, *options: str) -> Mount:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _defaults(definition: Definition, place: SpecPlace) -> list[Mount]:
    modes = definition.get("namespaces", {})
    security = definition.get("security", {})
    is_mapped = bool(modes.get("uid_map")) or "user" in place.get("namespaces", {})
    is_privileged = bool(security.get("privileged"))
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if _has_gid(definition, place, 5):
        pts.append("gid=5")  # the group tty
    found = []
    if modes.get("pid") == "host" and is_mapped:
        # A new procfs of a pid namespace that belongs to another user namespace: the kernel refuses it.
        found.append(_mount("/proc", "bind", "/proc", "rbind", "nosuid", "noexec", "nodev"))
    else:
        found.append(_mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"))
    found.append(_mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"))
    found.append(_mount("/dev/pts", "devpts", "devpts", *pts))
    found.append(_shm(definition, place))
    if modes.get("ipc") == "host" and is_mapped:
        found.append(_mount("/dev/mqueue", "bind", "/dev/mqueue", "rbind", "nosuid", "noexec", "nodev"))
    else:
        found.append(_mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"))
    access = "rw" if is_privileged else "ro"
    if is_mapped and definition["network"]["mode"] in ("host", "container", "pod"):
        # A new sysfs needs a network namespace that belongs to the same user namespace.
        found.append(_mount("/sys", "bind", "/sys", "rbind", "nosuid", "noexec", "nodev", access))
    else:
        found.append(_mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", access))
    writable = is_privileged or bool(security.get("writable_cgroups"))
    found.append(
        _mount(
            "/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "rw" if writable else "ro"
        )
    )
    return found


def _has_gid(definition: Definition, place: SpecPlace, gid: int) -> bool:
    mappings = definition.get("namespaces", {}).get("gid_map") or place.get("gid_map", [])
    return not mappings or any(inside <= gid < inside + size for inside, _, size in mappings)


def _shm(definition: Definition, place: SpecPlace) -> Mount:
    if definition.get("namespaces", {}).get("ipc") == "host":
        return _mount("/dev/shm", "bind", "/dev/shm", "rbind", "nosuid", "noexec", "nodev")
    if place.get("shm"):
        return _mount("/dev/shm", "bind", place["shm"], "bind", "nosuid", "noexec", "nodev")
    size = definition.get("shm_bytes", _SHM_BYTES)
    return _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", f"size={size}")


def _files(definition: Definition, place: SpecPlace) -> list[Mount]:
    found = []
    for inside, outside in place.get("files", {}).items():
        access = "ro" if definition.get("security", {}).get("read_only") else "rw"
        found.append(_mount(inside, "bind", outside, "bind", "rprivate", "nosuid", "nodev", access))
    if definition["process"].get("init"):
        found.append(_mount(INIT_PATH, "bind", place.get("init", ""), "bind", "rprivate", "ro", "nosuid", "nodev"))
    return found


def _asked_mount(item: Asked, place: SpecPlace, copies_up: bool) -> Mount:
    options = item.get("options", [])
    access = "ro" if "ro" in options else "rw"
    rest = [word for word in options if word not in _OURS]
    target = _clean(item["target"])
    if target == "/":
        raise InvalidArgument("mount on /: it is the container's root", hint="mount on a directory below it")
    if item["type"] == "tmpfs":
        if copies_up and "notmpcopyup" not in options and "tmpcopyup" not in rest:
            rest.append("tmpcopyup")
        return _tmpfs(target, access, rest)
    if item["type"] == "volume" and item.get("source") in place.get("volume_devices", {}):
        return _device(
            target, place["volume_devices"][item["source"]], [word for word in rest if word != access], access
        )
    source = _source(item, place)
    if not {"bind", "rbind"} & set(rest):
        rest.insert(0, "rbind")
    if not _PROPAGATION & set(rest):
        rest.append("rprivate")
    if item["type"] == "volume":
        rest += [word for word in ("nosuid", "nodev") if word.removeprefix("no") not in rest and word not in rest]
    if item["type"] == "image":
        access = "ro" if "rw" not in options else access
    return _mount(target, "bind", source, *rest, access)


def _tmpfs(target: str, access: str, rest: list[str]) -> Mount:
    closed = [word for word in ("nosuid", "nodev", "noexec") if word.removeprefix("no") not in rest]
    return _mount(target, "tmpfs", "tmpfs", *dict.fromkeys((*rest, *closed)), access)


def _device(target: str, volume: dict[str, str], rest: list[str], access: str) -> Mount:
    """A volume that is a filesystem of its own."""
    words = [word for word in volume.get("o", "").split(",") if word]
    closed = [word for word in ("nosuid", "nodev") if word.removeprefix("no") not in words]
    return _mount(target, volume["type"], volume["device"], *dict.fromkeys((*words, *rest, *closed)), access)


def _source(item: Asked, place: SpecPlace) -> str:
    source = item.get("source", "")
    if item["type"] == "bind":
        return source
    known = place.get("volumes", {}) if item["type"] == "volume" else place.get("images", {})
    if source not in known:
        raise InvalidArgument(f"mount {item['type']} {source!r} on {item['target']}: it is not known where it is")
    return known[source]
