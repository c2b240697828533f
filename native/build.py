"""Compile the C programs under native/. The one place that knows how; standard library only.

Used by hatch_build.py when a wheel is made and by the Makefile during development::

    python native/build.py --out build/bin            # corral-runtime, static
    python native/build.py --out build/sanitize --sanitize
    python native/build.py --out build/aarch64 --target aarch64-linux-musl
    python native/build.py --out build/native-tests --tests

Objects are stored under the digest of everything that went into them (compiler, flags, source, all headers), so
a second build compiles nothing and two engineers on one tree never see a half-written object.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BuildError", "Toolchain", "build", "build_single", "build_tests", "system_toolchain", "write_launcher"]

NATIVE = Path(__file__).resolve().parent
ROOT = NATIVE.parent
OBJECT_STORE = ROOT / "build" / "obj"

# Which folders make up which program. A folder is searched to any depth.
PROGRAMS = {
    "corral-runtime": ("executor", "launch", "front"),
    "corral-monitor": ("executor", "launch", "supervise", "monitor"),
    "corral-keeper": ("executor", "launch", "supervise", "keeper"),
    "corral": ("executor", "launch", "command"),
    "corral-init": ("init",),
    "corral-within": ("executor", "launch", "within"),
}
# The files with main(), left out when the unit tests of native/tests are linked with the rest.
MAIN_FILE = "main.c"

COMMON_FLAGS = (
    "-std=gnu11",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wswitch-enum",
    "-Wshadow",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-fno-plt",
    "-fno-strict-aliasing",
    "-fstack-protector-strong",
)
RELEASE_FLAGS = ("-O2", "-fPIE", "-ffunction-sections", "-fdata-sections")
SANITIZE_FLAGS = ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
LINK_FLAGS = ("-Wl,--gc-sections", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack", "-s")

Flags = tuple[str, ...]

_PROBE = """
#include <stdlib.h>
#include <unistd.h>
#include <sys/mount.h>
#include <linux/bpf.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
/* A table of pointers needs relocations: a static-pie that does not relocate itself dies on it. */
static const char *const words[] = { "no", "ok" };
int main(void) { return write(1, words[getpid() != 0], 2) == 2 && malloc(16) != NULL ? 0 : 1; }
"""


class BuildError(Exception):
    """The programs could not be built; the message holds the compiler's own words."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A way to compile and link: the command and what it needs around the sources."""

    name: str
    command: Flags
    compile_flags: Flags
    link_before: Flags
    link_after: Flags

    def compile(self, source: Path, output: Path, flags: Flags) -> None:
        """Compile one file to an object."""
        _run([*self.command, *flags, *self.compile_flags, "-I", str(NATIVE), "-c", str(source), "-o", str(output)])

    def link(self, objects: list[Path], output: Path) -> None:
        """Link objects to one program, put in place by rename."""
        scratch = output.with_name(f".{output.name}.{os.getpid()}")
        names = [str(item) for item in objects]
        try:
            command = [*self.command, *self.link_before, *names, *self.link_after, "-o", str(scratch)]
            _run(command, f"link {output.name} with {self.name}")
            scratch.replace(output)
        finally:
            scratch.unlink(missing_ok=True)


def _run(command: list[str], shown: str = "") -> str:
    """Run a tool and return what it printed. ``shown`` stands for a command too long to read."""
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode != 0:
        raise BuildError(f"{shown or ' '.join(command)}:\n{result.stderr.strip() or result.stdout.strip()}")
    return result.stdout.strip()


def _uapi_headers() -> Flags:
    """Flags that let musl-gcc see the kernel's headers, and only those, of the host's glibc tree."""
    store = OBJECT_STORE / "uapi"
    candidates = [Path("/usr/include")]
    candidates += [path for path in Path("/usr/include").glob("*-linux-gnu") if platform.machine() in path.name]
    for folder in ("linux", "asm-generic", "asm"):
        for base in candidates:
            if (base / folder).is_dir():
                store.mkdir(parents=True, exist_ok=True)
                link = store / folder
                if not link.is_symlink() or os.readlink(link) != str(base / folder):
                    link.unlink(missing_ok=True)
                    link.symlink_to(base / folder)
                break
    return ("-idirafter", str(store))


