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
    network = item.get("network_result") or {}
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
            "Memory": item.get("resources", {}).get("memory_bytes", 0),
            "PidsLimit": item.get("resources", {}).get("pids", 0),
        },
        "NetworkSettings": {
            "IPAddress": _address(network),
            "Ports": network.get("ports") or item["network"].get("ports", []),
            "Networks": {entry.get("name", ""): entry for entry in network.get("networks", [])},
        },
        "Mounts": [_mount(mount) for mount in item.get("mounts", [])],
    }


def _words(item: dict[str, Any], image: dict[str, Any]) -> list[str]:
    from corral.errors import CorralError

    try:
        return argv(item, image)  # type: ignore[arg-type]
    except CorralError:
        return []


def _address(network: dict[str, Any]) -> str:
    for entry in network.get("networks", []):
        for address in entry.get("addresses", entry.get("ips", [])):
            return str(address).partition("/")[0]
    return ""


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
