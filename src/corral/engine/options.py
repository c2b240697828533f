"""From options as Podman and Docker name them to a definition. The CLI, the library and the service all come here.

``options``: the long name without dashes -> text, bool, or a list of texts for what may be given more than once.
Reads nothing but what an option names (env files, sources of binds, devices); images, containers and networks are
resolved by the verb ``create``. Every error names flag and value.

Source: podman-run(1), docker-run(1).
"""

from __future__ import annotations

import posix

from corral.engine.definition import SCHEMA
from corral.engine.option_mounts import is_name, parse_mounts, parse_ports
from corral.engine.option_process import parse_health, parse_log, parse_process, parse_restart, parse_security
from corral.engine.option_values import (
    is_address,
    parse_choice,
    parse_decimal,
    parse_number,
    parse_pairs,
    parse_size,
    parse_words,
    read_lines,
    refuse,
    text,
    texts,
)
from corral.errors import InvalidArgument
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corral.engine.definition import Definition, Namespaces, Network, NetworkAttachment, Resources, RootSource

DEFAULT_PIDS = 2048
_MAX_INT = 2**63 - 1
_NETWORK_MODES = ("bridge", "host", "none", "pasta", "slirp4netns")
_PERIOD_US = 100_000


def definition_from(
    options: Mapping[str, object],
    image: str,
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    cwd: str = "/",
    is_rootless: bool = False,
) -> Definition:
    """A definition without id, time and resolved names: those are the verb's to fill in.

    ``image``: ``host``, an image's name, or with the option ``rootfs`` a directory. Raises: InvalidArgument, NotFound.
    """
    name = text(options, "name")
    if name and not is_name(name):
        raise refuse("name", name, "not a name", "letters, digits and _.- after a first letter or digit")
    definition: Definition = {
        "schema": SCHEMA,
        "id": "",
        "name": name,
        "created_ns": 0,
        "root": _root(options, image, cwd),
        "process": parse_process(options, command, environ),
        "network": {"mode": "none"},
    }
    definition["network"] = parse_network(options, definition["root"]["kind"], is_rootless=is_rootless)
    parts: dict[str, object] = {
        "namespaces": parse_namespaces(options),
        "mounts": parse_mounts(options, cwd),
        "devices": texts(options, "device"),
        "device_rules": [_device_rule(rule) for rule in texts(options, "device-cgroup-rule")],
        "resources": parse_resources(options, is_rootless=is_rootless),
        "security": parse_security(options, cwd),
        "health": parse_health(options),
        "restart": parse_restart(text(options, "restart")),
        "log": parse_log(options),
        "labels": _labels(options),
        "annotations": parse_pairs("annotation", texts(options, "annotation")),
        "sysctls": parse_pairs("sysctl", texts(options, "sysctl")),
        **_rest(options, cwd),
    }
    definition.update({key: value for key, value in parts.items() if value})  # type: ignore[typeddict-item]
    _check(definition)
    return definition


def _root(options: Mapping[str, object], image: str, cwd: str) -> RootSource:
    if options.get("rootfs"):
        # As Podman: the directory itself, and `:O` for an overlay that leaves it as it is.
        path, colon, word = image.rpartition(":")
        is_overlay = bool(colon) and word == "O"
        folder = paths.normpath(paths.join(cwd, path if is_overlay else image))
        if not paths.isdir(folder):
            raise refuse("rootfs", image, "not a directory", "name a directory that holds a root filesystem")
        return {"kind": "rootfs", "path": folder, "is_direct": not is_overlay}
    if image == "host":
        return {"kind": "host"}
    if not image:
        raise InvalidArgument("run: no image given", hint="name an image, or `host` for this machine's own root")
    return {"kind": "image", "image": image}


def _device_rule(rule: str) -> str:
    parts = rule.split()
    numbers = parts[1].split(":") if len(parts) == 3 else []
    if (
        len(numbers) != 2
        or parts[0] not in ("a", "b", "c")
        or not set(parts[2]) <= set("rwm")
        or not all(item == "*" or (item.isascii() and item.isdecimal()) for item in numbers)
    ):
        raise refuse("device-cgroup-rule", rule, "not a rule", "as in 'c 1:3 rwm', with * for all numbers")
    return rule


