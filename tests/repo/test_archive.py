"""The one file that a cold planner takes its modules from (docs/adr/0004)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from repo.trees import ROOT, SRC

COLD = ("corral.runtime.session", "corral.runtime.exec_")
QUICK = ("corral.cli.commands.run", "corral.cli.commands.exec", "corral.cli.commands.ps", "corral.engine.starting")
SCRIPT = """
import importlib.util, marshal, posix, sys
file = posix.open({archive!r}, posix.O_RDONLY)
start = posix.pread(file, 16, 0)
assert start[:4] == importlib.util.MAGIC_NUMBER
code, *rest = marshal.loads(posix.pread(file, int.from_bytes(start[4:8], "little"), 16))
names = {{}}
exec(code, names)
sys.meta_path.insert(0, names["Archive"]({source!r}, file, *rest))
import {module}
from corral.errors import CorralError
from corral.linux import paths
from corral.runtime import border
print(hasattr({module}, "__file__"), border.__file__)
print({module}.__doc__, paths.normpath.__annotations__, issubclass(border.Internal, CorralError))
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of this tree, for this interpreter."""
    spec = importlib.util.spec_from_file_location("corral_native_archive", ROOT / "native" / "archive.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    built = module.build_archive(SRC, tmp_path_factory.mktemp("archive") / module.archive_name())
    assert isinstance(built, Path)
    return built


@pytest.mark.parametrize("module", [*COLD, *QUICK])
def test_archive_serves_the_modules_of_a_plan_and_the_folder_the_rest(archive: Path, module: str) -> None:
    """Modules come from the file, bare of documentation and annotations; what it lacks comes from the package."""
    script = SCRIPT.format(archive=str(archive), source=str(SRC), module=module)
    result = subprocess.run([sys.executable, "-ISE", "-c", script], capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    assert result.stdout == f"False {SRC}/corral/runtime/border.py\nNone {{}} True\n"


def test_verbs_in_the_archive_say_what_they_take(archive: Path) -> None:
    """The service makes its calls from the verbs' annotations and documentation."""
    script = SCRIPT.format(archive=str(archive), source=str(SRC), module="corral.engine.verbs.start")
    script = script.partition("print")[0] + "run = corral.engine.verbs.start.run\n"
    script += "print(run.__annotations__['request'], bool(run.__doc__))"
    result = subprocess.run([sys.executable, "-ISE", "-c", script], capture_output=True, text=True, timeout=60)
    assert (result.stderr, result.stdout) == ("", "dict[str, Any] True\n")


@pytest.mark.parametrize("module", COLD)
def test_cold_plan_is_imported_without_os(module: str) -> None:
    """os, with its abstract classes, costs as much CPU time as compiling the plan."""
    script = f"import sys; sys.path.insert(0, {str(SRC)!r}); import {module}; print('os' in sys.modules)"
    result = subprocess.run([sys.executable, "-ISE", "-c", script], capture_output=True, text=True, timeout=60)
    assert (result.stderr, result.stdout) == ("", "False\n")


ASKING = """
for name in ("main", "index", "flags", "context", "commands.{command}"):
    __import__("corral.cli." + name)
import corral.engine.remote
print(*({{"corral.runtime.session", "corral.engine.settle", "corral.engine.arrange"}} & sys.modules.keys()))
"""


@pytest.mark.parametrize("command", ["run", "ps", "rm", "stop", "start", "kill"])
def test_command_that_asks_a_service_loads_nothing_that_does_the_work(archive: Path, command: str) -> None:
    """A section is loaded whole: what such a command needs shares none with the planner, nor with the verbs."""
    script = SCRIPT.format(archive=str(archive), source=str(SRC), module="corral.cli").partition("from corral.errors")[
        0
    ]
    script += ASKING.format(command=command)
    result = subprocess.run([sys.executable, "-ISE", "-c", script], capture_output=True, text=True, timeout=60)
    assert (result.stderr, result.stdout) == ("", "\n")


DESCRIBED = """
sys.path.append({source!r})
from corral.serve.calls import calls
known = {{"str", "bool", "int", "float", "dict", "list", "None"}}
for call in calls().values():
    kinds = {{kind for parameter in call.parameters.values() for kind in parameter.kinds}}
    print(call.verb, kinds <= known, bool(call.summary))
"""


def test_service_describes_each_call_when_verbs_come_from_the_archive(archive: Path) -> None:
    """Its calls are made from the verbs' own signatures: an installed one knows the types that this tree's does."""
    script = SCRIPT.partition("import {module}")[0] + DESCRIBED
    command = [sys.executable, "-ISE", "-c", script.format(archive=str(archive), source=str(SRC))]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    told = dict(line.split(" ", 1) for line in result.stdout.splitlines())
    assert told.keys() >= {"run", "ps", "stop"}
    assert {verb for verb, answer in told.items() if answer != "True True"} == set()
