"""The launcher corral-planner and corral._boot: how Python starts, and how it ends."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from repo.trees import ROOT

LAUNCHER = ROOT / "native" / "launcher" / "corral-planner"
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
STAND_IN = """
import sys

def main(arguments):
    print(arguments, sys.path[0] == {first!r}, sys.path[-1])
    {ending}
"""


@pytest.fixture
def build_module() -> ModuleType:
    """native/build.py as a module."""
    spec = importlib.util.spec_from_file_location("corral_native_build", ROOT / "native" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def install(prefix: Path, *, library: str, ending: str) -> Path:
    """Lay out an installation whose runtime is a stand-in; return its launcher."""
    folder = prefix / library / VERSION / "site-packages"
    (folder / "corral" / "runtime").mkdir(parents=True)
    for name in ("__init__.py", "_boot.py"):
        (folder / "corral" / name).write_text((ROOT / "src" / "corral" / name).read_text())
    (folder / "corral" / "runtime" / "main.py").write_text(STAND_IN.format(first=str(folder), ending=ending))
    (prefix / "bin").mkdir()
    launcher = prefix / "bin" / "corral-planner"
    launcher.write_text(LAUNCHER.read_text())
    return launcher


def start(launcher: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start the launcher as the front does."""
    return subprocess.run(
        [sys.executable, "-ISE", str(launcher), *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("library", ["lib", "lib64"])
def test_launcher_finds_the_package_beside_itself(tmp_path: Path, library: str) -> None:
    """The package is found in the installation's own library folder, and gets the arguments without argv[0]."""
    result = start(install(tmp_path, library=library, ending="return 0"), "run", "--bundle", "b")
    assert (result.stderr, result.returncode) == ("", 0)
    assert result.stdout.startswith("['run', '--bundle', 'b'] ")


def test_launcher_lets_the_standard_library_win(tmp_path: Path) -> None:
    """Once corral is imported, its folder is the last on the path: nothing in it stands in for a stdlib module."""
    result = start(install(tmp_path, library="lib", ending="return 0"))
    assert result.stdout == f"[] False {tmp_path}/bin/../lib/{VERSION}/site-packages\n"


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        pytest.param("return 0", 0, id="zero"),
        pytest.param("return 7", 7, id="a number"),
        pytest.param("return None", 0, id="nothing"),
        pytest.param("raise SystemExit(255)", 255, id="exit with a number"),
        pytest.param("raise SystemExit", 0, id="exit with nothing"),
        pytest.param("raise SystemExit('text')", 1, id="exit with a text"),
    ],
)
def test_boot_ends_with_the_commands_exit_code(tmp_path: Path, ending: str, code: int) -> None:
    """Whatever way the command ends, its exit code is the process's, and what it printed is flushed."""
    result = start(install(tmp_path, library="lib", ending=ending), "x")
    assert (result.returncode, result.stdout.startswith("['x'] ")) == (code, True)


def test_launcher_imports_nothing_of_its_own(tmp_path: Path) -> None:
    """Between the interpreter's start and the runtime lie only modules that the interpreter has built in."""
    script = "print(*sorted(n for n in sys.modules if n not in sys.builtin_module_names), file=sys.stderr)"
    result = start(install(tmp_path, library="lib", ending=script))
    bare = subprocess.run(
        [sys.executable, "-ISE", "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, timeout=60
    )
    added = set(result.stderr.split()) - set(bare.stdout.split())
    assert sorted(added) == ["__future__", "corral", "corral._boot", "corral.runtime", "corral.runtime.main"]


def test_development_launcher_runs_this_tree(build_module: ModuleType, tmp_path: Path) -> None:
    """`make native` fixes the given interpreter and this tree's src, and leaves an unchanged launcher alone."""
    launcher = build_module.write_launcher(tmp_path, "/opt/x/bin/python3")
    lines = launcher.read_text().splitlines()
    assert lines[0] == "#!/opt/x/bin/python3"
    assert f"_folder = {str(ROOT / 'src')!r}" in lines
    before = launcher.stat().st_mtime_ns
    build_module.write_launcher(tmp_path, "/opt/x/bin/python3")
    assert launcher.stat().st_mtime_ns == before
