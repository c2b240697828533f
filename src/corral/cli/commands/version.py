"""``corral version``."""

from __future__ import annotations

from corral import __version__
from corral.cli.context import write
from corral.cli.flags import SHORT_FORMAT, Command
from corral.cli.render import print_json, print_template
from corral.oci.features import OCI_VERSION_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (Command("version", flags=(SHORT_FORMAT,), most=0),)


def run(line: Line, context: Context) -> int:
    """Print the version."""
    import posix
    import sys

    facts = {
        "Version": __version__,
        "OCIVersion": OCI_VERSION_MAX,
        "Python": ".".join(map(str, sys.version_info[:3])),
        "Kernel": posix.uname().release,
        "OSArch": f"linux/{posix.uname().machine}",
    }
    if line.text("format") == "json":
        print_json(facts)
    elif line.text("format"):
        print_template(line.text("format"), [{**facts, "Client": facts, "Server": facts}])
    else:
        write(f"corral {__version__}\n")
    return 0
