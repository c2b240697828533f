"""``corral port``."""

from __future__ import annotations

from corral.cli.context import write
from corral.cli.flags import FORMAT, Command
from corral.cli.render import print_json
from corral.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "port",
        "CONTAINER [PORT[/PROTOCOL]]",
        (FORMAT,),
        least=1,
        most=2,
        operands="container",
        examples=(("port web 80", "where port 80 of the container is on this host"),),
    ),
)


def run(line: Line, context: Context) -> int:
    """Show ports."""
    ports = context.verb("port", line.args[0])
    wanted = line.args[1] if len(line.args) > 1 else ""
    if wanted:
        number, _, protocol = wanted.partition("/")
        ports = [
            port for port in ports if str(port["container_port"]) == number and port["protocol"] == (protocol or "tcp")
        ]
        if not ports:
            raise NotFound(f"port {wanted!r} of container {line.args[0]!r}: not published")
    if line.text("format") == "json":
        print_json(ports)
        return 0
    for port in ports:
        address = port.get("host_ip") or "0.0.0.0"
        place = f"[{address}]" if ":" in address else address
        inside = "" if wanted else f"{port['container_port']}/{port['protocol']} -> "
        write(f"{inside}{place}:{port['host_port']}\n")
    return 0
