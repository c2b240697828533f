"""The disk that carries the project in: the built wheel, unpacked as pip would; pytest; the tests; the guest's runner.

Layout, mounted read-only at /opt/corral in the guest::

    prefix/bin, prefix/lib/pythonX.Y/site-packages   the wheel, its scripts pointing at the guest's interpreter
    python/                                          pytest and what it needs, as the bench itself has them
    tree/                                            the checkout without src
    bench/                                           the runner and its pytest plugin
"""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from vm.store import GUEST_PYTHON, HERE, ROOT, STORE, digest, prune, run_tool, scratch

__all__ = ["build_payload", "build_wheel"]

GUEST_INTERPRETER = "/usr/bin/python3"
WHEEL_INPUTS = ("src", "native", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE")
# src stays out: inside, `import corral` is the wheel's.
TREE_INPUTS = ("tests", "native", "tools", "docs/cgroup-library.md", "pyproject.toml", "hatch_build.py", "Makefile")
# The folders and files out of which cells run tests.
COLLECTED = (
    *("tests/conformance", "tests/behaviours", "tests/root/cgroup", "tests/userns", "tests/vm/guest"),
    *("tests/sweep/test_engine_oom.py", "tests/root/engine/test_quota.py", "tests/root/linux/test_quota.py"),
)
PACKAGES = f"prefix/lib/python{GUEST_PYTHON[0]}.{GUEST_PYTHON[1]}/site-packages"
TEST_DISTRIBUTIONS = ("pytest", "pytest-timeout", "hypothesis", "coverage")
# Optional for the wheel; the guest has a systemd to speak to.
OPTIONAL = ("jeepney",)


def files_of(names: tuple[str, ...]) -> list[Path]:
    """The checkout's files below these names: tracked ones, and new ones that are not ignored."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *names]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if result.returncode == 0:
        found = [ROOT / name for name in result.stdout.split("\0") if name]
    else:
        tops = [ROOT / name for name in names if (ROOT / name).exists()]
        found = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*"))]
    return sorted({path for path in found if path.is_file() and "__pycache__" not in path.parts})


def digest_of(names: tuple[str, ...], *more: str) -> str:
    """A name for the content of these files, including where they lie and whether they may be executed."""
    parts: list[str | bytes] = list(more)
    for path in files_of(names):
        parts += [str(path.relative_to(ROOT)), str(path.stat().st_mode & 0o111), path.read_bytes()]
    return digest(parts)


def build_wheel() -> Path:
    """Return the wheel of this checkout, built if the sources changed.

    Raises:
        BenchError: the build ended with an error; its last words are in the message.
    """
    target = STORE / "wheels" / digest_of(WHEEL_INPUTS)
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch("wheel") as work:
            options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
            command = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(work / "made"), str(ROOT)]
            run_tool(command, timeout_s=300, cwd=work)
            (work / "made").rename(target)
        prune(target.parent, keep=3)
    os.utime(target)
    return next(target.glob("*.whl"))


def install_wheel(wheel: Path, prefix: Path) -> None:
    """Do what pip does, for an interpreter that is not here: unpack, and write its path into the scripts."""
    packages = prefix / "lib" / f"python{GUEST_PYTHON[0]}.{GUEST_PYTHON[1]}" / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            match = re.fullmatch(r"[^/]+\.data/(scripts|purelib|platlib|data)/(.+)", item.filename)
            if item.is_dir():
                continue
            data = archive.read(item)
            if match is None or match[1] in ("purelib", "platlib"):
                output = packages / (match[2] if match else item.filename)
            else:
                output = (prefix / "bin" if match[1] == "scripts" else prefix) / match[2]
            is_script = match is not None and match[1] == "scripts"
            if is_script and data.startswith(b"#!python"):
                data = f"#!{GUEST_INTERPRETER}".encode() + data.removeprefix(b"#!python")
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_bytes(data)
            if is_script or item.external_attr >> 16 & 0o111:
                output.chmod(0o755)


def closure(names: tuple[str, ...]) -> Iterator[importlib.metadata.Distribution]:
    """These distributions, as far as they are installed here, and all that they need."""
    seen: set[str] = set()
    pending = list(names)
    while pending:
        name = re.split(r"[^A-Za-z0-9._-]", pending.pop().strip())[0].lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        pending += [text for text in found.requires or [] if "extra ==" not in text]
        yield found


def files_of_distributions(names: tuple[str, ...]) -> list[tuple[Path, str]]:
    """(file here, path below site-packages) of these distributions and of what they need."""
    found = []
    for item in closure(names):
        for file in item.files or []:
            source = Path(str(file.locate()))
            if ".." not in file.parts and "__pycache__" not in file.parts and source.is_file():
                found.append((source, str(file)))
    return sorted(found)


def build_payload() -> Path:
    """Return the disk for this state of the checkout, built if anything in it changed.

    Raises:
        BenchError: the wheel does not build.
    """
    wheel = build_wheel()
    library, needed = files_of_distributions(TEST_DISTRIBUTIONS), files_of_distributions(needs_of(wheel))
    copied = [f"{name} {path.stat().st_mtime_ns}" for path, name in (*library, *needed)]
    recipe = "".join(inspect.getsource(function) for function in (_stage, _compile_tests, install_wheel))
    key = digest_of(TREE_INPUTS, wheel.parent.name, recipe, *copied)
    target = STORE / "payloads" / f"{key}.erofs"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch("payload") as work:
            stage = work / "stage"
            _stage(stage, wheel, library, needed)
            run_tool(["mkfs.erofs", "-T0", str(work / "disk"), str(stage)], timeout_s=120)
            (work / "disk").rename(target)
        prune(target.parent, keep=3)
    os.utime(target)
    return target


def needs_of(wheel: Path) -> tuple[str, ...]:
    """The distributions that the wheel's metadata asks for, and the optional ones that the guest has."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(item for item in archive.namelist() if item.endswith(".dist-info/METADATA"))
        lines = re.findall(r"^Requires-Dist: (.+)$", archive.read(name).decode(), re.MULTILINE)
    return (*(line for line in lines if "extra ==" not in line), *OPTIONAL)


def _stage(stage: Path, wheel: Path, library: list[tuple[Path, str]], needed: list[tuple[Path, str]]) -> None:
    """Lay out the disk's content."""
    install_wheel(wheel, stage / "prefix")
    for source, name in needed:
        _copy(source, stage / PACKAGES / name)
    for source, name in library:
        _copy(source, stage / "python" / name)
    for source in files_of(TREE_INPUTS):
        _copy(source, stage / "tree" / source.relative_to(ROOT))
    for name in ("run.py", "reporter.py"):
        _copy(HERE / "guest" / name, stage / "bench" / name)
    # What the tests look for where `make native` puts it, and where a checkout has its sources: the wheel's.
    (stage / "tree/build").mkdir(parents=True)
    (stage / "tree/build/bin").symlink_to("/opt/corral/prefix/bin")
    (stage / "tree/src").symlink_to(f"/opt/corral/{PACKAGES}")
    # erofs keeps no time of each file, so the bytecode must not be compared with one.
    compile_all = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    compile_all += ["-s", str(stage), "-p", "/opt/corral", str(stage / "prefix"), str(stage / "python")]
    run_tool(compile_all, timeout_s=300)
    _compile_tests(stage)


def _compile_tests(stage: Path) -> None:
    """Let pytest collect the tests once, at the places that they have in the guest, so that its bytecode is there.

    Otherwise every machine rewrites and compiles all of them: 10 s and more under emulation.
    """
    for path in (stage / "tree").rglob("*"):
        # All files of the disk are of that time, and those of the guest's copy with them.
        os.utime(path, (0, 0), follow_symlinks=False)
    environment = {
        "CORRAL_VM_CELL": "none",
        "PATH": os.environ.get("PATH", ""),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": f"/opt/corral/bench:/opt/corral/python:/opt/corral/{PACKAGES}",
    }
    script = (
        'mount -t tmpfs tmpfs /opt && mkdir /opt/corral && mount --bind "$1" /opt/corral && '
        'mount -t tmpfs tmpfs /srv && mkdir /srv/corral && mount --bind "$1/tree" /srv/corral && cd /srv/corral && '
        'shift && exec env -i "$@"'
    )
    command = ["unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh", str(stage)]
    command += [*(f"{name}={value}" for name, value in environment.items())]
    command += [str(Path(sys.executable).resolve()), "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
    run_tool([*command, "-p", "pytest_timeout", *COLLECTED], timeout_s=300)


def _copy(source: Path, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, output)
