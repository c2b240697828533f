"""Imports from one file instead of fifty: the modules of a cold planner (docs/adr/0004).

Its own code is the first thing in that file (native/archive.py); the launcher runs it, before any import.
"""

from __future__ import annotations

import gc
import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

__all__ = ["Archive"]


class Archive:
    """A finder and loader for ``sys.meta_path``. ``descriptor``, of the open file, is its own from now on.

    ``index``: module -> number of its section. ``sections``: (offset, length) of each in the file. A section is a
    marshalled sequence of (module, is a package, code), each after those that it imports. It is read when the first of
    its modules is imported, and all of it is then executed: what it holds is used together.
    """

    def __init__(
        self, folder: str, descriptor: int, index: dict[str, int], sections: tuple[tuple[int, int], ...]
    ) -> None:
        # This process compiles one container and ends: nothing that it holds needs collecting, and the collector's
        # rounds while modules load cost 0.3 ms.
        gc.disable()
        self._folder = folder
        self._descriptor = descriptor
        self._index = index
        self._sections = sections

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The import system asks here first; None means: not in the file."""
        number = self._index.get(name)
        if number is None:
            return None
        if name not in sys.modules:
            self._load(number)
        spec: ModuleSpec = type(sys.__spec__)(name, self)  # type: ignore[arg-type]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module, which its section has executed already."""
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to do."""

    def _load(self, number: int) -> None:
        offset, length = self._sections[number]
        found: tuple[tuple[str, bool, CodeType], ...] = marshal.loads(posix.pread(self._descriptor, length, offset))
        for name, is_package, code in found:
            module = type(sys)(name)
            sys.modules[name] = module
            if is_package:
                module.__path__ = [f"{self._folder}/{name.replace('.', '/')}"]
            parent, _, last = name.rpartition(".")
            if parent:
                if parent not in sys.modules:
                    # In an earlier section, of which nothing was needed yet.
                    self._load(self._index[parent])
                setattr(sys.modules[parent], last, module)
            exec(code, module.__dict__)
