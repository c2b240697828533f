"""The last border: what an exception that nobody expected becomes, so that no caller ever reads a traceback.

Imported only when something went wrong; the cold path does not pay for it.
"""

from __future__ import annotations

import errno

from corral.errors import CorralError, Internal, NotFound, PermissionDenied, ResourceExhausted, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_EXHAUSTED = frozenset((errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN))


def to_corral_error(exc: Exception, operation: str) -> CorralError:
    """``exc`` as an error of ``operation``: the kernel's words for an OSError, else a defect with its place."""
    if isinstance(exc, CorralError):
        return exc
    if isinstance(exc, OSError):
        return _from_os_error(exc, operation)
    if isinstance(exc, MemoryError):
        return ResourceExhausted(f"{operation}: cannot allocate memory", hint="give it more memory")
    text = " ".join(str(exc).split())[:300]
    return Internal(
        f"{operation}: {type(exc).__name__}: {text}",
        hint=f"this is a defect of Corral ({_place(exc.__traceback__)}): please report it, with config.json",
    )


def _from_os_error(exc: OSError, operation: str) -> CorralError:
    name = exc.filename if isinstance(exc.filename, str) else ""
    where = f"{operation}: {name}" if name else operation
    message = f"{where}: {(exc.strerror or type(exc).__name__).lower()}"
    number = exc.errno or 0
    kind: type[CorralError] = Unavailable
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        kind = PermissionDenied
    elif number == errno.ENOENT:
        kind = NotFound
    elif number in _EXHAUSTED:
        kind = ResourceExhausted
    return kind(message, path=name, errno=number)


def _place(traceback: TracebackType | None) -> str:
    place = "unknown place"
    while traceback is not None:
        path = traceback.tb_frame.f_code.co_filename
        place = f"{path.rpartition('/corral/')[2]}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place
