"""What ``ps`` and its like show of one object: texts under the names of Docker's and Podman's templates."""

from __future__ import annotations

import time

from corral.cli.render import ago, moment, port_text, short_id, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.cli.flags import Line
    from corral.cli.render import Shown

_COMMAND_WIDTH = 24


def container(row: dict[str, Any], line: Line) -> Shown:
    """A container as ``ps`` shows it."""
    command = " ".join(row.get("command") or [])
    if not line.has("no-trunc") and len(command) > _COMMAND_WIDTH:
        command = command[: _COMMAND_WIDTH - 1] + "…"
    labels = row.get("labels") or {}
    created = row.get("created_ns", 0)
    end = row.get("exit") or {}
    return {
        "ID": short_id(row["id"], line),
        "Names": row.get("name", ""),
        "Name": row.get("name", ""),
        "Image": row.get("image", ""),
        "ImageID": short_id(row.get("image_id", ""), line),
        "Command": command,
        "CreatedAt": moment(created),
        "Created": ago(created),
        "RunningFor": ago(created),
        "State": row.get("status", ""),
        "Status": status_text(row),
        "Ports": ", ".join(port_text(port) for port in row.get("ports") or []),
        "Labels": ",".join(f"{name}={value}" for name, value in labels.items()),
        "Mounts": ",".join(row.get("mounts") or []),
        "Networks": ",".join(row.get("networks") or []),
        "Pod": short_id(row.get("pod", ""), line),
        "Pid": row.get("pid", 0),
        "ExitCode": end.get("code") if end.get("code") is not None else "",
        "Restarts": row.get("restarts", 0),
    }


def status_text(row: dict[str, Any]) -> str:
    """``Up 5 minutes (healthy)``, ``Exited (0) 3 hours ago``: the words of Docker where there are some."""
    status = row.get("status", "")
    end = row.get("exit") or {}
    started = row.get("started_ns", 0)
    if status in ("running", "paused", "stopping"):
        text = f"Up {span(time.time() - started / 1e9)}" if started else "Up"
        if status != "running":
            text += f" ({status.capitalize()})"
    elif status == "exited":
        code = end.get("code")
        text = f"Exited ({'unknown' if code is None else code})"
        if end.get("finished_ns"):
            text += f" {ago(end['finished_ns'])}"
        if end.get("reason") == "OOMKilled":
            text += ", out of memory"
        if row.get("restart_in_s"):
            text += f", again in {row['restart_in_s']:.0f}s"
    elif status == "dead":
        text = "Dead: clean-up pending"
    elif status == "unreadable":
        text = f"Unreadable: {row.get('error', '')}"
    else:
        text = {"configured": "Created", "created": "Created"}.get(status, status.capitalize())
    health = (row.get("health") or {}).get("status")
    return f"{text} ({health})" if health and status in ("running", "paused") else text
