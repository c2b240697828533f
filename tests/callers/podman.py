"""podman with private storage, driving the runtime under test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from callers.children import wait_until
from callers.runtime import RuntimeUnderTest
from callers.sandbox import INSIDE, Result, Sandbox

CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime_supports_json = ["crun", "runc", "corral-runtime"]
"""


class Podman:
    """Calls podman; owns its storage (below the sandbox's directory)."""

    image = "localhost/corral-callers:1"

    def __init__(self, sandbox: Sandbox, runtime: RuntimeUnderTest, user: str = "root") -> None:
        self.sandbox, self.runtime, self.user = sandbox, runtime, user
        self.cgroup_manager, self.cgroup_parent = "cgroupfs", sandbox.cgroup_parent
        self.data = INSIDE / ("data" if user == "root" else "home/data")
        sandbox.path("containers.conf").write_text(CONF)
        storage = f'[storage]\ndriver = "overlay"\ngraphroot = "{self.data}/root"\nrunroot = "{self.data}/run"\n'
        sandbox.path("storage.conf").write_text(storage)
        sandbox.env["CONTAINERS_CONF"] = str(INSIDE / "containers.conf")
        sandbox.env["CONTAINERS_STORAGE_CONF"] = str(INSIDE / "storage.conf")
        sandbox.callers_own |= {f"{self.data}/root/overlay", "/run/netns"}
        if user != "root":
            sandbox.env["XDG_RUNTIME_DIR"] = "/run/user/54321"

    def argv(self, *words: str) -> list[str]:
        """The full command line."""
        base = [
            "podman",
            "--runtime",
            str(self.runtime.path),
            "--cgroup-manager",
            self.cgroup_manager,
            "--events-backend",
            "file",
        ]
        base += ["--root", str(self.data / "root"), "--runroot", str(self.data / "run")]
        base += ["--tmpdir", str(self.data / "tmp")]
        if self.user == "root":
            base += ["--network-config-dir", str(INSIDE / "cni")]
        else:
            base += ["--storage-driver", "overlay"]
        return [*base, *words]

    def __call__(self, *words: str, code: int | None = 0, stdin: str = "") -> Result:
        return self.sandbox.run(self.argv(*words), code=code, stdin=stdin, user=self.user)

    def run(self, *options: str, command: Sequence[str], code: int | None = 0, stdin: str = "") -> Result:
        """`podman run` of our image; without a network unless the options name one."""
        return self(*self.run_words(*options, command=command), code=code, stdin=stdin)

    def run_words(self, *options: str, command: Sequence[str]) -> list[str]:
        """The words of `podman run`, with our cgroup parent."""
        fixed = [] if "--network" in options else ["--network", "none"]
        if self.user == "root":
            fixed += ["--cgroup-parent", self.cgroup_parent]
        return ["run", *fixed, *options, self.image, *command]

    def start_sleeper(self, *options: str) -> str:
        """Start a detached container that sleeps; return its id."""
        return self.run("-d", *options, command=["sleep", "1000"]).out.strip()

    def inspect(self, name: str, template: str) -> str:
        """One value of `podman inspect`."""
        return self("inspect", "--format", template, name).out.strip()

    def prepare(self, *, with_network: bool = True) -> None:
        """Import the image and run once, so that what podman keeps anyway is in the baseline."""
        self("import", str(INSIDE / "rootfs.tar"), self.image)
        self.run("--rm", command=["true"])
        if self.user == "root" and with_network:
            self.run("--rm", "--network", "podman", command=["true"])
        self.sandbox.mark_baseline()

    def one_test(self) -> Iterator[Podman]:
        """For a fixture: hand out podman, then remove all containers and look for leaks."""
        self.runtime.forget()
        self.sandbox.begin_test()
        yield self
        # podman's rm may run into the cleanup that conmon has started ("shm: device or resource busy").
        wait_until(lambda: self("rm", "-f", "-a", "-t", "0", code=None).code == 0, "all containers are removed")
        self.sandbox.assert_no_leaks()
