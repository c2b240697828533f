"""``corral pod create|ps|inspect|start|stop|rm``."""

from __future__ import annotations

from corral.cli.context import write
from corral.cli.each import for_each
from corral.cli.flags import (
    ALL,
    FILTER,
    FORMAT,
    LONG_FILTER,
    NO_HEADING,
    NO_TRUNC,
    QUIET,
    SHORT_FORMAT,
    Command,
    many,
    switch,
    value,
)
from corral.cli.render import Blank, ago, print_json, print_list, print_template, short_id
from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.cli.context import Context
    from corral.cli.flags import Line
    from corral.cli.render import Shown

COMMANDS = (
    Command(
        "pod create",
        "[NAME]",
        (
            value("name", "NAME", "the pod's name", "n"),
            value("share", "LIST", "the namespaces that its containers share (default net,ipc,uts)"),
            many("label", "NAME=VALUE", "a label", "l"),
            many("publish", "[IP:][HOST:]INSIDE[/PROTOCOL]", "publish a port of the pod", "p"),
            many("network", "MODE|NAME", "the network of the pod", complete="network-mode"),
            value("hostname", "NAME", "the pod's host name"),
            value("cgroup-parent", "PATH", "the control group above the pod's"),
            many("dns", "ADDRESS", "a name server"),
            many("add-host", "NAME:ADDRESS", "a line of /etc/hosts"),
            switch("replace", "remove a pod of the same name first"),
        ),
        most=1,
        text="A pod is a group of containers that share a network, and more. Prints its id.",
        examples=(("pod create -p 8080:80 site", "then: corral run -d --pod site nginx"),),
    ),
    Command("pod ps", flags=(FILTER, FORMAT, NO_HEADING, NO_TRUNC, QUIET), most=0),
    Command("pod inspect", "POD...", (SHORT_FORMAT,), least=1, operands="pod"),
    Command("pod start", "POD...", (ALL,), operands="pod"),
    Command(
        "pod stop",
        "POD...",
        (ALL, value("time", "SECONDS", "how long to wait before SIGKILL (default: each container's)", "t")),
        operands="pod",
    ),
    Command("pod rm", "POD...", (ALL, LONG_FILTER, switch("force", "kill its containers first", "f")), operands="pod"),
)
_FILTERS = ("id", "name", "status")
_COLUMNS = (
    ("POD ID", "ID"),
    ("NAME", "Name"),
    ("STATUS", "Status"),
    ("CREATED", "Created"),
    ("CONTAINERS", "NumberOfContainers"),
)


def run(line: Line, context: Context) -> int:
    """Work on pods."""
    word = line.command.partition(" ")[2]
    if word == "create":
        return _create(line, context)
    if word == "ps":
        rows = _filtered(line, context)
        print_list(line, [(row, _shown(row, line)) for row in rows], _COLUMNS, blank=_shown(Blank(), line))
        return 0
    if word == "inspect":
        found = [context.verb("pod_inspect", name) for name in line.args]
        if line.text("format") and line.text("format") != "json":
            print_template(line.text("format"), found)
        else:
            print_json(found)
        return 0
    names = list(line.args)
    if line.has("all") or line.texts("filter"):
        names += [row["id"] for row in _filtered(line, context)]
    elif not names:
        raise InvalidArgument(f"{line.command}: no pod named", hint="name pods, or give --all")
    options: dict[str, Any] = {}
    if word == "stop" and line.text("time"):
        options["timeout_s"] = float(line.number("time", 10))
    if word == "rm":
        options["force"] = line.has("force")
    return for_each(line, names, lambda name: context.verb(f"pod_{word}", name, **options))


def _filtered(line: Line, context: Context) -> list[dict[str, Any]]:
    from corral.engine.rowfilters import check_filters, is_wanted

    filters = line.texts("filter")
    check_filters(filters, _FILTERS)
    return [row for row in context.verb("pod_ps") if is_wanted(row, filters, _FILTERS)]


def _create(line: Line, context: Context) -> int:
    from corral.engine.option_values import parse_pairs
    from corral.engine.options import parse_network
    from corral.engine.places import is_rootless
    from corral.errors import NotFound

    name = line.args[0] if line.args else line.text("name")
    request: dict[str, Any] = {
        "name": name,
        "share": [word for word in line.text("share", "net,ipc,uts").split(",") if word not in ("", "none")],
        "labels": parse_pairs("label", line.texts("label"), needs_value=False),
        "network": parse_network(line.values, "image", is_rootless=is_rootless()),
    }
    for flag, key in (("hostname", "hostname"), ("cgroup-parent", "cgroup_parent")):
        if line.text(flag):
            request[key] = line.text(flag)
    if line.has("replace") and name:
        try:
            context.verb("pod_rm", name, force=True)
        except NotFound:
            pass  # there is none
    write(f"{context.verb('pod_create', request)['id']}\n")
    return 0


def _shown(row: dict[str, Any], line: Line) -> Shown:
    return {
        "ID": short_id(row["id"], line),
        "Name": row.get("name", ""),
        "Status": str(row.get("status", "")).capitalize(),
        "Created": ago(row.get("created_ns", 0)),
        "NumberOfContainers": len(row.get("containers", [])),
        "InfraID": short_id(row.get("infra", ""), line),
        "Labels": ",".join(f"{key}={value}" for key, value in (row.get("labels") or {}).items()),
    }
