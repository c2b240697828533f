"""What comes from Debian: the kernels and the userland. Built once, kept in the store; needs the network only then.

Nothing is installed on this host. apt works with lists and sources of its own in the store; kernels are unpacked, not
installed; mmdebstrap runs in a mount namespace of its own, so no mount appears on the host.
"""

from __future__ import annotations

import inspect
import lzma
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from vm.store import HERE, STORE, BenchError, digest, prune, run_tool, scratch

__all__ = ["KERNELS", "Kernel", "find_kernel", "root_image"]

# Series -> pattern of the package's name; the highest version that the archive has is taken.
KERNELS = {
    "5.10": r"linux-image-5\.10\.\d+-\d+-cloud-amd64",
    "6.1": r"linux-image-6\.1\.\d+-\d+-cloud-amd64",
    "6.12": r"linux-image-6\.12\.\d+\+deb12(?:\.\d+)?-cloud-amd64",
}
SUITES = (
    ("", "bookworm"),
    ("-security", "bookworm-security"),
    ("", "bookworm-backports"),
    ("", "bullseye"),
    ("-security", "bullseye-security"),
)
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# What the initramfs needs to find its disks and the bench's port; the rest is loaded by the booted system.
BOOT_MODULES = ("virtio_pci", "virtio_blk", "erofs")

GUEST_PACKAGES = (
    "buildah busybox-static conmon containerd crun dbus dbus-user-session e2fsprogs fuse-overlayfs gcc iproute2 kmod "
    "libc6-dev libpam-systemd libseccomp2 login musl-tools passwd podman procps python3 runc slirp4netns strace "
    "systemd systemd-sysv udev uidmap util-linux xfsprogs"
).split()
LEFT_OUT = tuple(f"/usr/share/{name}/*" for name in ("doc", "man", "locale", "info", "lintian", "bash-completion"))
# Work that a machine of two minutes' life has no use for.
MASKED_UNITS = (
    "containerd.service e2scrub_all.timer fstrim.timer getty@.service serial-getty@.service podman-auto-update.timer "
    "podman-restart.service podman-auto-update.service podman.service podman.socket e2scrub_reap.service "
    "systemd-random-seed.service systemd-update-utmp.service systemd-update-utmp-runlevel.service "
    "systemd-pstore.service systemd-timesyncd.service systemd-networkd.service "
    "systemd-network-generator.service systemd-journal-flush.service dpkg-db-backup.timer"
).split()
TESTER = "tester"
TESTER_ID = 1000


@dataclass(frozen=True, slots=True)
class Kernel:
    """A bootable kernel: its release, the image, the initramfs, and a file system with its modules."""

    release: str
    image: Path
    initramfs: Path
    modules: Path


def mirror() -> str:
    """Return the archive's address that this host uses, or the official one."""
    texts = [path.read_text() for path in Path("/etc/apt").glob("sources.list*") if path.is_file()]
    texts += [path.read_text() for path in Path("/etc/apt/sources.list.d").glob("debian*")]
    match = re.search(r"https?://\S+?/debian(?=/?\s)", "\n".join(texts))
    return match[0] if match else "http://deb.debian.org/debian"


def apt_options() -> list[str]:
    """Make apt's private lists current, and return the options with which it uses them."""
    base = STORE / "apt"
    for name in ("lists/partial", "cache/archives/partial", "etc"):
        (base / name).mkdir(parents=True, exist_ok=True)
    archive = mirror()
    lines = [f"deb [signed-by={KEYRING}] {archive}{suffix} {suite} main\n" for suffix, suite in SUITES]
    (base / "etc/sources.list").write_text("".join(lines))
    options = [
        f"-oDir::State::Lists={base}/lists",
        f"-oDir::Cache={base}/cache",
        f"-oDir::Etc::SourceList={base}/etc/sources.list",
        "-oDir::Etc::SourceParts=/dev/null",
        "-oDir::State::status=/dev/null",
        "-oAcquire::Languages=none",
        "-oAPT::Sandbox::User=root",
    ]
    run_tool(["apt-get", *options, "-qq", "update"], timeout_s=180)
    return options


def find_kernel(series: str) -> Kernel:
    """Return a kernel of this series from the store, or fetch the newest one first.

    Raises:
        BenchError: the archive has none, or a tool gives up.
    """
    recipe = digest([(HERE / "guest/init.sh").read_bytes(), " ".join(BOOT_MODULES), series])
    target = STORE / "kernels" / f"{series}-{recipe}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch("kernel") as work:
            made = work / "made"
            made.mkdir()
            _unpack_kernel(series, work, made)
            made.rename(target)
        for old in target.parent.glob(f"{series}-*"):
            if old != target:
                shutil.rmtree(old)
    release = (target / "release").read_text()
    return Kernel(release, target / "vmlinuz", target / "initramfs", target / "modules.erofs")


