"""The engine's roots for a user without privileges, with and without ranges of ids: unpacking, running, copying."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from native.driver import make_rootfs
from probes import lacking

pytestmark = pytest.mark.requires("root", "busybox")

PROGRAM = Path(__file__).resolve().parents[2] / "build" / "bin" / "corral"
USER = 48713
FIRST_SUBID, SUBIDS = 800000, 65536
TIMEOUT_S = 120


class Rootless:
    """A user with a home of its own; ``corral`` runs the command as that user."""

    def __init__(self, path: Path, *, has_ranges: bool) -> None:
        self.path = path
        self.has_ranges = has_ranges
        self.home = path / "home"
        for name in ("etc", "home", "run"):
            (path / name).mkdir()
        for name in ("home", "run"):
            os.chown(path / name, USER, USER)
        (path / "etc" / "passwd").write_text(Path("/etc/passwd").read_text() + f"rootless:x:{USER}:{USER}::/:/bin/sh\n")
        ranges = f"rootless:{FIRST_SUBID}:{SUBIDS}\n" if has_ranges else ""
        for name in ("subuid", "subgid"):
            (path / "etc" / name).write_text(ranges)

    def corral(self, *words: str, status: int = 0) -> str:
        """What the command prints; its exit code must be ``status``."""
        done = self.tried(*words)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def tried(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command, however it ends."""
        names = ("passwd", "subuid", "subgid")
        binds = "; ".join(f"[ -e /etc/{n} ] && mount --bind {self.path}/etc/{n} /etc/{n}" for n in names)
        if (self.path / "fuse").exists():
            binds += f"; mount --bind {self.path}/fuse /dev/fuse"
        become = f'exec setpriv --reuid {USER} --regid {USER} --clear-groups "$@"'
        prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{binds}; {become}", "sh"]
        return subprocess.run(
            [*prefix, str(PROGRAM), *words],
            env={**os.environ, "HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.path / "run")},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )

    def run(self, *words: str) -> str:
        """`corral run` without network and cgroup, which the user has none of."""
        return self.corral("run", "--cgroups=disabled", "--network=none", *words)

    def close(self) -> None:
        """Remove the containers; the keeper, which has nothing more to do then, is ended."""
        for name in self.corral("ps", "-aq").split():
            self.corral("rm", "-f", name)
        lock = self.path / "run" / "corral" / "keeper.lock"
        pid = lock.read_text().strip() if lock.exists() else ""
        comm = Path(f"/proc/{pid}/comm")
        if pid and comm.exists() and comm.read_text().startswith("corral-keeper"):
            os.kill(int(pid), signal.SIGTERM)
            until = time.monotonic() + TIMEOUT_S
            while comm.exists():
                assert time.monotonic() < until
                time.sleep(0.01)


@pytest.fixture(params=["ranges", "single"])
def rootless(request: pytest.FixtureRequest, mark: str, no_leaks: None) -> Iterator[Rootless]:
    """A user with subordinate ids, or with its own alone."""
    if request.param == "ranges" and lacking("newuidmap"):
        pytest.skip(f"requires newuidmap: {lacking('newuidmap')}")
    path = Path(tempfile.mkdtemp(prefix=f"{mark}-", dir="/tmp"))
    path.chmod(0o755)
    made = Rootless(path, has_ranges=request.param == "ranges")
    yield made
    made.close()
    shutil.rmtree(path)


@pytest.fixture
def image(rootless: Rootless, tmp_path: Path) -> str:
    """An image with busybox, a file of another owner, and a directory that is the container's alone."""
    base = make_rootfs(tmp_path / "base")
    (base / "etc" / "old").write_text("old\n")
    (base / "closed").mkdir(mode=0o700)
    if rootless.has_ranges:
        os.chown(base / "closed", 33, 33)
    archive = rootless.path / "base.tar"
    subprocess.run(["tar", "-C", str(base), "-cf", str(archive), "."], check=True)
    rootless.corral("import", str(archive), "base")
    return "base"


def test_hosts_root_without_privileges(rootless: Rootless) -> None:
    """The host's programs run, what is written stays apart, and diff tells it; all of it can be removed."""
    out = rootless.run(
        "--name", "c", "host", "--", "sh", "-c", "id -u; echo x > /new; mkdir -p /opt/a; ls /proc | wc -l"
    )
    lines = out.split()
    assert lines[0] == "0"
    assert int(lines[1]) > 5
    assert not os.path.lexists("/new")
    assert rootless.corral("diff", "c") == "A /new\nC /opt\nA /opt/a\n"
    rootless.corral("cp", "c:/new", str(rootless.home / "got"))
    assert (rootless.home / "got").read_text() == "x\n"
    rootless.corral("rm", "c")
    assert os.listdir(rootless.home / ".local/share/corral/containers") == [".lock"]


def test_user_who_stays_itself_runs_as_itself(rootless: Rootless) -> None:
    """--userns keep-id: the program is the caller, and so are its files outside; another may be named still."""
    folder = rootless.home / "shared"
    if not rootless.has_ranges:
        refused = rootless.tried("run", "--userns", "keep-id", "host", "id")
        assert (refused.returncode, "has no other uids" in refused.stderr) == (125, True)
        return
    rootless.run("--rm", "--userns", "keep-id", "-v", f"{rootless.home}:/mnt", "host", "mkdir", "/mnt/shared")
    assert folder.stat().st_uid == USER
    assert rootless.run("--rm", "--userns", "keep-id", "host", "id", "-u") == f"{USER}\n"
    assert rootless.run("--rm", "--userns", "keep-id", "--user", "0", "host", "id", "-u") == "0\n"


def test_containers_share_namespaces_without_privileges(rootless: Rootless, image: str) -> None:
    """Members of a pod, and whoever joins another's network: they share the user namespace that owns it, too."""
    rootless.corral(
        "pod", "create", "--name", "p", "--network", "none", "--hostname", "together", "--share", "net,uts,ipc"
    )
    in_pod = ("run", "--cgroups=disabled", "--pod", "p")
    rootless.corral(*in_pod, "-d", "--name", "first", image, "sleep", "300")
    look = "hostname; id -u; for kind in user net ipc uts; do readlink /proc/self/ns/$kind; done"
    seen = rootless.corral(*in_pod, "--name", "second", image, "sh", "-c", f"{look}; echo x > /etc/new")
    shared = rootless.corral("exec", "first", "sh", "-c", look)
    assert seen == shared
    assert seen.startswith("together\n")
    beside = rootless.corral(
        "run", "--cgroups=disabled", "--network", "container:first", image, "readlink", "/proc/self/ns/net"
    )
    assert beside.strip() in seen
    assert rootless.corral("diff", "second").splitlines() == ["C /etc", "A /etc/new"]
    rootless.corral("pod", "rm", "-f", "p")


def test_container_outlives_the_one_whose_namespaces_it_joined(rootless: Rootless, image: str) -> None:
    """What it wrote can be looked at and removed."""
    rootless.run("-d", "--name", "first", image, "sleep", "300")
    rootless.corral("run", "--cgroups=disabled", "--name", "c", "--network", "container:first", image, "touch", "/new")
    rootless.corral("rm", "-f", "first")
    assert rootless.corral("diff", "c") == "A /new\n"
    rootless.corral("rm", "c")


def test_container_without_group_is_no_empty_sample(rootless: Rootless) -> None:
    """stats says that there is nothing to measure: by name an error, else beside the list."""
    rootless.run("-d", "--name", "c", "host", "sleep", "300")
    done = rootless.tried("stats", "--no-stream", "c")
    assert (done.returncode, done.stderr.splitlines()[0]) == (125, "measure container 'c': it has no control group")
    done = rootless.tried("stats", "--no-stream")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        0,
        "stats: no running container has a control group to measure",
    )


def test_image_without_privileges(rootless: Rootless, image: str) -> None:
    """Layers belong to the user's ids; whiteouts work, cp, diff and commit reach what the user itself cannot."""
    owner = "33" if rootless.has_ranges else "0"
    script = "stat -c %u /closed; rm /etc/old; echo new > /etc/new; echo c > /closed/f; chmod 700 /closed"
    assert rootless.run("--name", "c", image, "sh", "-c", script) == f"{owner}\n"
    if rootless.has_ranges:
        (layer,) = (rootless.home / ".local/share/corral/layers").glob("?" * 64)
        assert (layer / "diff" / "closed").stat().st_uid == FIRST_SUBID + 32
    changes = ["C /closed", "A /closed/f", "C /etc", "A /etc/new", "D /etc/old"]
    assert rootless.corral("diff", "c").splitlines() == changes
    rootless.corral("cp", "c:/closed/f", str(rootless.home / "got"))
    assert (rootless.home / "got").read_text() == "c\n"
    rootless.corral("cp", str(rootless.home / "got"), "c:/closed/g")
    rootless.corral("commit", "-q", "c", "second")
    assert (
        rootless.run("--rm", "second", "sh", "-c", "cat /closed/g /etc/new; ls /etc/old 2>/dev/null || true")
        == "c\nnew\n"
    )


def test_running_container_without_privileges(rootless: Rootless, image: str) -> None:
    """cp into and out of a live one, and diff of it."""
    rootless.run("-d", "--name", "c", image, "sleep", "1000")
    (rootless.home / "file").write_text("content\n")
    rootless.corral("cp", str(rootless.home / "file"), "c:/closed/file")
    assert rootless.corral("exec", "c", "cat", "/closed/file") == "content\n"
    rootless.corral("cp", "c:/closed", str(rootless.home / "out"))
    assert (rootless.home / "out" / "file").read_text() == "content\n"
    assert rootless.corral("diff", "c").splitlines() == ["C /closed", "A /closed/file"]


def test_a_container_with_a_deep_tree_of_other_owners_can_be_removed(rootless: Rootless, image: str) -> None:
    """Deeper than a stack: what the container's ids own is emptied by a process that has them."""
    chown = "chown 33:33 ." if rootless.has_ranges else ":"
    script = f"mkdir /d; cd /d; i=0; while [ $i -lt 1200 ]; do mkdir d; cd -P d; {chown}; i=$((i+1)); done; chmod 0 ."
    rootless.run("--name", "c", image, "sh", "-c", script)
    rootless.corral("rm", "c")
    assert os.listdir(rootless.home / ".local/share/corral/containers") == [".lock"]


@pytest.mark.skipif(shutil.which("fuse-overlayfs") is None, reason="fuse-overlayfs is not installed")
@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="this host has no /dev/fuse")
def test_fuse_overlayfs_where_the_kernel_makes_no_stack(rootless: Rootless, image: str) -> None:
    """Its process ends with the container, or with the work on its files; diff and cp work, running and stopped."""
    # Where everybody may use it, as on most hosts.
    os.mknod(rootless.path / "fuse", 0o20666, os.makedev(10, 229))
    (rootless.path / "fuse").chmod(0o666)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (rootless.path / "run" / "corral" / "stacked").write_text(f"{boot} no")
    script = "grep ' / ' /proc/mounts | cut -d' ' -f1; rm /etc/old; echo new > /etc/new; mkdir /made; exec sleep 1000"
    rootless.run("-d", "--name", "c", image, "sh", "-c", script)
    until = time.monotonic() + TIMEOUT_S
    while "A /made" not in (found := rootless.corral("diff", "c")):
        assert time.monotonic() < until
    assert found.splitlines() == ["C /etc", "A /etc/new", "D /etc/old", "A /made"]
    assert rootless.corral("logs", "c") == "fuse-overlayfs\n"
    rootless.corral("stop", "-t", "0", "c")
    rootless.corral("cp", "c:/etc/new", str(rootless.home / "got"))
    assert (rootless.home / "got").read_text() == "new\n"
    assert "A /made" in rootless.corral("diff", "c")
    until = time.monotonic() + TIMEOUT_S
    while _servers_of(rootless):
        assert time.monotonic() < until, "fuse-overlayfs goes on"
        time.sleep(0.01)


def _servers_of(rootless: Rootless) -> list[str]:
    """The processes of fuse-overlayfs that serve this user's containers."""
    found = subprocess.run(["pgrep", "-f", f"^[^ ]*fuse-overlayfs .*{rootless.path}/"], capture_output=True, text=True)
    return found.stdout.split()