def _musl_toolchains() -> list[Toolchain]:
    command = shutil.which("musl-gcc")
    if command is None:
        return []
    headers = _uapi_headers()
    found = []
    try:
        # musl-gcc's specs know nothing of -static-pie, so the start files are named by hand.
        library = next(Path("/usr/lib").glob(f"{platform.machine()}-linux-musl"), Path("/usr/lib/musl/lib"))
        start, crti, crtn = (str(library / name) for name in ("rcrt1.o", "crti.o", "crtn.o"))
        begin, end = (_run([command, f"-print-file-name={name}"]) for name in ("crtbeginS.o", "crtendS.o"))
        before = ("-static-pie", "-static", "-nostartfiles", start, crti, begin)
        after = (end, crtn, "-Wl,-pie,--no-dynamic-linker,-Bstatic", "-Wl,-z,text", *LINK_FLAGS)
        found.append(Toolchain("musl-gcc static-pie", (command,), headers, before, after))
    except BuildError:
        pass
    found.append(Toolchain("musl-gcc static", (command,), headers, ("-static", "-no-pie"), LINK_FLAGS))
    return found


def _works(toolchain: Toolchain) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "probe.c"), Path(folder, "probe")
        source.write_text(_PROBE)
        try:
            toolchain.compile(source, Path(folder, "probe.o"), (*COMMON_FLAGS, *RELEASE_FLAGS))
            toolchain.link([Path(folder, "probe.o")], program)
            return _run([str(program)]) == "ok"
        except (BuildError, OSError):
            return False


def system_toolchain() -> Toolchain | None:
    """Return the first compiler of this host that makes a working static program, or None."""
    candidates = _musl_toolchains()
    for name in ("gcc", "cc", "clang"):
        command = shutil.which(name)
        if command is not None:
            candidates.append(Toolchain(f"{name} static-pie", (command,), (), ("-static-pie",), LINK_FLAGS))
            candidates.append(Toolchain(f"{name} static", (command,), (), ("-static", "-no-pie"), LINK_FLAGS))
    remembered = _remembered_choice(candidates)
    if remembered is not None:
        return remembered
    for candidate in candidates:
        if _works(candidate):
            OBJECT_STORE.mkdir(parents=True, exist_ok=True)
            _choice_file(candidates).write_text(candidate.name)
            return candidate
    return None


def _choice_file(candidates: list[Toolchain]) -> Path:
    """Where the outcome of probing these very compilers is kept; a new compiler means a new file."""
    digest = hashlib.sha256()
    for item in candidates:
        status = os.stat(item.command[0])
        digest.update(f"{item} {status.st_ino} {status.st_size} {status.st_mtime_ns}".encode())
    return OBJECT_STORE / f"choice-{digest.hexdigest()[:16]}"


def _remembered_choice(candidates: list[Toolchain]) -> Toolchain | None:
    try:
        name = _choice_file(candidates).read_text()
    except OSError:
        return None
    return next((item for item in candidates if item.name == name), None)


def cross_toolchain(target: str) -> Toolchain:
    """Return ziglang's compiler for ``target`` (``aarch64-linux-musl``); it brings its own libc and headers.

    Raises:
        BuildError: ziglang is not installed beside this interpreter.
    """
    command = (sys.executable, "-m", "ziglang", "cc", "-target", target)
    # Otherwise zig keeps its libc objects in the home folder, which a build has no business in.
    os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(ROOT / "build" / "zig"))
    try:
        _run([*command, "--version"])
    except BuildError as error:
        raise BuildError("find a C compiler: neither musl-gcc, gcc, cc nor the ziglang package is there") from error
    # clang does not see that musl's CMSG_NXTHDR comes from a system header.
    return Toolchain(f"ziglang {target}", command, ("-Wno-sign-compare",), ("-static",), LINK_FLAGS)


