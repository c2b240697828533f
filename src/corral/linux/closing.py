"""What owns descriptors is a context manager: the end of the block closes it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Closing:
    """Base of classes with an idempotent ``close``, which ``with`` calls at the end."""

    __slots__ = ()

    def close(self) -> None:
        """Give up what is owned. Subclasses say what that is."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
