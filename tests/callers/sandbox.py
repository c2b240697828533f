"""A private place for one caller: mount and network namespaces, directories, cgroup parent.

The caller, its daemons and the runtime under test run in the namespaces of one
holder process. /run, /dev/shm and /etc are private there, so nothing of the host's
container engines is seen or touched. `INSIDE` is the scratch directory as they see it.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from callers.children import Children, command_of, descendants_of, is_zombie, wait_until

INSIDE = Path("/run/c")
# corral: compiled seccomp filters, and which parent cgroups are its own to remove.
KEPT_IN_ROOT = (".seccomp", ".parents")
CGROUP_ROOT = Path("/sys/fs/cgroup")
# An emulated processor is that much slower.
PATIENCE = 5 if "CORRAL_VM_CELL" in os.environ else 1
USER, USER_ID = "caller", 54321

SETUP = """
set -e
ip link set lo up
mkdir -p "$1/etc.upper" "$1/etc.work"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc.upper,workdir=$1/etc.work" overlay /etc
echo 'caller:x:54321:54321::/run/c/home:/bin/sh' >> /etc/passwd
echo 'caller:x:54321:' >> /etc/group
printf 'caller:200000:65536\\ncontainers:300000:131072\\n' > /etc/subuid
printf 'caller:200000:65536\\ncontainers:300000:131072\\n' > /etc/subgid
# systemd and its bus, where there are any, are the host's.
mkdir "$1/kept"
for name in systemd dbus; do
    if [ -d "/run/$name" ]; then mkdir "$1/kept/$name"; mount --rbind "/run/$name" "$1/kept/$name"; fi
