"""What an engine can do, one file a verb. Plain blocking functions: places first, then what it is about.

Each may run in any number of threads and processes at once, may be killed at any point, and is finished or undone by
whoever comes next. Results are plain values that JSON can say. ``VERBS`` is the table from which remote callers are
made. Import a function from its module, or ask ``find`` for it by the verb's name.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["VERBS", "find"]

# Verb -> module of this package that defines it.
_MODULES = {
    "create": "create",
    "run": "start",
    "start": "start",
    "stop": "stop",
    "kill": "kill",
    "restart": "restart",
    "pause": "pause",
    "unpause": "pause",
    "wait": "wait",
    "rm": "rm",
    "rename": "rename",
    "update": "update",
    "exec": "exec",
    "inspect": "inspect",
    "ps": "ps",
    "top": "top",
    "stats": "stats",
    "port": "port",
    "explain": "explain",
    "logs": "logs",
    "events": "events",
    "gc": "gc",
    "diff": "diff",
    "commit": "commit",
    "cp": "cp",
    "cp_from_tar": "cp",
    "cp_to_tar": "cp",
    "cp_stat": "cp",
    "export": "cp",
    "exited": "exited",
    "due": "exited",
    "system_info": "system",
    "system_df": "system",
    "system_prune": "system",
    "system_start": "system",
    "pod_create": "pods",
    "pod_ps": "pods",
    "pod_start": "pods",
    "pod_stop": "pods",
    "pod_rm": "pods",
    "pod_inspect": "pods",
    "network_connect": "networks",
    "network_create": "networks",
    "network_disconnect": "networks",
    "network_inspect": "networks",
    "network_ls": "networks",
    "network_prune": "networks",
    "network_rm": "networks",
    "volume_create": "volumes",
    "volume_inspect": "volumes",
    "volume_ls": "volumes",
    "volume_prune": "volumes",
    "volume_rm": "volumes",
}
VERBS = tuple(sorted(_MODULES))


def find(verb: str) -> Any:  # noqa: ANN401 -- each has its own parameters
    """The function of a verb. Raises: KeyError."""
    module = __import__(f"{__name__}.{_MODULES[verb]}", fromlist=(verb,))
    return getattr(module, verb if verb != "exec" else "exec_")
