"""The options that make a definition, and a check of those that a program gives: a misspelt limit is no limit.

The command line's parser knows its own flags; a program has no parser before it.
"""

from __future__ import annotations

from corral.engine.shape import hint_for
from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MANY", "SWITCHES", "VALUES", "check_options"]

SWITCHES = frozenset(
    "env-host init interactive no-healthcheck no-hosts oom-kill-disable privileged publish-all read-only "
    "read-only-tmpfs rm rootfs tty".split()
)
VALUES = frozenset(
    "blkio-weight cgroup-manager cgroup-parent cgroupns cgroups cpu-period cpu-quota cpu-shares cpus cpuset-cpus "
    "cpuset-mems domainname entrypoint health-cmd health-interval health-on-failure health-retries "
    "health-start-period health-timeout hostname ip ipc log-driver mac-address memory memory-reservation memory-swap "
    "memory-swappiness name oom-score-adj pid pid-file pids-limit pod restart shm-size stop-signal stop-timeout umask "
    "user userns uts workdir".split()
)
MANY = frozenset(
    "add-host annotation cap-add cap-drop cgroup-conf device device-cgroup-rule device-read-bps device-read-iops "
    "device-write-bps device-write-iops dns dns-option dns-search env env-file gidmap group-add label label-file "
    "log-opt mount network network-alias publish security-opt storage-opt sysctl tmpfs uidmap ulimit unsetenv "
    "volume".split()
)


def check_options(options: Mapping[str, object]) -> dict[str, object]:
    """The options by their long names, numbers as text. Raises: InvalidArgument for what no option has, or takes."""
    found: dict[str, object] = {}
    items: list[object] | tuple[object, ...] = ()
    for key, value in options.items():
        name = key.replace("_", "-")
        if name in SWITCHES:
            is_good, wanted = isinstance(value, bool), "True or False"
        elif name in VALUES:
            is_good, wanted = _is_text(value), "a text or a number"
        elif name in MANY:
            items = value if isinstance(value, list | tuple) else [value]
            is_good, wanted = all(map(_is_text, items)), "a text, or a list of texts"
        else:
            known = [item.replace("-", "_") for item in sorted(SWITCHES | VALUES | MANY)]
            raise InvalidArgument(f"option {key!r}: there is none such", hint=hint_for(key, known))
        if not is_good:
            raise InvalidArgument(f"option {key}={value!r}: it takes {wanted}")
        found[name] = str(value) if name in VALUES else value if name in SWITCHES else [str(item) for item in items]
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