def host_toolchain() -> Toolchain:
    """Return a compiler for this machine: a system one, otherwise ziglang."""
    return system_toolchain() or cross_toolchain(f"{platform.machine()}-linux-musl")


def _sanitizing_toolchain() -> Toolchain:
    command = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    if command is None:
        raise BuildError("build with sanitizers: gcc or clang is needed, and neither is there")
    return Toolchain("sanitizers", (command,), (), ("-fsanitize=address,undefined",), ())


def _version() -> str:
    text = (ROOT / "src" / "corral" / "__init__.py").read_text()
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if match is None:
        raise BuildError("read the version: src/corral/__init__.py has no __version__ line")
    return match.group(1)


def _commit() -> str:
    """The checkout's commit, or 'unknown' outside of one (an unpacked source archive)."""
    if not (ROOT / ".git").exists():
        return "unknown"
    try:
        return _run(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"])
    except (BuildError, OSError):
        return "unknown"


def _compiler_identity(toolchain: Toolchain) -> str:
    return _run([*toolchain.command, "--version"])


def _object_for(toolchain: Toolchain, source: Path, flags: Flags, base: str) -> Path:
    """Return the object of ``source``, compiled now or found under its digest."""
    text = source.read_bytes()
    if b"CORRAL_COMMIT" in text:
        # Only where it is used: a new commit must not compile everything anew.
        flags = (*flags, f'-DCORRAL_COMMIT="{_commit()}"')
    digest = hashlib.sha256(base.encode())
    digest.update(repr((str(source.relative_to(ROOT)), flags)).encode())
    digest.update(text)
    output = OBJECT_STORE / f"{source.stem}-{digest.hexdigest()[:24]}.o"
    if not output.exists():
        scratch = output.with_suffix(f".{os.getpid()}.tmp.o")
        try:
            toolchain.compile(source, scratch, flags)
            scratch.replace(output)
        finally:
            scratch.unlink(missing_ok=True)
    return output


def _compile_all(toolchain: Toolchain, sources: list[Path], flags: Flags) -> list[Path]:
    OBJECT_STORE.mkdir(parents=True, exist_ok=True)
    flags = (*COMMON_FLAGS, *flags, f'-DCORRAL_VERSION="{_version()}"')
    digest = hashlib.sha256(repr((toolchain, _compiler_identity(toolchain))).encode())
    for header in sorted(path for path in NATIVE.rglob("*") if path.suffix in (".h", ".def", ".inc")):
        digest.update(header.name.encode() + header.read_bytes())
    base = digest.hexdigest()
    with concurrent.futures.ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda source: _object_for(toolchain, source, flags, base), sources))


def _sources(*folders: str) -> list[Path]:
    found = sorted(path for folder in folders for path in (NATIVE / folder).rglob("*.c"))
    if not found:
        raise BuildError(f"find C sources: none below {', '.join(f'native/{folder}' for folder in folders)}")
    return found


def build(out_dir: Path | str, *, target: str | None = None, sanitize: bool = False) -> list[Path]:
    """Build every program into ``out_dir`` and return their paths.

    ``target`` is a ziglang target such as ``aarch64-linux-musl`` (None: this machine). ``sanitize`` builds a
    dynamic program with ASan and UBSan instead of the static one.

    Raises:
        BuildError: no compiler, no sources, or the compiler's complaint.
    """
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    if sanitize:
        toolchain = _sanitizing_toolchain()
    else:
        toolchain = cross_toolchain(target) if target else host_toolchain()
    flags: Flags = SANITIZE_FLAGS if sanitize else RELEASE_FLAGS
    built = []
    for name, folders in PROGRAMS.items():
        objects = _compile_all(toolchain, _sources(*folders), flags)
        built.append(_link_if_changed(toolchain, objects, out / name))
    return built


def _link_if_changed(toolchain: Toolchain, objects: list[Path], output: Path) -> Path:
    """Link unless ``output`` was linked from these very objects: callers may be running it just now."""
    stamp = output.with_name(f".{output.name}.stamp")
    wanted = repr((toolchain.link_before, toolchain.link_after, [item.name for item in objects]))
    if not (output.exists() and stamp.exists() and stamp.read_text() == wanted):
        toolchain.link(objects, output)
        stamp.write_text(wanted)
    return output


