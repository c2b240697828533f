"""``spec``: write a config.json to start from."""

from __future__ import annotations

import os

from corral.errors import AlreadyExists, NotFound
from corral.oci.default_spec import default_spec
from corral.oci.json import dumps
from corral.runtime.host import read_layout_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.options import CommandLine


def run(line: CommandLine) -> int:
    """Write ``config.json`` into the bundle; an existing one is never overwritten."""
    rootless = line.flag("rootless")
    document = default_spec(
        rootless=rootless,
        uid=os.geteuid(),
        gid=os.getegid(),
        has_cgroup_namespace=read_layout_of("self").mode == "v2",
    )
    path = os.path.join(line.text("bundle") or ".", "config.json")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError as exc:
        raise AlreadyExists(
            f"write {path}: file exists; remove it first", hint="or choose another bundle with --bundle", path=path
        ) from exc
    except FileNotFoundError as exc:
        raise NotFound(f"write {path}: no such directory", hint="make the bundle's directory first", path=path) from exc
    with open(fd, "w", encoding="utf-8") as file:
        file.write(dumps(document, indent=4))
    return 0
