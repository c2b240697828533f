"""Drives any OCI runtime from outside: `Runtime` runs its commands, `Bundle` holds a
config.json and its rootfs, `Container` is one container's life as a context manager.

Knows nothing of how a runtime works. Every command has a deadline; nothing sleeps; a
container's init becomes a child of this process (it is a child subreaper), so its true
exit status can be waited for.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from conformance import cgroups, rootfs
from conformance import spec as specs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# For one step. A cell of the VM bench is emulated, by a host that may be busy with other things.
DEADLINE_S = 120.0 if "CORRAL_VM_CELL" in os.environ else 30.0
_counter = iter(range(1, 1 << 30))


def driver() -> str:
    """The cgroup driver that this run's containers are made with: `cgroupfs`, or `systemd` in cells of the VM bench."""
    return os.environ.get("CORRAL_VM_DRIVER", "cgroupfs")


def driver_args() -> list[str]:
    """The runtime's option for the driver of this run."""
    return ["--systemd-cgroup"] if driver() == "systemd" else []


def id_prefix() -> str:
    """What every container id, cgroup and directory of this process's tests begins with."""
    return f"ct{os.getpid()}-"


def unique_id() -> str:
    """A container id that no other test, and no other test process, uses."""
    return f"{id_prefix()}{next(_counter)}"


def wait_until(holds: Callable[[], Any], what: str, timeout_s: float = DEADLINE_S) -> Any:
    """Poll until `holds` returns something true, and return that; fail after the deadline."""
    end = time.monotonic() + timeout_s
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        select.select([], [], [], 0.005)


@dataclass(frozen=True)
class Result:
    """What one command of the runtime did. The texts are decoded, lossily."""

    args: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        """Standard output by lines."""
        return self.stdout.splitlines()

    @property
    def fields(self) -> dict[str, str]:
        """Standard output that was written as `name=value` lines."""
        return dict(line.split("=", 1) for line in self.lines if "=" in line)

    def json(self) -> Any:
        """Standard output, which has to be one JSON document."""
        return json.loads(self.stdout)

    def __str__(self) -> str:
        return f"{' '.join(self.args)}\n-> {self.returncode}\n{self.stdout}\n{self.stderr}"


class CommandError(AssertionError):
    """A command of the runtime did not exit as the case demands."""


@dataclass
class Bundle:
    """A directory with config.json and rootfs. Edit `spec`; it is written before each use."""

    path: Path
    spec: specs.Spec
    rootfs: Path

    def write(self) -> None:
        """Bring config.json up to date with `spec`."""
        (self.path / "config.json").write_text(json.dumps(self.spec))

    @property
    def process(self) -> Any:
        """`spec["process"]`."""
        return self.spec["process"]

    @property
    def linux(self) -> Any:
        """`spec["linux"]`."""
        return self.spec["linux"]

    @property
    def resources(self) -> Any:
        """`spec["linux"]["resources"]`."""
        return self.spec["linux"].setdefault("resources", {})

    def shell(self, script: str) -> None:
        """Let the container's process be this shell script."""
        self.process["args"] = ["/bin/sh", "-c", script]

    def host_dir(self, name: str) -> Path:
        """A new directory beside the rootfs, to be bind mounted into the container."""
        path = self.path / name
        path.mkdir()
        path.chmod(0o755)
        return path


