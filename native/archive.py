"""Put the modules of a cold plan, and of the engine's quick commands, into one file: one is opened instead of fifty.

Used by hatch_build.py. The file belongs to one version of Python's bytecode, and says so in its name and in its first
bytes; any other interpreter imports the modules one by one, as ever. The launcher (native/launcher) opens it, and
src/corral/_cold.py, which is its first part, reads the rest.

The content, after MAGIC (4 bytes), the head's length (u32 little endian) and 8 zero bytes: the head, a marshalled
(code of corral._cold, module -> section, (offset, length) of each section), then the sections.
"""

from __future__ import annotations

import ast
import importlib.util
import marshal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

__all__ = ["archive_name", "build_archive"]

# What is imported together is a section: each holds what its modules import, less what stands before. All others,
# which a plan needs only now and then, are imported from their own files.
_SECTIONS = (
    # What planners and the engine's commands have in common, in parts, so that neither loads what is the other's.
    ("corral._boot", "corral.oci.json", "corral.linux.paths", "corral.linux.sockets"),
    ("corral.linux.procfs", "corral.runtime.record"),
    ("corral.oci.names", "corral.linux.idmap"),
    ("corral.runtime.main", "corral.runtime.session"),
    ("corral.runtime.exec_",),
    ("corral.linux.seccomp",),
    ("corral.linux.bpf_devices",),
    ("corral.cgroup.limits_v1",),
    ("corral.cgroup.limits_v2",),
    ("corral.runtime.hints",),
    # The engine's: first what a command needs where a service does the work.
    ("corral.cli.main", "corral.cli.index", "corral.cli.flags", "corral.cli.context", "corral.cli.commands"),
    ("corral.engine.places", "corral.engine.remote"),
    ("corral.cli.commands.run", "corral.cli.commands.create"),
    ("corral.image.store",),
    ("corral.cli.foreground",),
    ("corral.cli.commands.kill", "corral.cli.commands.rm", "corral.cli.commands.start", "corral.cli.commands.stop"),
    ("corral.cli.commands.ps",),
    ("corral.cli.commands.exec",),
    # Then what does the work: what any verb needs, and one section for each that people wait for.
    ("corral.engine.verbs", "corral.engine.status", "corral.engine.journal", "corral.engine.settle"),
    ("corral.engine.verbs.ps",),
    ("corral.engine.launching", "corral.cgroup.direct"),
    ("corral.engine.verbs.start", "corral.engine.rootfs"),
    ("corral.engine.verbs.exec",),
    ("corral.cli.commands.internal", "corral.engine.verbs.exited"),
)
_LIST = """
import importlib.machinery, sys
done, loader = [], importlib.machinery.SourceFileLoader
original = loader.exec_module
def exec_module(self, module):
    original(self, module)
    done.append(module.__name__)
loader.exec_module = exec_module
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    __import__(name)
print(*(name for name in done if name.partition(".")[0] == "corral"))
"""
_HEAD = 16


def archive_name() -> str:
    """The file's name for this interpreter; it stands in the package's folder."""
    return f"planner.{sys.implementation.cache_tag}.bin"


def build_archive(source: Path, output: Path) -> Path:
    """Compile the modules below ``source`` (the folder that holds the package) into ``output``, in a fresh interpreter.

    That one leaves out the columns of the code's positions (half of a module's bytes); the lines stay.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-I", "-X", "no_debug_ranges", __file__, str(source), str(output)]
    subprocess.run(command, check=True)
    return output


class _Bare(ast.NodeTransformer):
    """Leaves out what only readers and type checkers use: annotations are a quarter of a module's constants."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Forget the types of arguments and result."""
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """Forget the type of an argument."""
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """``name: T = value`` becomes ``name = value``, and ``name: T`` nothing."""
        self.generic_visit(node)
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_If(self, node: ast.If) -> ast.AST:
        """``if TYPE_CHECKING`` is never true."""
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" and not node.orelse:
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """Without annotations their import from __future__ has no use."""
        return ast.copy_location(ast.Pass(), node) if node.module == "__future__" else node


def _path_of(source: Path, name: str) -> Path:
    stem = source.joinpath(*name.split("."))
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


def _compile(source: Path, name: str) -> CodeType:
    path = _path_of(source, name)
    tree = ast.parse(path.read_bytes())
    # The service makes its calls from what verbs say of themselves: these keep it.
    is_described = name.startswith("corral.engine.verbs.")
    if not is_described:
        tree = ast.fix_missing_locations(_Bare().visit(tree))
    optimize = 1 if is_described else 2
    code = compile(tree, str(path.relative_to(source)), "exec", dont_inherit=True, optimize=optimize)
    assert isinstance(code, CodeType)
    return code


def _imported_by(source: Path, roots: tuple[str, ...]) -> list[str]:
    """The package's modules that importing ``roots`` loads, each after those that it needs itself."""
    command = [sys.executable, "-ISE", "-c", _LIST, str(source), *roots]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def _sections(source: Path) -> Iterator[list[str]]:
    known: set[str] = set()
    for roots in _SECTIONS:
        fresh = [name for name in _imported_by(source, roots) if name not in known]
        known.update(fresh)
        yield fresh


def _write(source: Path, output: Path) -> None:
    index: dict[str, int] = {}
    blobs = []
    for number, names in enumerate(_sections(source)):
        index.update(dict.fromkeys(names, number))
        items = tuple((name, _path_of(source, name).name == "__init__.py", _compile(source, name)) for name in names)
        blobs.append(marshal.dumps(items))
    places = [(0, len(blob)) for blob in blobs]
    # The offsets are part of the head whose length they depend on: twice is enough, a marshalled int has one size.
    for _ in range(2):
        head = marshal.dumps((_compile(source, "corral._cold"), index, tuple(places)))
        at = _HEAD + len(head)
        for number, blob in enumerate(blobs):
            places[number] = (at, len(blob))
            at += len(blob)
    start = importlib.util.MAGIC_NUMBER + len(head).to_bytes(4, "little")
    output.write_bytes(start.ljust(_HEAD, b"\0") + head + b"".join(blobs))


if __name__ == "__main__":
    _write(Path(sys.argv[1]), Path(sys.argv[2]))
