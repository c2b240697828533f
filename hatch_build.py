"""Build hook of hatchling: compiles native/ and puts the programs into the wheel's bin folder."""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent


def _native(name: str = "build") -> ModuleType:
    """Load a module of native/, which is no part of the package."""
    spec = importlib.util.spec_from_file_location(f"corral_native_{name}", ROOT / "native" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds corral-runtime and its launcher to the wheel, and tags the wheel for static Linux programs."""

    def dependencies(self) -> list[str]:
        """Ask for ziglang only where no system compiler makes a working static program."""
        if self.target_name != "wheel" or _native().system_toolchain() is not None:
            return []
        return ["ziglang<0.18"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say where the results go. ``version`` is hatchling's word for the kind of build."""
        if self.target_name != "wheel":
            return
        programs = _native().build(ROOT / "build" / "wheel-bin")
        scripts = build_data["shared_scripts"]
        for program in programs:
            scripts[str(program)] = program.name
        scripts[str(ROOT / "native" / "launcher" / "corral-planner")] = "corral-planner"
        archive = _native("archive")
        built = archive.build_archive(ROOT / "src", ROOT / "build" / "archive" / archive.archive_name())
        build_data["force_include"][str(built)] = f"corral/{built.name}"
        documents = _native("documents").build_documents(ROOT / "src", ROOT / "build" / "documents")
        for path, place in documents.items():
            build_data["shared_data"][str(path)] = place
        machine = platform.machine()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_2_17_{machine}.musllinux_1_1_{machine}"
