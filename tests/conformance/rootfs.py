"""The tests' root file system: Debian's static busybox, and one probe program.

Built once in a temporary directory; each bundle gets a tree of its own that shares the two
binaries through hard links. A tree that a test has left as it was is the next test's: it has
eighty files, and to make and remove them is much of what a short test takes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

_NAMES = (
    "awk basename cat chmod chown cp cut date dd df dirname echo env expr false find grep head "
    "hostname id ip kill ln ls mkdir mkfifo mknod mount mv nc nice printf ps pwd readlink "
    "realpath renice rm rmdir sed seq setsid sh sleep sort stat stty tail tar taskset tee test "
    "timeout touch tr true tty umount uname unshare uniq wc which"
)
APPLETS = _NAMES.split()
DIRECTORIES = ("bin", "dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp", "var")
PASSWD = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n"
SHARED = ("busybox", "probe")
# clock_gettime(2); the time module has no name for it.
CLOCK_REALTIME_COARSE = 5
# Name, device, number, time of change.
Entry = tuple[str, int, int, int]
GROUP = "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n"


@dataclass(frozen=True)
class Template:
    """Where the two binaries are, and the trees that can be used once more."""

    busybox: Path
    probe: Path
    # By what was seen of them when they were new.
    _spare: dict[Path, frozenset[Entry]] = field(default_factory=dict)
    _lent: dict[tuple[int, int], frozenset[Entry]] = field(default_factory=dict)

    def copy_to(self, tree: Path) -> None:
        """Make a rootfs at `tree`, which must not exist: a new one, or one that nobody has changed."""
        if self._spare:
            spare, seen = self._spare.popitem()
            spare.rename(tree)
        else:
            self._make(tree)
            seen = entries_of(tree)
            await_next_tick(seen)
        self._lent[identity_of(tree)] = seen

    def take_back(self, tree: Path) -> None:
        """Keep a tree that `copy_to` made, if it is as it was made; otherwise leave it to be removed."""
        seen = self._lent.pop(identity_of(tree), None)
        if seen is not None and seen == entries_of(tree):
            spare = self.busybox.with_name(f"spare-{os.lstat(tree).st_ino}")
            tree.rename(spare)
            self._spare[spare] = seen

    def _make(self, tree: Path) -> None:
        tree.mkdir(mode=0o755)
        for name in DIRECTORIES:
            (tree / name).mkdir(mode=0o755)
        (tree / "tmp").chmod(0o1777)
        os.link(self.busybox, tree / "bin/busybox")
        os.link(self.probe, tree / "bin/probe")
        for applet in APPLETS:
            (tree / "bin" / applet).symlink_to("busybox")
        (tree / "etc/passwd").write_text(PASSWD)
        (tree / "etc/group").write_text(GROUP)


def identity_of(path: Path) -> tuple[int, int]:
    """Which file it is, wherever it is moved."""
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def entries_of(tree: Path) -> frozenset[Entry]:
    """What no change leaves the same: each file's name, number and time of change, and the tree's own mode and owner.

    The shared binaries' time changes with each tree that is made.
    """
    top = os.lstat(tree)
    found: list[Entry] = [("", top.st_mode, top.st_uid, top.st_gid)]
    pending = [str(tree)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                changed = 0 if entry.name in SHARED else status.st_ctime_ns
                found.append((entry.path.removeprefix(str(tree)), status.st_dev, status.st_ino, changed))
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return frozenset(found)


def await_next_tick(seen: frozenset[Entry]) -> None:
    """Let the clock move on by which the kernel notes times, so that the next change has another one."""
    newest = max(changed for _, _, _, changed in seen)
    while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= newest:
        time.sleep(0.0005)


def build_template(directory: Path) -> Template:
    """Compile the probe and take a copy of busybox; FileNotFoundError names what is missing."""
    found = shutil.which("busybox")
    if found is None:
        raise FileNotFoundError("busybox: install busybox-static")
    busybox = directory / "busybox"
    shutil.copyfile(found, busybox)
    busybox.chmod(0o755)
    return Template(busybox, compile_static(Path(__file__).with_name("probe.c"), directory))


def compile_static(source: Path, directory: Path) -> Path:
    """Compile one C file to a static program in `directory` and return its path."""
    compiler = shutil.which("musl-gcc") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("a C compiler: install musl-tools or gcc")
    program = directory / source.stem
    flags = ["-static", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, "-o", program, source], check=True, timeout=120)
    program.chmod(0o755)
    return program


def chown_tree(tree: Path, uid: int, gid: int) -> None:
    """Give directories and links of a rootfs to somebody; the shared binaries stay."""
    os.chown(tree, uid, gid)
    for directory, names, files in os.walk(tree):
        for name in [*names, *files]:
            path = os.path.join(directory, name)
            if os.path.basename(path) not in SHARED:
                os.lchown(path, uid, gid)
