"""What templates written for ``docker inspect`` and ``podman inspect`` look for, from Corral's own answer."""

from __future__ import annotations

from corral.cli.render import moment
from corral.engine.spec import argv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def container_names(item: dict[str, Any]) -> dict[str, Any]:
    """``.Id``, ``.State``, ``.Config``, ``.HostConfig``, ``.NetworkSettings``, ``.Mounts`` of a container."""
    state = item.get("state", {})
    end = state.get("exit") or {}
    process = item["process"]
    image = item.get("image_config") or {}
    words = _words(item, image)
    return {
        "Id": item["id"],
        "Name": item["name"],
        "Created": moment(item["created_ns"]),
        "Path": words[0] if words else "",
        "Args": words[1:],
        "Image": item["root"].get("image_id", ""),
        "ImageName": item["root"].get("image") or item["root"]["kind"],
        "RestartCount": state.get("restarts", 0),
        "State": {
            "Status": state.get("status", ""),
            "Running": state.get("status") in ("running", "stopping"),
            "Paused": state.get("status") == "paused",
            "Pid": state.get("pid", 0),
            "ExitCode": end.get("code") if end.get("code") is not None else "unknown" if end else 0,
            "OOMKilled": end.get("reason") == "OOMKilled",
            "Error": state.get("error", ""),
            "StartedAt": moment(state.get("started_ns", 0)),
            "FinishedAt": moment(end.get("finished_ns", 0)),
            "Health": {"Status": "", **{key.title(): value for key, value in (state.get("health") or {}).items()}},
        },
        "Config": {
            "Image": item["root"].get("image") or item["root"]["kind"],
            "Cmd": process.get("command") or image.get("command", []),
            "Entrypoint": process.get("entrypoint", image.get("entrypoint", [])),
            "Env": [*image.get("env", []), *process.get("env", [])],
            "User": process.get("user") or image.get("user", ""),
            "WorkingDir": process.get("workdir") or image.get("workdir", ""),
            "Labels": {**image.get("labels", {}), **item.get("labels", {})},
            "Tty": bool(process.get("terminal")),
            "OpenStdin": bool(process.get("stdin")),
            "Hostname": item.get("hostname") or item["id"][:12],
            "StopSignal": process.get("stop_signal") or image.get("stop_signal", "SIGTERM"),
        },
        "HostConfig": {
            "NetworkMode": item["network"]["mode"],
            "RestartPolicy": {
                "Name": item.get("restart", {}).get("policy", "no"),
                "MaximumRetryCount": item.get("restart", {}).get("max_retries", 0),
            },
            "AutoRemove": bool(item.get("auto_remove")),
            "Privileged": bool(item.get("security", {}).get("privileged")),
            "ReadonlyRootfs": bool(item.get("security", {}).get("read_only")),
            "PortBindings": _ports(item["network"].get("ports", [])),
            **_limits(item.get("resources", {})),
        },
        "NetworkSettings": _network(item, item.get("network_result") or {}),
        "LogPath": item.get("paths", {}).get("log", ""),
        "Mounts": [_mount(mount) for mount in item.get("mounts", [])],
    }


def _words(item: dict[str, Any], image: dict[str, Any]) -> list[str]:
    from corral.errors import CorralError

    try:
        return argv(item, image)  # type: ignore[arg-type]
    except CorralError:
        return []


def _limits(resources: dict[str, Any]) -> dict[str, Any]:
    quota, period = resources.get("cpu_quota_us", 0), resources.get("cpu_period_us", 100_000)
    return {
        "Memory": resources.get("memory_bytes", 0),
        "MemorySwap": resources.get("memory_swap_bytes", 0),
        "NanoCpus": quota * 1_000_000_000 // period if quota > 0 else 0,
        "CpuShares": resources.get("cpu_shares", 0),
        "CpusetCpus": resources.get("cpuset_cpus", ""),
        "PidsLimit": resources.get("pids", 0),
    }


def _network(item: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    networks = {entry.get("name", ""): {**entry, **_membership(entry)} for entry in result.get("networks", [])}
    first = next(iter(networks.values()), _membership({}))
    return {
        **{name: first[name] for name in ("IPAddress", "IPPrefixLen", "Gateway", "GlobalIPv6Address", "MacAddress")},
        "Ports": _ports(result.get("ports") or item["network"].get("ports", [])),
        "Networks": networks,
    }


def _membership(entry: dict[str, Any]) -> dict[str, Any]:
    """What a container is on one network: the first address of each kind."""
    four, six = _addresses(entry.get("addresses", []))
    return {
        "IPAddress": four[0],
        "IPPrefixLen": four[1],
        "Gateway": _addresses(entry.get("gateways", []))[0][0],
        "GlobalIPv6Address": six[0],
        "GlobalIPv6PrefixLen": six[1],
        "MacAddress": entry.get("mac", ""),
        "Aliases": entry.get("aliases", []),
    }


def _addresses(texts: list[str]) -> list[tuple[str, int]]:
    """The first address and length of its prefix, of version 4 and of version 6."""
    found = []
    for is_wanted in (False, True):
        address, _, bits = next((text for text in texts if (":" in text) == is_wanted), "").partition("/")
        found.append((address, int(bits or 0)))
    return found


def _ports(ports: list[dict[str, Any]]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        places = found.setdefault(f"{port['container_port']}/{port['protocol']}", [])
        places.append({"HostIp": port.get("host_ip") or "0.0.0.0", "HostPort": str(port["host_port"])})
    return found


def _mount(mount: dict[str, Any]) -> dict[str, Any]:
    options = mount.get("options", [])
    return {
        "Type": mount["type"],
        "Name": mount.get("source", "") if mount["type"] == "volume" else "",
        "Source": mount.get("source", ""),
        "Destination": mount["target"],
        "Mode": ",".join(options),
        "RW": "ro" not in options,
    }


def image_names(item: dict[str, Any]) -> dict[str, Any]:
    """``.Id``, ``.RepoTags``, ``.Config`` ... of an image."""
    config = item.get("config") or {}
    return {
        "Id": item["id"],
        "RepoTags": item.get("names", []),
        "RepoDigests": item.get("repo_digests", []),
        "Digest": item.get("digest", ""),
        "Created": item.get("created", ""),
        "Size": item.get("size_bytes", 0),
        "Architecture": item.get("architecture", ""),
        "Os": item.get("os", ""),
        "Author": item.get("author", ""),
        "Config": {
            "Cmd": config.get("command", []),
            "Entrypoint": config.get("entrypoint", []),
            "Env": config.get("env", []),
            "User": config.get("user", ""),
            "WorkingDir": config.get("workdir", ""),
            "Labels": config.get("labels", {}),
            "StopSignal": config.get("stop_signal", ""),
        },
        "RootFS": {"Type": "layers", "Layers": [layer["diff_id"] for layer in item.get("layers", [])]},
    }
