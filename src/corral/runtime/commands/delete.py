"""``delete --regex``: crun's way to remove many containers at once. One id is the front's own work."""

from __future__ import annotations

import os
import sys

from corral.errors import InvalidArgument, NotFound
from corral.runtime.containers import absolute_root
from corral.runtime.record import list_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.options import CommandLine

FRONT = "corral-runtime"


def run(line: CommandLine) -> int:
    """Delete every container whose id the expression matches; goes on past those that refuse. Exit code 1 then."""
    import re

    if not line.flag("regex"):
        raise InvalidArgument("delete: this part of corral-runtime serves --regex only", hint="run corral-runtime")
    if not line.args:
        raise InvalidArgument("delete: the regular expression is missing", hint="usage: delete --regex EXPRESSION")
    try:
        pattern = re.compile(line.args[0])
    except re.error as exc:
        raise InvalidArgument(f"delete: flag --regex: {line.args[0]!r}: {exc}") from exc
    root = absolute_root(line)
    code = 0
    for name in list_ids(root):
        if pattern.search(name):
            code = run_delete(root, name, force=line.flag("force")) or code
    return code


def run_delete(root: str, name: str, *, force: bool, quiet: bool = False) -> int:
    """Run the front's ``delete`` for one container; its messages go to our stderr. Returns its exit code.

    ``quiet``: its messages are dropped. Raises: NotFound if the front is not beside the launcher.
    """
    import subprocess

    words = [front_path(), "--root", root, "delete", *(["--force"] if force else []), name]
    target = subprocess.DEVNULL if quiet else None
    return subprocess.run(words, stdin=subprocess.DEVNULL, stdout=target, stderr=target, check=False).returncode


def front_path() -> str:
    """The front's executable, beside the launcher that started us. Raises: NotFound."""
    path = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), FRONT)
    if not os.access(path, os.X_OK):
        raise NotFound(f"run {path}: no such file or directory", hint="install corral again", path=path)
    return path
