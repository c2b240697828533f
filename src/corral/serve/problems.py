"""Errors as HTTP says them: the one table from kinds to status codes, and the body that clients get."""

from __future__ import annotations

from corral.errors import CorralError, Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["STATUS", "body_of", "status_of", "to_error"]

STATUS = {
    "invalid-argument": 400,
    "permission-denied": 403,
    "not-found": 404,
    "already-exists": 409,
    "failed-precondition": 409,
    "resource-exhausted": 429,
    "internal": 500,
    "unsupported": 501,
    "unavailable": 503,
    "timeout": 504,
}


def status_of(error: CorralError) -> int:
    """The status code of an error."""
    return STATUS[error.kind]


def body_of(error: CorralError) -> dict[str, Any]:
    """What a client gets of an error: all that it knows, so that it can be raised again there."""
    found = {
        "kind": error.kind,
        "message": error.message,
        "hint": error.hint,
        "pointer": error.pointer,
        "path": error.path,
        "errno": error.errno,
        "phase": error.phase,
    }
    return {"error": {key: value for key, value in found.items() if value}}


def to_error(exc: Exception, operation: str) -> CorralError:
    """Any exception at the border, as one of ours. An unexpected one is a defect, and says what it is."""
    if isinstance(exc, CorralError):
        return exc
    if isinstance(exc, OSError):
        cause = (exc.strerror or str(exc)).lower()
        named = f" {exc.filename}" if exc.filename else ""
        return Internal(f"{operation}{named}: {cause}", errno=exc.errno or 0, path=str(exc.filename or ""))
    return Internal(f"{operation}: {type(exc).__name__}: {exc}", hint="this is a defect of Corral: please report it")
