"""The tests' root file system: Debian's static busybox, and one probe program.

Built once in a temporary directory; each bundle gets a tree of its own that shares the two
binaries through hard links.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
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
GROUP = "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n"


@dataclass(frozen=True)
class Template:
    """Where the two binaries are."""

    busybox: Path
    probe: Path

    def copy_to(self, tree: Path) -> None:
        """Make a rootfs at `tree`, which must not exist."""
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
            if os.path.basename(path) not in ("busybox", "probe"):
                os.lchown(path, uid, gid)
