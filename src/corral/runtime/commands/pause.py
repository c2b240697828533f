"""``pause`` and ``resume``: freeze and thaw all processes of a container."""

from __future__ import annotations

from corral.errors import FailedPrecondition
from corral.runtime.containers import open_container, open_container_group
from corral.runtime.record import CREATED, PAUSED, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.options import CommandLine

DEADLINE_S = 10.0


def run(line: CommandLine) -> int:
    """Freeze or thaw, as the command's name says. Resuming what is not paused is an error, as with runc."""
    record = open_container(line)
    wanted = (PAUSED,) if line.command == "resume" else (CREATED, RUNNING)
    if record.status not in wanted:
        # runc's words.
        cause = "container not paused" if line.command == "resume" else "container not running"
        raise FailedPrecondition(
            f"{line.command} container {record.container_id!r}: {cause}: it is {record.visible_status}",
            hint="resume needs a paused container, pause one that is not",
        )
    with open_container_group(record) as group:
        if line.command == "pause":
            group.freeze(deadline_s=DEADLINE_S)
        else:
            group.thaw(deadline_s=DEADLINE_S)
    return 0