def _unpack_kernel(series: str, work: Path, made: Path) -> None:
    options = apt_options()
    names = run_tool(["apt-cache", *options, "pkgnames", f"linux-image-{series}"], timeout_s=60).decode().split()
    candidates = [name for name in names if re.fullmatch(KERNELS[series], name)]
    if not candidates:
        raise BenchError(f"find a kernel {series}: no package in {mirror()} is like {KERNELS[series]}")
    newest = max(candidates, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    run_tool(["apt-get", *options, "-qq", "download", newest], timeout_s=300, cwd=work)
    tree = work / "tree"
    run_tool(["dpkg-deb", "-x", str(next(work.glob("*.deb"))), str(tree)], timeout_s=120)
    image = next((tree / "boot").glob("vmlinuz-*"))
    release = image.name.partition("-")[2]
    run_tool(["depmod", "-b", str(tree), release], timeout_s=120)
    shutil.copy(image, made / "vmlinuz")
    (made / "release").write_text(release)
    _make_initramfs(tree, release, work / "initramfs", made / "initramfs")
    run_tool(["mkfs.erofs", "-T0", str(made / "modules.erofs"), str(tree / "lib/modules")], timeout_s=120)


def _make_initramfs(tree: Path, release: str, folder: Path, output: Path) -> None:
    """Pack busybox, the modules in the order of their dependencies, and our init."""
    for name in ("bin", "modules", "dev", "proc", "sys", "new"):
        (folder / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, folder / "bin/busybox")
    shutil.copy(HERE / "guest/init.sh", folder / "init")
    (folder / "init").chmod(0o755)
    order: list[str] = []
    for module in BOOT_MODULES:
        command = ["modprobe", "-d", str(tree), "-S", release, "--show-depends", module]
        for line in run_tool(command, timeout_s=60).decode().splitlines():
            kind, _, path = line.strip().partition(" ")
            if kind == "insmod":
                source = Path(path.split()[0])
                name = source.name.removesuffix(".xz")
                data = source.read_bytes()
                (folder / "modules" / name).write_bytes(lzma.decompress(data) if source.suffix == ".xz" else data)
                if name not in order:
                    order.append(name)
    (folder / "order").write_text("\n".join(order) + "\n")
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))]
    packed = run_tool(
        ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"],
        timeout_s=60,
        cwd=folder,
        stdin="\n".join(names).encode() + b"\n",
    )
    output.write_bytes(packed)


def root_image() -> Path:
    """Return the guest's root file system, built if the store lacks it.

    It is ext4 on a whole disk, as on a real machine: overlay and id-mapped mounts, user attributes and limits of a
    block device work on it, which an overlay over a read-only image would not let them. No run writes to it.

    Raises:
        BenchError: not root (a file system with many owners is made), or a tool gives up.
    """
    unit = (HERE / "guest/corral-bench.service").read_bytes()
    recipe = digest([" ".join(GUEST_PACKAGES), " ".join(MASKED_UNITS), unit, inspect.getsource(_configure)])
    target = STORE / "images" / f"{recipe}.ext4"
    if target.exists():
        os.utime(target)
        return target
    if os.geteuid() != 0:
        raise BenchError("build the guest's root image: only root can make files of other owners")
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch("root") as work:
        tree, image = work / "tree", work / "image"
        apt_options()
        bootstrap = ["mmdebstrap", "--variant=essential", "--mode=root", "--quiet"]
        bootstrap += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
        bootstrap += [f"--include={','.join(GUEST_PACKAGES)}", "bookworm", str(tree)]
        bootstrap += [str(STORE / "apt/etc/sources-guest.list")]
        archive = mirror()
        lines = [f"deb [signed-by={KEYRING}] {archive}{suffix} {suite} main\n" for suffix, suite in SUITES[:2]]
        (STORE / "apt/etc/sources-guest.list").write_text("".join(lines))
        run_tool(["unshare", "-m", "--propagation", "private", *bootstrap], timeout_s=600)
        _configure(tree)
        # 2 GiB free for what the tests write; the file is sparse. No journal: nothing survives a run anyway.
        make = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1", "-L", "corral-root"]
        run_tool([*make, "-d", str(tree), str(image), "3G"], timeout_s=300)
        image.rename(target)
    # Another checkout may share the store.
    prune(target.parent, keep=2)
    return target


def _configure(tree: Path) -> None:
    """Make the fresh system one that runs the bench and does nothing else."""
    units = tree / "etc/systemd/system"
    for unit in MASKED_UNITS:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    shutil.copy(HERE / "guest/corral-bench.service", units)
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "corral-bench.service").symlink_to("/etc/systemd/system/corral-bench.service")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    # Set: otherwise the first boot applies presets to all units.
    (tree / "etc/machine-id").write_text("c0ffee00c0ffee00c0ffee00c0ffee00\n")
    (tree / "etc/hostname").write_text("corral-bench\n")
    (tree / "etc/fstab").write_text("")
    journal = tree / "etc/systemd/journald.conf.d"
    journal.mkdir(parents=True, exist_ok=True)
    (journal / "bench.conf").write_text("[Journal]\nStorage=volatile\n")
    run_tool(["chroot", str(tree), "useradd", "-m", "-u", str(TESTER_ID), "-s", "/bin/bash", TESTER], timeout_s=60)
    for name in ("subuid", "subgid"):
        (tree / "etc" / name).write_text(f"{TESTER}:100000:65536\ncontainers:300000:131072\n")
    (tree / "opt/corral").mkdir(parents=True)
    (tree / "usr/lib/modules").mkdir(exist_ok=True)
    for folder in ("var/cache/apt", "var/lib/apt", "usr/share/doc"):
        shutil.rmtree(tree / folder, ignore_errors=True)
