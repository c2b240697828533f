"""What systemd's D-Bus errors mean, as Corral's kinds of error with the unit in the text. Pure.

Source: systemd's src/libsystemd/sd-bus/bus-common-errors.h (names) and the D-Bus Specification.
"""

from __future__ import annotations

from corral.errors import (
    AlreadyExists,
    CorralError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Timeout,
    Unavailable,
    Unsupported,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.cgroup.dbus_peer import ErrorReply
    from corral.cgroup.systemd_properties import UnitProperty

__all__ = ["EXISTS", "NO_SUCH_UNIT", "SUBSCRIBED", "blamed_property", "told", "told_reply"]

EXISTS = "org.freedesktop.systemd1.UnitExists"
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
SUBSCRIBED = "org.freedesktop.systemd1.AlreadySubscribed"

_BUS = "org.freedesktop.DBus.Error."
_LOG_TELLS = "systemd's log tells more: journalctl -b _PID=1"
# A property that this version lacks is "read-only"; a value that it does not take yet is an invalid argument.
_PROPERTY_ERRORS = (f"{_BUS}PropertyReadOnly", f"{_BUS}UnknownProperty", f"{_BUS}InvalidArgs", f"{_BUS}NotSupported")

_KINDS: dict[str, tuple[type[CorralError], str]] = {
    EXISTS: (AlreadyExists, "choose another name (cgroupsPath), or stop that unit"),
    NO_SUCH_UNIT: (NotFound, ""),
    f"{_BUS}AccessDenied": (PermissionDenied, "only root, or the user whose manager it is, may start units"),
    f"{_BUS}AuthFailed": (PermissionDenied, "only root, or the user whose manager it is, may start units"),
    f"{_BUS}InteractiveAuthorizationRequired": (
        PermissionDenied,
        "polkit would have to ask: run as root, or use the user's own manager",
    ),
    f"{_BUS}ServiceUnknown": (Unavailable, "no systemd is on this bus"),
    f"{_BUS}NameHasNoOwner": (Unavailable, "no systemd is on this bus"),
    f"{_BUS}Disconnected": (Unavailable, "systemd is being restarted: try again"),
    f"{_BUS}NoReply": (Timeout, "systemd is busy or hangs: systemctl list-jobs tells what it waits for"),
    f"{_BUS}Timeout": (Timeout, "systemd is busy or hangs: systemctl list-jobs tells what it waits for"),
    f"{_BUS}TimedOut": (Timeout, "systemd is busy or hangs: systemctl list-jobs tells what it waits for"),
    f"{_BUS}LimitsExceeded": (ResourceExhausted, "the bus has a limit on what one user may have open"),
    f"{_BUS}UnknownMethod": (Unsupported, "this systemd is too old for it"),
    f"{_BUS}PropertyReadOnly": (Unsupported, "this systemd does not know the property"),
    f"{_BUS}UnknownProperty": (Unsupported, "this systemd does not know the property"),
    f"{_BUS}NotSupported": (Unsupported, "systemd here cannot do it: leave it out, or use the cgroupfs driver"),
    f"{_BUS}InvalidArgs": (InvalidArgument, "systemd does not take this value: change it, or use the cgroupfs driver"),
    "org.freedesktop.systemd1.ShuttingDown": (FailedPrecondition, "the host is being shut down"),
    "org.freedesktop.systemd1.UnitMasked": (FailedPrecondition, "unmask the unit, or choose another name"),
}


def blamed_property(reply: ErrorReply, properties: Sequence[UnitProperty]) -> UnitProperty | None:
    """The one of ``properties`` that systemd refuses by name; None when the error is about something else.

    ``Cannot set property X, or unknown property.``, or a text on its value that names it.
    """
    if reply.name not in _PROPERTY_ERRORS:
        return None
    words = "".join(char if char.isalnum() else " " for char in reply.text).split()
    for unit_property in properties:
        if unit_property.name in words:
            return unit_property
    # The text on a time value has the setting's name, which ends in Sec, for the property's, which ends in USec.
    for unit_property in properties:
        if unit_property.name.replace("USec", "Sec") in words:
            return unit_property
    return None


def told_reply(doing: str, reply: ErrorReply, properties: Sequence[UnitProperty] = ()) -> CorralError:
    """The error for ``reply`` to what was ``doing`` (``start unit 'x'``), with the config pointer of the property."""
    kind, hint = _KINDS.get(reply.name, (FailedPrecondition, _LOG_TELLS))
    text = (reply.text or reply.name).strip().rstrip(".")
    # systemd's sentences begin in upper case, its names of units and properties with whatever they begin with.
    if text[1:2].islower() and " " in text:
        text = text[0].lower() + text[1:]
    blamed = blamed_property(reply, properties)
    pointer = blamed.pointer if blamed is not None else ""
    return kind(f"{doing}: {text}", hint=hint, pointer=pointer, phase="cgroup")


def told(doing: str, exc: CorralError) -> CorralError:
    """``exc`` with the operation named first, of the same kind and with the same facts."""
    if exc.message.startswith(f"{doing}: "):
        return exc
    hint = exc.hint
    if isinstance(exc, Timeout) and not hint:
        hint = "systemd is busy or hangs: systemctl list-jobs tells what it waits for"
    elif isinstance(exc, Unavailable) and not hint:
        hint = f"the conversation with systemd broke off: try again; {_LOG_TELLS}"
    return type(exc)(
        f"{doing}: {exc.message}",
        hint=hint,
        pointer=exc.pointer,
        path=exc.path,
        errno=exc.errno,
        phase=exc.phase or "cgroup",
    )
