"""containerd of its own (root, state, sockets), driven by ctr with the runtime under test."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator, Sequence

from callers.children import wait_until
from callers.images import REFERENCE
from callers.runtime import RuntimeUnderTest
from callers.sandbox import INSIDE, Result, Sandbox

CONFIG = f"""
version = 2
root = "{INSIDE}/root"
state = "{INSIDE}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{INSIDE}/containerd.sock"
[ttrpc]
  address = "{INSIDE}/containerd.sock.ttrpc"
"""


class Containerd:
    """Calls ctr; owns the daemon (stopped with the sandbox)."""

    def __init__(self, sandbox: Sandbox, runtime: RuntimeUnderTest) -> None:
        self.sandbox, self.runtime = sandbox, runtime
        self.namespace = sandbox.cgroup_parent[1:]  # containerd's default cgroup is /NAMESPACE/ID
        self._names = (f"box{number}" for number in itertools.count())
        sandbox.path("config.toml").write_text(CONFIG)
        # With --uidmap, ctr starts its options anew and forgets --runc-binary (containerd#11589): the shim then calls
        # the first `runc` in containerd's PATH.
        path = f"{runtime.as_runc.parent}:{sandbox.env['PATH']}"
        sandbox.start_daemon(
            ["containerd", "--config", str(INSIDE / "config.toml")],
            lambda: self("version", code=None).code == 0,
            {"PATH": path},
        )

    def argv(self, *words: str) -> list[str]:
        """The full command line."""
        return ["ctr", "-a", str(INSIDE / "containerd.sock"), "-n", self.namespace, *words]

    def __call__(self, *words: str, code: int | None = 0, stdin: str = "") -> Result:
        return self.sandbox.run(self.argv(*words), code=code, stdin=stdin)

    def run_words(self, name: str, *options: str, command: Sequence[str]) -> list[str]:
        """The words of `ctr run` with our runtime."""
        return ["run", "--runc-binary", str(self.runtime.path), *options, REFERENCE, name, *command]

    def run(self, *options: str, command: Sequence[str], code: int | None = 0) -> Result:
        """`ctr run` in the foreground."""
        return self(*self.run_words(next(self._names), *options, command=command), code=code)

    def start_sleeper(self, *options: str) -> str:
        """Start a detached container that sleeps; return its name."""
        return self.start(*options, command=["sleep", "1000"])

    def start(self, *options: str, command: Sequence[str]) -> str:
        """Start a detached container; return its name."""
        name = next(self._names)
        self(*self.run_words(name, "-d", *options, command=command))
        return name

    def exec(self, name: str, *command: str, code: int | None = 0) -> Result:
        """`ctr task exec`."""
        return self("task", "exec", "--exec-id", next(self._names), name, *command, code=code)

    def status(self, name: str) -> str:
        """The task's status as `ctr task ls` shows it; empty without a task."""
        rows = [line.split() for line in self("task", "ls").out.splitlines()[1:]]
        return next((row[2] for row in rows if row[0] == name), "")

    def watch_events(self) -> subprocess.Popen[str]:
        """Start `ctr events`, writing to the file `events`."""
        with self.sandbox.path("events").open("w") as out:
            return self.sandbox.children.start(
                self.sandbox.wrap(["timeout", "-k", "5", "60", *self.argv("events")]), self.sandbox.env, stdout=out
            )

    def prepare(self) -> None:
        """Import the image and run once, so that what containerd keeps anyway is in the baseline."""
        self("image", "import", str(INSIDE / "image.tar"))
        self.run("--rm", command=["true"])
        self.sandbox.mark_baseline()

    def one_test(self) -> Iterator[Containerd]:
        """For a fixture: hand out ctr, then remove all containers and look for leaks."""
        self.runtime.forget()
        self.sandbox.begin_test()
        yield self
        for line in self("task", "ls").out.splitlines()[1:]:
            name = line.split()[0]
            if "PAUSED" in line:
                self("task", "resume", name)
            self("task", "kill", "-s", "KILL", "-a", name, code=None)
            wait_until(lambda name=name: self.status(name) in ("STOPPED", ""), f"task {name} stops")  # type: ignore[misc]
            self("task", "delete", name)
        for name in self("container", "ls", "-q").out.split():
            self("container", "delete", name)
        self.sandbox.assert_no_leaks()
