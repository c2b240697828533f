"""Spans around verbs, for who has OpenTelemetry installed and set up; otherwise nothing at all."""

from __future__ import annotations

import contextlib
import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["span"]


@functools.cache
def _tracer() -> Any:  # noqa: ANN401 -- a library that may not be there
    try:
        from opentelemetry import trace  # type: ignore[import-not-found]
    except ImportError:
        return None
    return trace.get_tracer("corral")


def span(verb: str) -> contextlib.AbstractContextManager[Any]:
    """A span named after the verb; an exception in it is recorded by the library."""
    tracer = _tracer()
    if tracer is None:
        return contextlib.nullcontext()
    found: contextlib.AbstractContextManager[Any] = tracer.start_as_current_span(f"corral.{verb}")
    return found
