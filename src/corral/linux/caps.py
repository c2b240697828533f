"""Capabilities: names and bit numbers. Which sets to give to whom is not decided here.

Source: capabilities(7), include/uapi/linux/capability.h.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# In the order of their numbers.
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

_NUMBERS = {name: number for number, name in enumerate(CAPABILITIES)}


def number_or_none(name: str) -> int | None:
    """The number of a capability by its full name, in any case; with or without the ``CAP_`` prefix."""
    upper = name.upper()
    return _NUMBERS.get(upper, _NUMBERS.get("CAP_" + upper))


def mask_of(names: Iterable[str]) -> tuple[int, tuple[str, ...]]:
    """The bit mask of ``names``, and those that no capability bears, in their order."""
    mask = 0
    unknown = []
    for name in names:
        number = number_or_none(name)
        if number is None:
            unknown.append(name)
        else:
            mask |= 1 << number
    return mask, tuple(unknown)


def names_of(mask: int) -> tuple[str, ...]:
    """The names in ``mask``, by number; a bit newer than this list reads ``CAP_<number>``."""
    names = []
    number = 0
    while mask >> number:
        if mask >> number & 1:
            names.append(CAPABILITIES[number] if number < len(CAPABILITIES) else f"CAP_{number}")
        number += 1
    return tuple(names)


def last_cap(*, proc: str = "/proc") -> int:
    """The highest capability number that the running kernel knows; that of this list where it does not say."""
    try:
        with open(f"{proc}/sys/kernel/cap_last_cap", "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return len(CAPABILITIES) - 1
