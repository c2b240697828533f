"""Corral: a container runtime stack for Linux. This package holds its Python parts, in layers.

``corral.Engine`` and what belongs to it are here for programs; they are loaded when they are first asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.engine.library import Container, Engine, Exec, Exit, Image, Pod

__all__ = ["Container", "Engine", "Exec", "Exit", "Image", "Pod", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Load the library at the first use of one of its names (PEP 562): the runtime imports this package, too."""
    if name in __all__ and name != "__version__":
        return getattr(__import__("corral.engine.library", fromlist=(name,)), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