done
mount -t tmpfs -o mode=755 tmpfs /run
for kept in "$1"/kept/*/; do
    if [ -d "$kept" ]; then name=$(basename "$kept"); mkdir "/run/$name"; mount --move "$kept" "/run/$name"; fi
done
mkdir -p /run/c /run/user/54321 /run/lock
mount --bind "$1" /run/c
chown 54321:54321 /run/user/54321
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
if [ -d /var/lib/cni ]; then mount -t tmpfs tmpfs /var/lib/cni; fi
echo ready
exec sleep infinity
"""


def hierarchies() -> list[Path]:
    """Where each hierarchy is mounted: on pure v2 there is one."""
    return [CGROUP_ROOT] if (CGROUP_ROOT / "cgroup.controllers").exists() else sorted(CGROUP_ROOT.iterdir())


class Result:
    """What a finished command left: exit code, output, errors."""

    def __init__(self, argv: Sequence[str], code: int, out: str, err: str) -> None:
        self.argv, self.code, self.out, self.err = argv, code, out, err

    def __repr__(self) -> str:
        return f"{' '.join(self.argv)}\n  exit {self.code}\n  stdout {self.out!r}\n  stderr {self.err!r}"


class Sandbox:
    """Owns a holder process, its namespaces, and a cgroup parent in every hierarchy."""

    def __init__(self, children: Children, directory: Path, name: str) -> None:
        self.children = children
        self.outside = directory
        self.cgroup_parent = f"/corral-callers-{os.getpid()}-{name}"
        self.daemons: list[subprocess.Popen[str]] = []
        directory.mkdir(parents=True)
        directory.chmod(0o755)
        for folder, mode in (("home", 0o777), ("tmp", 0o1777)):
            (directory / folder).mkdir()
            (directory / folder).chmod(mode)
        self.env: dict[str, str] = {
            "PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(INSIDE / "home"),
            "TMPDIR": str(INSIDE / "tmp"),
            "LANG": "C.UTF-8",
        }
        # Mount points that the caller keeps or drops as it likes (podman's "overlay", /run/netns).
        self.callers_own: set[str] = set()
        self._mounts: set[str] = set()
        self._processes: set[int] = set()
        self._start_holder()

    def _start_holder(self) -> None:
        argv = ["unshare", "-nm", "--propagation", "private", "sh", "-c", SETUP, "sh", str(self.outside)]
        self.holder = self.children.start(argv, self.env, stdout=subprocess.PIPE, start_new_session=True)
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == "ready\n", "the private namespaces were not set up"

    def path(self, name: str) -> Path:
        """A file below INSIDE, as the test process reaches it."""
        return self.outside / name

    def in_run(self, name: str) -> Path:
        """A path below the private /run, as the test process reaches it."""
        return Path(f"/proc/{self.holder.pid}/root/run") / name

    def wrap(self, argv: Sequence[str], user: str = "root") -> list[str]:
        """The command line that runs argv inside, as root or as the unprivileged user."""
        enter = ["nsenter", "-t", str(self.holder.pid), "-m", "-n", "--"]
        if user != "root":
            ids = ["--reuid", str(USER_ID), "--regid", str(USER_ID), "--clear-groups", "--inh-caps=-all"]
            enter += ["setpriv", *ids, "--"]
        return [*enter, *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        code: int | None = 0,
        user: str = "root",
        timeout_s: int = 60,
        stdin: str = "",
    ) -> Result:
        """Run a command to its end; AssertionError unless it exits with `code` (None: anything)."""
        bounded = ["timeout", "-k", "5", str(timeout_s * PATIENCE), *argv]
        # Output goes to files: a daemonized grandchild that kept a pipe would make us wait for it.
        with self.path("out").open("w+") as out, self.path("err").open("w+") as err:
            process = self.children.start(
                self.wrap(bounded, user), self.env, stdin=subprocess.PIPE, stdout=out, stderr=err
            )
            process.communicate(stdin)
            out.seek(0)
            err.seek(0)
            result = Result(argv, process.returncode, out.read(), err.read())
        assert code is None or result.code == code, f"expected exit {code}: {result!r}"
        return result

    def run_in_pty(self, argv: Sequence[str], typed: str, until: str, *, user: str = "root") -> tuple[int, str]:
        """Run a command on a new terminal, type into it, and return (exit code, screen)."""
        primary, secondary = pty.openpty()
        bounded = self.wrap(["timeout", "--foreground", "-k", "5", "60", "setsid", "-c", "-w", *argv], user)
        process = self.children.start(
            bounded, {**self.env, "TERM": "dumb"}, stdin=secondary, stdout=secondary, stderr=secondary
        )
        os.close(secondary)
        screen, deadline = "", time.monotonic() + 60
        sent = False
        while time.monotonic() < deadline:
            if select.select([primary], [], [], 0.1)[0]:
                try:
                    chunk = os.read(primary, 65536)
                except OSError:
                    break
                screen += chunk.decode(errors="replace")
            # Type once the shell has shown its prompt: what comes earlier may be flushed by raw mode.
            if not sent and ("# " in screen or "$ " in screen):
                os.write(primary, typed.encode())
                sent = True
        code = process.wait(timeout=10)
        os.close(primary)
        assert until in screen, f"{until!r} was not seen on the terminal: {screen!r}"
        return code, screen

    def start_daemon(self, argv: Sequence[str], ready: Callable[[], bool], env: Mapping[str, str]) -> None:
        """Start a daemon inside and wait until it is ready; `close` stops it by its pid."""
        name = Path(argv[0]).name
        with self.path(f"{name}.log").open("w") as log:
            process = self.children.start(
                self.wrap(argv), {**self.env, **env}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.daemons.append(process)
        wait_until(lambda: process.poll() is not None or ready(), f"{name} is ready", 30 * PATIENCE)
        assert process.poll() is None, f"{name} ended: {self.path(f'{name}.log').read_text()[-2000:]}"

    def mounts(self) -> set[str]:
        """The mount points inside, each with its device, but for the caller's own."""
        lines = Path(f"/proc/{self.holder.pid}/mountinfo").read_text().splitlines()
        return {f"{line.split()[2]} {line.split()[4]}" for line in lines if line.split()[4] not in self.callers_own}

    def processes(self) -> set[int]:
        """All processes below this test process that are not finished."""
        return {pid for pid in descendants_of(os.getpid()) if not is_zombie(pid)}

    def cgroups(self) -> set[str]:
        """The cgroups below our parent, in every hierarchy; not the empty parents that callers keep."""
        found: set[str] = set()
        for hierarchy in hierarchies():
            top = hierarchy / self.cgroup_parent[1:]
            found |= {path for path, _, _ in os.walk(top) if not path.endswith(f"{self.cgroup_parent}/buildkit")}
        return found

    def records(self) -> set[str]:
        """What the runtimes keep below /run: one entry per container; not caches, nor notes on parents still in use."""
        found: set[str] = set()
        for root in self.in_run("").glob("*"):
            if root.is_dir() and root.name.startswith(("runc", "crun", "corral", "youki")):
                found |= {f"{root.name}/{entry.name}" for entry in root.iterdir() if entry.name not in KEPT_IN_ROOT}
        return found

    def mark_baseline(self) -> None:
        """Take what exists now for granted in later leak checks."""
        self._mounts, self._processes = self.mounts(), self.processes()
        self._cgroups, self._records = self.cgroups(), self.records()

    def begin_test(self) -> None:
        """Take the processes of now for granted: other sandboxes' daemons come and go between tests."""
        self._processes = self.processes()

    def leaks(self) -> list[str]:
        """What exists beyond the baseline."""
        found = [f"mount {entry}" for entry in self.mounts() - self._mounts]
        found += [f"process {pid}: {command_of(pid)}" for pid in self.processes() - self._processes]
        found += [f"cgroup {entry}" for entry in self.cgroups() - self._cgroups]
        found += [f"record {entry}" for entry in self.records() - self._records]
        return found

    def assert_no_leaks(self) -> None:
        """AssertionError if anything stays beyond the baseline; waits for what is on its way out."""
        deadline = time.monotonic() + 10 * PATIENCE
        leaks = self.leaks()
        while leaks and time.monotonic() < deadline:
            select.select([], [], [], 0.05)
            leaks = self.leaks()
        assert leaks == [], "left behind:\n" + "\n".join(leaks)

    def close(self) -> list[str]:
        """Stop daemons and holder, remove our cgroups; return what had to be killed or could not go."""
        complaints: list[str] = []
        for daemon in reversed(self.daemons):
            for pid in [daemon.pid, *descendants_of(daemon.pid)][:2]:
                if command_of(pid):
                    os.kill(pid, signal.SIGTERM)
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                complaints.append(f"daemon {command_of(daemon.pid)} ignored SIGTERM")
                daemon.kill()
        os.killpg(self.holder.pid, signal.SIGKILL)
        self.holder.wait(timeout=10)
        if self.holder.stdout is not None:
            self.holder.stdout.close()
        return complaints + self._remove_cgroups()

    def _remove_cgroups(self) -> list[str]:
        complaints: list[str] = []
        for hierarchy in hierarchies():
            for path, _, _ in os.walk(hierarchy / self.cgroup_parent[1:], topdown=False):
                try:
                    Path(path).rmdir()
                except OSError as error:
                    complaints.append(f"rmdir {path}: {error.strerror}")
        return complaints
