"""``state --effective``: what limits were asked for, what stands in the kernel, and which ancestor really binds.

Plain ``state`` is the front's, without Python.
"""

from __future__ import annotations

import sys

from corral.cgroup.binding import effective, render_effective
from corral.cgroup.layout import read_layout
from corral.cgroup.limits import compile_limits
from corral.errors import InvalidArgument
from corral.oci.json import dumps
from corral.runtime.containers import open_container, open_container_group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.options import CommandLine


def run(line: CommandLine) -> int:
    """Print the limits of a container, as a table or as JSON."""
    if not line.flag("effective"):
        # The front could not read its arguments.
        line.container_id()
        raise InvalidArgument("state: this needs the flag --effective here", hint="`state ID` prints the state as JSON")
    record = open_container(line)
    config = record.read_config()
    resources = record.state.get("resources") or config.get("linux", {}).get("resources") or {}
    writes = compile_limits(resources, read_layout()).writes
    with open_container_group(record) as group:
        limits = effective(group, writes)
    if line.flag("json"):
        sys.stdout.write(dumps([limit.to_record() for limit in limits], indent=2) + "\n")
    else:
        sys.stdout.write(render_effective(limits))
    return 0
