"""dockerd of its own (data, exec root, socket) with the runtime under test added to it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence

from callers.images import REFERENCE
from callers.runtime import RuntimeUnderTest
from callers.sandbox import INSIDE, Result, Sandbox

SOCKET = f"unix://{INSIDE}/docker.sock"


class Docker:
    """Calls docker; owns the daemon (stopped with the sandbox)."""

    image = REFERENCE

    def __init__(self, sandbox: Sandbox, runtime: RuntimeUnderTest) -> None:
        self.sandbox, self.runtime = sandbox, runtime
        argv = ["/usr/sbin/dockerd", "--data-root", str(INSIDE / "data"), "--exec-root", str(INSIDE / "exec")]
        argv += ["-H", SOCKET, "--pidfile", str(INSIDE / "docker.pid"), "--config-file", str(INSIDE / "daemon.json")]
        argv += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--cgroup-parent", sandbox.cgroup_parent]
        argv += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--add-runtime", f"proven={runtime.path}"]
        sandbox.path("daemon.json").write_text("{}")
        # BuildKit takes no runtime option: it calls the first `runc` in dockerd's PATH.
        path = f"{runtime.as_runc.parent}:{sandbox.env['PATH']}"
        sandbox.start_daemon(argv, lambda: self("version", code=None).code == 0, {"PATH": path})

    def argv(self, *words: str) -> list[str]:
        """The full command line."""
        return ["/usr/bin/docker", "-H", SOCKET, *words]

    def __call__(self, *words: str, code: int | None = 0, stdin: str = "") -> Result:
        return self.sandbox.run(self.argv(*words), code=code, stdin=stdin)

    def run_words(self, *options: str, command: Sequence[str]) -> list[str]:
        """The words of `docker run` with our runtime."""
        return ["run", "--runtime", "proven", "--network", "none", *options, self.image, *command]

    def run(self, *options: str, command: Sequence[str], code: int | None = 0, stdin: str = "") -> Result:
        """`docker run` of our image."""
        return self(*self.run_words(*options, command=command), code=code, stdin=stdin)

    def start_sleeper(self, *options: str) -> str:
        """Start a detached container that sleeps; return its id."""
        return self.run("-d", *options, command=["sleep", "1000"]).out.strip()

    def inspect(self, name: str, template: str) -> str:
        """One value of `docker inspect`."""
        return self("inspect", "--format", template, name).out.strip()

    def watch_events(self, *filters: str) -> subprocess.Popen[str]:
        """Start `docker events`, writing the actions to the file `events`."""
        words = ["events", "--format", "{{.Action}}"]
        for each in filters:
            words += ["--filter", each]
        with self.sandbox.path("events").open("w") as out:
            argv = self.sandbox.wrap(["timeout", "-k", "5", "60", *self.argv(*words)])
            return self.sandbox.children.start(argv, self.sandbox.env, stdout=out)

    def prepare(self) -> None:
        """Load the image and run once, so that what dockerd keeps anyway is in the baseline."""
        self("load", "-i", str(INSIDE / "image.tar"))
        self.run("--rm", command=["true"])
        self.sandbox.mark_baseline()

    def one_test(self) -> Iterator[Docker]:
        """For a fixture: hand out docker, then remove all containers and look for leaks."""
        self.runtime.forget()
        self.sandbox.begin_test()
        yield self
        names = self("ps", "-aq").out.split()
        if names:
            self("rm", "-f", *names)
        self.sandbox.assert_no_leaks()