def build_tests(out_dir: Path | str, *, fuzz: bool = False) -> list[Path]:
    """Build native/tests/test_*.c with sanitizers (``fuzz``: fuzz_*.c with libFuzzer too, needing clang).

    Each such file has its own main() (a fuzz file: LLVMFuzzerTestOneInput) and is linked with all objects of the
    programs but their ``main.c``, and with the other files of native/tests.
    """
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    flags: Flags = SANITIZE_FLAGS
    if fuzz:
        command = shutil.which("clang")
        if command is None:
            raise BuildError("build the fuzzers: clang is needed, and it is not there")
        toolchain = Toolchain("libfuzzer", (command,), (), ("-fsanitize=fuzzer,address,undefined",), ())
        flags = (*SANITIZE_FLAGS, "-fsanitize=fuzzer-no-link")
    else:
        toolchain = _sanitizing_toolchain()
    prefix = "fuzz_" if fuzz else "test_"
    folders = sorted({folder for names in PROGRAMS.values() for folder in names})
    shared = [path for path in _sources(*folders) if path.name != MAIN_FILE]
    tests = _sources("tests")
    shared += [path for path in tests if not path.name.startswith(("fuzz_", "test_"))]
    programs = [path for path in tests if path.name.startswith(prefix)]
    objects = _compile_all(toolchain, shared, flags)
    built = []
    for source in programs:
        own = _compile_all(toolchain, [source], flags)
        built.append(_link_if_changed(toolchain, [*own, *objects], out / source.stem))
    return built


def build_single(source: Path, output: Path) -> Path:
    """Build one C file, which needs nothing of the others, to a static program."""
    toolchain = host_toolchain()
    output.parent.mkdir(parents=True, exist_ok=True)
    toolchain.link(_compile_all(toolchain, [source], RELEASE_FLAGS), output)
    return output


def write_launcher(out_dir: Path | str, interpreter: str) -> Path:
    """Write ``corral-planner`` for development: it runs ``interpreter`` on this tree's src/, nothing installed.

    What Corral depends on is found where that interpreter has it.
    """
    text = (NATIVE / "launcher" / "corral-planner").read_text()
    text = text.replace("#!python\n", f"#!{interpreter}\n", 1)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = Path(interpreter).parent.parent / "lib" / version / "site-packages"
    folders = f"_folder = {str(ROOT / 'src')!r}\nsys.path.append({str(packages)!r})\n"
    text = text.replace("_folder = _package_folder()\n", folders, 1)
    output = Path(out_dir, "corral-planner")
    if not output.exists() or output.read_text() != text:
        scratch = output.with_name(f".{output.name}.{os.getpid()}")
        scratch.write_text(text)
        scratch.chmod(0o755)
        scratch.replace(output)
    return output


def main(arguments: list[str] | None = None) -> int:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(prog="native/build.py", description="Compile the C programs under native/.")
    parser.add_argument("--out", default=str(ROOT / "build" / "bin"), help="where the programs go")
    parser.add_argument("--target", help="cross-compile with ziglang, e.g. aarch64-linux-musl")
    parser.add_argument("--sanitize", action="store_true", help="with ASan and UBSan, for tests")
    parser.add_argument("--tests", action="store_true", help="the unit tests of native/tests")
    parser.add_argument("--fuzz", action="store_true", help="the fuzzers of native/tests (needs clang)")
    parser.add_argument("--launcher", metavar="PYTHON", help="add a launcher that runs this tree with PYTHON")
    options = parser.parse_args(arguments)
    try:
        if options.tests or options.fuzz:
            built = build_tests(options.out, fuzz=options.fuzz)
        else:
            built = build(options.out, target=options.target, sanitize=options.sanitize)
        if options.launcher:
            built.append(write_launcher(options.out, options.launcher))
    except BuildError as error:
        print(f"native/build.py: {error}", file=sys.stderr)
        return 1
    for path in built:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
