"""buildah with private storage, running its steps through the runtime under test."""

from __future__ import annotations

from collections.abc import Iterator

from callers.runtime import RuntimeUnderTest
from callers.sandbox import INSIDE, Result, Sandbox

CONF = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'


class Buildah:
    """Calls buildah; owns its storage (below the sandbox's directory)."""

    def __init__(self, sandbox: Sandbox, runtime: RuntimeUnderTest, user: str) -> None:
        self.sandbox, self.runtime, self.user = sandbox, runtime, user
        data = INSIDE / "home" / "storage"
        storage = f'[storage]\ndriver = "overlay"\ngraphroot = "{data}/root"\nrunroot = "{data}/run"\n'
        sandbox.path("storage.conf").write_text(storage)
        sandbox.path("containers.conf").write_text(CONF)
        sandbox.env["CONTAINERS_CONF"] = str(INSIDE / "containers.conf")
        sandbox.env["CONTAINERS_STORAGE_CONF"] = str(INSIDE / "storage.conf")
        sandbox.callers_own.add(f"{data}/root/overlay")
        if user != "root":
            sandbox.env["XDG_RUNTIME_DIR"] = "/run/user/54321"
        sandbox.mark_baseline()

    def __call__(self, *words: str, code: int | None = 0) -> Result:
        return self.sandbox.run(["buildah", *words], code=code, user=self.user)

    def build(self, steps: str, *options: str, code: int | None = 0) -> Result:
        """`buildah bud` from scratch: our root filesystem, then the steps."""
        self.sandbox.path("context/Containerfile").write_text(f"FROM scratch\nADD rootfs.tar /\n{steps}")
        fixed = ["bud", "--isolation", "oci", "--runtime", str(self.runtime.path), "--tag", "localhost/built:1"]
        if self.user == "root":
            fixed += ["--cgroup-parent", self.sandbox.cgroup_parent]
        if "--network" not in options:
            fixed += ["--network", "none"]
        return self(*fixed, *options, str(INSIDE / "context"), code=code)

    def one_test(self) -> Iterator[Buildah]:
        """For a fixture: hand out buildah, then remove containers and images and look for leaks."""
        self.runtime.forget()
        self.sandbox.begin_test()
        yield self
        self("rm", "--all")
        self("rmi", "--all", "--force")
        self.sandbox.assert_no_leaks()
