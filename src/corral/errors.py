"""The kinds of error that Corral reports. Imports nothing.

::

    CorralError
    ├── InvalidArgument      the request or the config says something impossible
    ├── NotFound             the named object does not exist
    ├── AlreadyExists        the name is taken
    ├── FailedPrecondition   the object is in a state that does not allow this
    ├── PermissionDenied     the caller may not do this
    ├── ResourceExhausted    a limit of the host stands in the way
    ├── Unsupported          this host, or this version, cannot do it
    ├── Unavailable          something needed does not answer
    ├── Timeout              it was not done within its deadline
    └── Internal             Corral contradicts itself: a defect to report

Each error names the object and the cause in its message, and keeps the remedy apart in ``hint``.
"""

from __future__ import annotations


class CorralError(Exception):
    """Base of all errors that a caller may catch.

    ``message`` reads ``<operation> <object>: <cause>``; ``hint`` says what to do about it; ``pointer`` is the place
    in config.json (``mounts[3].destination``), ``path`` the file concerned, ``errno`` the kernel's answer (0: none),
    ``phase`` the part of the operation (``config``, ``cgroup``, ``mount`` ...).
    """

    kind = "internal"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        pointer: str = "",
        path: str = "",
        errno: int = 0,
        phase: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.pointer = pointer
        self.path = path
        self.errno = errno
        self.phase = phase

    def __str__(self) -> str:
        return f"{self.message} (config {self.pointer})" if self.pointer else self.message


class InvalidArgument(CorralError):
    """The request or the configuration asks for something impossible; retrying it unchanged is useless."""

    kind = "invalid-argument"


class NotFound(CorralError):
    """The named object does not exist (any more)."""

    kind = "not-found"


class AlreadyExists(CorralError):
    """The name or the resource is already taken by something that is not ours to reuse."""

    kind = "already-exists"


class FailedPrecondition(CorralError):
    """The object exists, but its state does not allow this operation now."""

    kind = "failed-precondition"


class PermissionDenied(CorralError):
    """The kernel or the policy refuses this to the caller."""

    kind = "permission-denied"


class ResourceExhausted(CorralError):
    """A limit of the host (space, descriptors, processes) was reached."""

    kind = "resource-exhausted"


class Unsupported(CorralError):
    """This host, or this version of Corral, lacks what was asked for."""

    kind = "unsupported"


class Unavailable(CorralError):
    """Something that the operation needs does not answer; it may later."""

    kind = "unavailable"


class Timeout(CorralError):
    """The operation did not finish within its deadline. What it did so far is on record."""

    kind = "timeout"


class Internal(CorralError):
    """Corral contradicts itself. Please report it."""

    kind = "internal"