def _labels(options: Mapping[str, object]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in texts(options, "label-file"):
        found.update(parse_pairs("label-file", read_lines("label-file", path), needs_value=False))
    found.update(parse_pairs("label", texts(options, "label"), needs_value=False))
    return found


def _rest(options: Mapping[str, object], cwd: str) -> dict[str, object]:
    found: dict[str, object] = {
        "hostname": text(options, "hostname"),
        "domainname": text(options, "domainname"),
        "cgroup_parent": text(options, "cgroup-parent"),
        "pod": text(options, "pod"),
        "auto_remove": bool(options.get("rm")),
        "no_hosts": bool(options.get("no-hosts")),
    }
    if text(options, "cgroups"):
        word = parse_choice("cgroups", text(options, "cgroups"), ("enabled", "disabled"))
        found["cgroup_manager"] = "disabled" if word == "disabled" else ""
    if text(options, "cgroup-manager"):
        managers = ("cgroupfs", "systemd", "direct")
        found["cgroup_manager"] = parse_choice("cgroup-manager", text(options, "cgroup-manager"), managers)
    if text(options, "pid-file"):
        found["pid_file"] = paths.normpath(paths.join(cwd, text(options, "pid-file")))
    for name, value in parse_pairs("storage-opt", texts(options, "storage-opt")).items():
        if name != "size":
            raise refuse("storage-opt", f"{name}={value}", f"unknown option {name!r}", "as in --storage-opt size=10g")
        found["storage_bytes"] = parse_size("storage-opt", value)
    if text(options, "shm-size"):
        found["shm_bytes"] = parse_size("shm-size", text(options, "shm-size"))
    return found


def parse_namespaces(options: Mapping[str, object]) -> Namespaces:
    """``--pid``, ``--ipc``, ``--uts``, ``--cgroupns``, ``--userns``, ``--uidmap``, ``--gidmap``."""
    found: dict[str, object] = {}
    for flag, key in (("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"), ("cgroupns", "cgroup"), ("userns", "user")):
        value = text(options, flag)
        if not value:
            continue
        base, _, rest = value.partition(":")
        good = ("private", "host", "container", "pod", "shareable", "none") if flag != "userns" else _USER_MODES
        if base not in good or (base == "container" and not rest):
            raise refuse(flag, value, "no such choice", f"one of {', '.join(good)}; container:NAME shares another's")
        # Every namespace here can be shared, so Docker's "shareable" is private.
        found[key] = "private" if base in ("shareable", "none") else value
    for flag in ("uidmap", "gidmap"):
        maps = [_id_map(flag, item) for item in texts(options, flag)]
        if maps:
            found[flag.replace("map", "_map")] = maps
    if ("uid_map" in found) != ("gid_map" in found):
        # One alone is for both, as in Podman.
        found["uid_map"] = found["gid_map"] = found.get("uid_map") or found.get("gid_map")
    return found  # type: ignore[return-value]


_USER_MODES = ("private", "host", "container", "pod", "auto", "keep-id", "nomap")


def _id_map(flag: str, value: str) -> tuple[int, int, int]:
    parts = value.split(":")
    if len(parts) not in (2, 3):
        raise refuse(flag, value, "not a map", "as in 0:100000:65536, inside:outside:size")
    numbers = [parse_number(flag, part, 0, 2**32 - 2) for part in parts]
    return numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else 1


def parse_network(options: Mapping[str, object], root: str, *, is_rootless: bool) -> Network:
    """``--network`` and everything around it.

    Without a word: a pod's members share the pod's; ``host`` runs without a network (it is for running a command, and
    starts faster); all others get a bridge, rootless pasta.
    """
    given = texts(options, "network")
    default = "pod" if text(options, "pod") else "none" if root == "host" else "pasta" if is_rootless else "bridge"
    found: Network = {"mode": "bridge"}
    attachments: list[NetworkAttachment] = []
    for value in given or [default]:
        base, _, rest = value.partition(":")
        if base == "container":
            if not rest:
                raise refuse("network", value, "no container named", "as in --network container:web")
            found["mode"], found["container"] = "container", rest
        elif base in _NETWORK_MODES or base == "pod":
            if len(given) > 1 and base != "bridge":
                raise refuse("network", value, "excludes other networks", f"give --network {base} alone")
            found["mode"] = base  # type: ignore[typeddict-item]
            if rest and base in ("pasta", "slirp4netns"):
                found["options"] = [word for word in rest.split(",") if word]
            if rest and base == "bridge":
                attachments.append(_attachment("", value, rest))
        else:
            attachments.append(_attachment(base, value, rest))
    _address(options, attachments)
    ports = parse_ports(texts(options, "publish"))
    if ports and found["mode"] in ("host", "none", "container", "pod") and not attachments:
        if not given and found["mode"] == "none":
            found["mode"] = "pasta" if is_rootless else "bridge"
        else:
            hint = "publish ports on the pod" if found["mode"] == "pod" else "choose --network bridge"
            raise refuse("publish", texts(options, "publish")[0], f"no use with --network {found['mode']}", hint)
    extras: dict[str, object] = {
        "attachments": attachments,
        "ports": ports,
        "publish_all": bool(options.get("publish-all")),
        "dns": [_server(item) for item in texts(options, "dns")],
        "dns_search": [_resolver_word("dns-search", item) for item in texts(options, "dns-search")],
        "dns_options": [_resolver_word("dns-option", item) for item in texts(options, "dns-option")],
        "extra_hosts": [_host(item) for item in texts(options, "add-host")],
    }
    found.update({key: value for key, value in extras.items() if value})  # type: ignore[typeddict-item]
    return found


def _attachment(name: str, value: str, rest: str) -> NetworkAttachment:
    if name and not is_name(name):
        raise refuse("network", value, f"{name!r} is no network's name", "`corral network ls` lists them")
    found: NetworkAttachment = {"name": name}
    for word, content in (parse_words("network", rest) if rest else {}).items():
        if word == "alias":
            found.setdefault("aliases", []).append(content)
        elif word == "ip":
            found["ip"] = content
        elif word == "mac":
            found["mac"] = content
        elif word == "interface_name":
            found["interface"] = content
        else:
            raise refuse("network", value, f"unknown word {word!r}", "one of alias, ip, mac, interface_name")
    return found


def _address(options: Mapping[str, object], attachments: list[NetworkAttachment]) -> None:
    """--ip, --mac-address and --network-alias belong to the one network that there is."""
    address, mac, aliases = text(options, "ip"), text(options, "mac-address"), texts(options, "network-alias")
    if not (address or mac or aliases):
        return
    if len(attachments) > 1 and (address or mac):
        flag = "ip" if address else "mac-address"
        raise refuse(flag, address or mac, "ambiguous with several networks", "as in --network NAME:ip=10.0.0.2")
    if not attachments:
        attachments.append({"name": ""})
    if address:
        attachments[0]["ip"] = address
    if mac:
        attachments[0]["mac"] = mac
    for item in attachments if aliases else ():
        item["aliases"] = [*item.get("aliases", []), *aliases]


def _server(value: str) -> str:
    if not is_address(value):
        raise refuse("dns", value, "no IP address", "as in --dns 192.0.2.53")
    return value


def _resolver_word(flag: str, value: str) -> str:
    """What goes into a line of resolv.conf has no room for a second one."""
    if value.split() != [value] or not value.isprintable():
        raise refuse(flag, value, "more than one word", f"give --{flag} once for each")
    return value


def _host(value: str) -> str:
    name, colon, address = value.partition(":")
    if not name or not colon or not address or len(value.split()) != 1 or not value.isprintable():
        raise refuse("add-host", value, "not of the form NAME:ADDRESS", "as in --add-host db:10.0.0.5")
    return value


def parse_resources(options: Mapping[str, object], *, is_rootless: bool = False, is_update: bool = False) -> Resources:
    """Limits of the command line. Without a word on processes, root's containers may have 2048 of them."""
    found: dict[str, object] = {}
    for flag, key in (("memory", "memory_bytes"), ("memory-reservation", "memory_reservation_bytes")):
        if text(options, flag):
            found[key] = parse_size(flag, text(options, flag))
    swap = text(options, "memory-swap")
    if swap:
        found["memory_swap_bytes"] = -1 if swap == "-1" else parse_size("memory-swap", swap)
    for flag, key, low, high in _NUMBERS:
        if text(options, flag):
            found[key] = parse_number(flag, text(options, flag), low, high)
    if text(options, "cpus"):
        if "cpu_quota_us" in found:
            raise refuse("cpus", text(options, "cpus"), "excludes --cpu-quota", "give one of the two")
        period = found.setdefault("cpu_period_us", _PERIOD_US)
        assert isinstance(period, int)
        found["cpu_quota_us"] = round(parse_decimal("cpus", text(options, "cpus"), 0.001, 1e6) * period)
    for flag, key in (("cpuset-cpus", "cpuset_cpus"), ("cpuset-mems", "cpuset_mems")):
        if text(options, flag):
            found[key] = text(options, flag)
    if found.get("pids") in (0, -1):
        found["pids"] = -1
    elif "pids" not in found and not is_rootless and not is_update and text(options, "cgroups") != "disabled":
        found["pids"] = DEFAULT_PIDS
    if options.get("oom-kill-disable"):
        found["oom_kill_disable"] = True
    unified = parse_pairs("cgroup-conf", texts(options, "cgroup-conf"))
    if unified:
        found["unified"] = unified
    limits = [limit for flag in _THROTTLES for limit in _throttles(options, flag)]
    if limits:
        found["device_limits"] = limits
    return found  # type: ignore[return-value]


_NUMBERS = (
    ("memory-swappiness", "memory_swappiness", 0, 100),
    ("cpu-quota", "cpu_quota_us", -1, _MAX_INT),
    ("cpu-period", "cpu_period_us", 1000, 1_000_000),
    ("cpu-shares", "cpu_shares", 2, 262144),
    ("pids-limit", "pids", -1, _MAX_INT),
    ("blkio-weight", "blkio_weight", 10, 1000),
    ("oom-score-adj", "oom_score_adj", -1000, 1000),
)
_THROTTLES = ("device-read-bps", "device-write-bps", "device-read-iops", "device-write-iops")


def _throttles(options: Mapping[str, object], flag: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for value in texts(options, flag):
        path, _, rate = value.rpartition(":")
        amount = parse_size(flag, rate) if flag.endswith("bps") else parse_number(flag, rate, 1, _MAX_INT)
        try:
            number = posix.stat(path).st_rdev
        except OSError as exc:
            cause = posix.strerror(exc.errno or 0).lower()
            raise refuse(flag, value, f"{path}: {cause}", "as in /dev/sda:10mb") from exc
        kind = flag.removeprefix("device-").replace("-", "_")
        found.append({"kind": kind, "major": posix.major(number), "minor": posix.minor(number), "rate": amount})
    return found


def _check(definition: Definition) -> None:
    """What two options say together and cannot both be."""
    policy = definition.get("restart", {}).get("policy", "no")
    if definition.get("auto_remove") and policy != "no":
        raise refuse("restart", policy, "excludes --rm", "a container that is removed when it ends cannot start again")
    network = definition["network"]["mode"]
    hidden = definition.get("namespaces", {}).get("uts") == "host"
    if definition.get("hostname") and hidden:
        raise refuse("hostname", definition["hostname"], "excludes --uts host", "the name would be the host's own")
    if definition.get("sysctls") and network == "host":
        names = [name for name in definition["sysctls"] if name.startswith("net.")]
        if names:
            raise refuse("sysctl", names[0], "excludes --network host", "the setting would be the host's own")
