"""``corral network create|ls|inspect|rm|prune|connect|disconnect``."""

from __future__ import annotations

from corral.cli.context import write
from corral.cli.each import for_each
from corral.cli.flags import FILTER, FORMAT, NO_HEADING, QUIET, SHORT_FORMAT, Command, many, switch, value
from corral.cli.render import Blank, print_json, print_list, print_template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.cli.context import Context
    from corral.cli.flags import Line
    from corral.cli.render import Shown

COMMANDS = (
    Command(
        "network create",
        "NAME",
        (
            value("driver", "NAME", "the CNI plugin (default bridge)", "d", "bridge|macvlan|ipvlan"),
            many("subnet", "CIDR", "a range of addresses, as in 10.90.0.0/24 (default: a free one)"),
            many("gateway", "ADDRESS", "the gateway in it (default: the first address)"),
            switch("internal", "no way out of it"),
            switch("ipv6", "IPv6 too"),
            many("opt", "NAME=VALUE", "an option of the plugin, as in mtu=1400", "o"),
            many("label", "NAME=VALUE", "a label"),
        ),
        least=1,
        most=1,
    ),
    Command("network ls", flags=(FILTER, FORMAT, NO_HEADING, QUIET), most=0),
    Command("network inspect", "NETWORK...", (SHORT_FORMAT,), least=1, operands="network"),
    Command(
        "network rm",
        "NETWORK...",
        (switch("force", "one that is not there is no error", "f"),),
        least=1,
        operands="network",
    ),
    Command("network prune", flags=(switch("force", "kept for scripts: nothing is asked", "f"),), most=0),
    Command(
        "network connect",
        "NETWORK CONTAINER",
        (many("alias", "NAME", "a further name on the network"), value("ip", "ADDRESS", "the address")),
        least=2,
        most=2,
        operands="network container",
    ),
    Command("network disconnect", "NETWORK CONTAINER", least=2, most=2, operands="network container"),
)
_COLUMNS = (("NAME", "Name"), ("DRIVER", "Driver"), ("SUBNETS", "Subnets"))


def run(line: Line, context: Context) -> int:
    """Work on networks."""
    word = line.command.partition(" ")[2]
    if word == "create":
        return _create(line, context)
    if word == "ls":
        rows = context.verb("network_ls", filters=line.texts("filter"))
        print_list(line, [(row, _shown(row)) for row in rows], _COLUMNS, quiet="Name", blank=_shown(Blank()))
    elif word == "inspect":
        found = [context.verb("network_inspect", name) for name in line.args]
        if line.text("format") and line.text("format") != "json":
            print_template(line.text("format"), [{**row, **_shown(row)} for row in found])
        else:
            print_json(found)
    elif word == "prune":
        for name in context.verb("network_prune"):
            write(f"{name}\n")
    elif word == "connect":
        options: dict[str, Any] = {"aliases": line.texts("alias"), "ip": line.text("ip")}
        context.verb("network_connect", line.args[0], line.args[1], **options)
    elif word == "disconnect":
        context.verb("network_disconnect", line.args[0], line.args[1])
    else:
        ignore = line.has("force")
        return for_each(line, line.args, lambda name: context.verb("network_rm", name), ignore_missing=ignore)
    return 0


def _create(line: Line, context: Context) -> int:
    from corral.engine.option_values import parse_pairs

    made = context.verb(
        "network_create",
        {
            "name": line.args[0],
            "driver": line.text("driver", "bridge"),
            "subnets": line.texts("subnet"),
            "gateways": line.texts("gateway"),
            "internal": line.has("internal"),
            "ipv6": line.has("ipv6"),
            "options": parse_pairs("opt", line.texts("opt")),
            "labels": parse_pairs("label", line.texts("label"), needs_value=False),
        },
    )
    write(f"{made['name']}\n")
    return 0


def _shown(row: dict[str, Any]) -> Shown:
    return {
        "Name": row["name"],
        "Driver": row.get("driver", ""),
        "Subnets": ", ".join(row.get("subnets", [])),
        "Labels": ",".join(f"{key}={value}" for key, value in (row.get("labels") or {}).items()),
    }