@dataclass
class Runtime:
    """One runtime's binary with a state root, an environment and a user of its own."""

    path: str
    root: Path
    name: str
    version: tuple[int, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()
    uid: int | None = None
    gid: int | None = None
    global_args: Sequence[str] = ()
    # The option for the cgroup driver of this run; a case about one driver alone sets its own.
    driver_args: Sequence[str] = ()

    def argv(self, *args: str | os.PathLike[str]) -> list[str]:
        """The whole command line, with the wrapper, the binary and `--root`."""
        root = ["--root", str(self.root)]
        options = [*self.driver_args, *self.global_args]
        return [*self.prefix, self.path, *root, *options, *[os.fspath(a) for a in args]]

    def spawn(
        self,
        *args: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        cwd: Path | None = None,
        **streams: Any,
    ) -> subprocess.Popen[bytes]:
        """Start a command of the runtime in a session of its own; the caller waits for it."""
        user: dict[str, Any] = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.uid else {}
        return subprocess.Popen(
            self.argv(*args),
            env={"PATH": os.environ.get("PATH", ""), **self.env, **(env or {})},
            pass_fds=pass_fds,
            cwd=cwd or self.root.parent,
            start_new_session=True,
            **user,
            **streams,
        )

    @contextlib.contextmanager
    def background(
        self, *args: str | os.PathLike[str], **how: Any
    ) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
        """A command that runs beside the test, and its standard output; killed at the end of the block."""
        process = self.spawn(*args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **how)
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def __call__(
        self,
        *args: str | os.PathLike[str],
        check: bool = True,
        stdin: str | int = subprocess.DEVNULL,
        output: Path | None = None,
        timeout_s: float = DEADLINE_S,
        **popen: Any,
    ) -> Result:
        """Run a command to its end. With `output`, the standard streams go to that file.

        A file, not a pipe, is what a detached container must get: a pipe would stay open
        as long as the container lives.
        """
        feed = stdin.encode() if isinstance(stdin, str) else None
        out: int | IO[bytes] = subprocess.PIPE if output is None else output.open("ab")
        process = self.spawn(
            *args,
            stdin=subprocess.PIPE if feed is not None else stdin,
            stdout=out,
            stderr=subprocess.PIPE if output is None else subprocess.STDOUT,
            **popen,
        )
        try:
            stdout, stderr = process.communicate(feed, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise CommandError(f"no end within {timeout_s} s: {self.argv(*args)}") from None
        finally:
            if not isinstance(out, int):
                out.close()
        said = output.read_bytes() if output is not None else b""
        result = Result(
            tuple(self.argv(*args)),
            process.returncode,
            (stdout or b"").decode(errors="replace"),
            (stderr or said).decode(errors="replace"),
        )
        if check and result.returncode != 0:
            raise CommandError(str(result))
        return result

    def run(self, bundle: Bundle, script: str | None = None, *flags: str, check: bool = True, **how: Any) -> Result:
        """`run` in the foreground, without a terminal, to the end of the container."""
        if script is not None:
            bundle.shell(script)
        bundle.write()
        return self("run", "--bundle", bundle.path, *flags, unique_id(), check=check, **how)

    def refuse(self, bundle: Bundle, *words: str, script: str | None = None) -> Result:
        """`run` has to be refused before the program starts, in a message with these words."""
        marker = bundle.rootfs / "started"
        bundle.shell(f": > /started; {script or 'true'}")
        result = self.run(bundle, check=False)
        if result.returncode == 0 or marker.exists():
            raise CommandError(f"was to be refused: {result}")
        for word in words:
            if word.lower() not in result.stderr.lower():
                raise CommandError(f"message lacks {word!r}: {result}")
        return result

    @contextlib.contextmanager
    def create(self, bundle: Bundle, script: str | None = None, *flags: str, **how: Any) -> Iterator[Container]:
        """A created container; it is deleted by force at the end of the block."""
        with self._made("create", bundle, script, flags, how) as container:
            yield container

    @contextlib.contextmanager
    def start(
        self, bundle: Bundle, script: str | None = "exec sleep 1000", *flags: str, **how: Any
    ) -> Iterator[Container]:
        """A running, detached container; it is deleted by force at the end of the block."""
        with self._made("run", bundle, script, ("--detach", *flags), how) as container:
            yield container

    @contextlib.contextmanager
    def _made(
        self,
        command: str,
        bundle: Bundle,
        script: str | None,
        flags: Sequence[str],
        how: dict[str, Any],
    ) -> Iterator[Container]:
        if script is not None:
            bundle.shell(script)
        bundle.write()
        container = Container(self, how.pop("id", None) or unique_id(), bundle)
        how.setdefault("output", bundle.path / f"{container.id}.output")
        if "--pid-file" not in flags:
            flags = ("--pid-file", str(container.pid_file), *flags)
        try:
            container.created = self(command, "--bundle", bundle.path, *flags, container.id, **how)
            yield container
        finally:
            container.dispose()


@dataclass
class Container:
    """One container of a runtime, known by its id."""

    runtime: Runtime
    id: str
    bundle: Bundle
    created: Result | None = None
    _pid: int = 0

    def command(self, name: str, *args: str, check: bool = True, **how: Any) -> Result:
        """`<runtime> <name> <id> <args>`."""
        return self.runtime(name, self.id, *args, check=check, **how)

    def state(self) -> Any:
        """The parsed answer of `state`."""
        return self.command("state").json()

    @property
    def status(self) -> str:
        """`status` as `state` tells it."""
        return str(self.state()["status"])

    @property
    def pid_file(self) -> Path:
        """Where the runtime is told to write the init's pid, unless a case names another file."""
        return self.bundle.path / f"{self.id}.pid"

    @property
    def pid(self) -> int:
        """The init's pid, also after its end."""
        if not self._pid:
            told = self.pid_file.exists()
            self._pid = int(self.pid_file.read_text() if told else self.state()["pid"])
        return self._pid

    def start(self) -> None:
        """Let a created container run."""
        self.command("start")

    def exec(self, *args: str, flags: Sequence[str] = (), check: bool = True, **how: Any) -> Result:
        """Run a program in the container and wait for its end."""
        return self.runtime("exec", *flags, self.id, *args, check=check, **how)

    def sh(self, script: str, *flags: str, check: bool = True, **how: Any) -> Result:
        """Run a shell script in the container and wait for its end."""
        return self.exec("/bin/sh", "-c", script, flags=flags, check=check, **how)

    def kill(self, sig: str = "KILL", *flags: str, check: bool = True) -> Result:
        """Send a signal to the init, or with `--all` to all processes."""
        return self.runtime("kill", *flags, self.id, sig, check=check)

    def wait(self, timeout_s: float = DEADLINE_S) -> int:
        """Reap the init: its exit code, 128 + the signal that ended it, or -1 if it is not ours."""
        return reap(self.pid, timeout_s)

    def delete(self, *flags: str, check: bool = True) -> Result:
        """Remove what is left of the container."""
        return self.runtime("delete", *flags, self.id, check=check)

    @property
    def output(self) -> str:
        """What the container's processes have written so far."""
        path = self.bundle.path / f"{self.id}.output"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_output(self, text: str) -> str:
        """Wait until the container has written this text."""
        wait_until(lambda: text in self.output, f"{text!r} in the output of {self.id}")
        return self.output

    def proc(self, name: str) -> str:
        """A file of the init's directory in the host's /proc."""
        return Path(f"/proc/{self.pid}/{name}").read_text()

    def cgroup_read(self, *names: str) -> str:
        """The first of these cgroup files that exists: pass the names of v1 and of v2."""
        return cgroups.read_for(self.pid, *names)

    def dispose(self) -> None:
        """Delete by force and reap, whatever state the container is in."""
        with contextlib.suppress(CommandError, OSError, ValueError, KeyError):
            self.pid  # noqa: B018  (asked for while the state still knows it)
        self.runtime("delete", "--force", self.id, check=False)
        if self._pid:
            with contextlib.suppress(AssertionError):
                reap(self._pid, 5)


def reap(pid: int, timeout_s: float = DEADLINE_S) -> int:
    """Wait for a child to end and take its status; -1 if it was reaped before."""

    def ended() -> os.waitid_result | None:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)

    try:
        end = wait_until(ended, f"end of process {pid}", timeout_s)
    except ChildProcessError:
        return -1
    killed = end.si_code != os.CLD_EXITED
    return int(end.si_status) + (128 if killed else 0)


def make_bundle(directory: Path, template: rootfs.Template, cgroup_parent: str) -> Bundle:
    """A bundle with a small rootfs and a cgroup of its own below `cgroup_parent`."""
    directory.mkdir(mode=0o755)
    tree = directory / "rootfs"
    template.copy_to(tree)
    spec = specs.base_spec()
    parent = f"{cgroup_parent}/" if driver() == "cgroupfs" else f"{cgroups.TEST_SLICE}:ct:"
    spec["linux"]["cgroupsPath"] = parent + unique_id()
    return Bundle(directory, spec, tree)


def namespace_of(pid: int | str, kind: str) -> str:
    """The identity of a process's namespace: `kind` as under /proc/PID/ns."""
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def status_of(pid: int | str) -> dict[str, str]:
    """/proc/PID/status as a mapping."""
    return parse_status(Path(f"/proc/{pid}/status").read_text())


def parse_status(text: str) -> dict[str, str]:
    """Lines `Name:<tab>value` as a mapping."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}
