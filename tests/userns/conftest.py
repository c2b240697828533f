"""The places without privilege in which the runtime has to work: one fixture, a test for each."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conformance import rootfs
from conformance import spec as specs
from conformance.orphans import adopting_orphans
from probes import lacking
from sweep.world import World, descendants

USER = 48711
FIRST_SUBID, SUBIDS = 700000, 65536
READ_ONLY_CGROUPS = """
mount --rbind /sys/fs/cgroup /sys/fs/cgroup
grep -o ' /sys/fs/cgroup[^ ]*' /proc/self/mountinfo | sort -u | while read -r point; do
    mount -o remount,bind,ro "$point" 2>/dev/null || true
done
"""


@pytest.fixture(scope="session")
def template() -> Iterator[rootfs.Template]:
    """Busybox and the probe, built once."""
    path = Path(tempfile.mkdtemp(prefix="corral-userns-template-", dir="/tmp"))
    path.chmod(0o755)
    yield rootfs.build_template(path)
    shutil.rmtree(path)


@dataclass
class Place:
    """A world, what its configs need, and global flags of every command."""

    name: str
    world: World
    is_user: bool
    global_args: tuple[str, ...] = ()

    def spec(self) -> specs.Spec:
        """A config for this place that asks for no cgroup and no limit."""
        spec = specs.base_spec()
        spec["process"]["args"] = ["/bin/sleep", "100000"]
        # Device rules alone are no limit: every caller sends them.
        spec["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
        if self.name == "ranges":
            maps = [
                {"containerID": 0, "hostID": USER, "size": 1},
                {"containerID": 1, "hostID": FIRST_SUBID, "size": SUBIDS},
            ]
            specs.add_namespace(spec, "user")
            spec["linux"] |= {"uidMappings": maps, "gidMappings": maps}
        elif self.is_user:
            specs.map_ids(spec, USER, size=1)
        return spec

    def run(self, *args: str, global_args: tuple[str, ...] = ()) -> Any:
        """A command of the runtime in this place."""
        return self.world.run(*args, global_args=(*self.global_args, *global_args))

    def configure(self, spec: specs.Spec) -> Path:
        """A bundle with this config."""
        bundle = self.world.make_bundle("bundle")
        self.world.write_config(bundle, spec, "unused")
        return bundle


def _ranges(path: Path) -> tuple[str, ...]:
    """Become the user in a mount namespace whose /etc grants subordinate ids; the host's stays as it is."""
    etc = path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text(Path("/etc/passwd").read_text() + f"swept:x:{USER}:{USER}::/tmp:/bin/sh\n")
    for name in ("subuid", "subgid"):
        (etc / name).write_text(f"swept:{FIRST_SUBID}:{SUBIDS}\n")
    binds = "; ".join(f"mount --bind {etc}/{name} /etc/{name}" for name in ("passwd", "subuid", "subgid"))
    become = f'exec setpriv --reuid {USER} --regid {USER} --clear-groups "$@"'
    return ("unshare", "--mount", "--propagation", "private", "sh", "-ec", f"{binds}; {become}", "sh")


@contextlib.contextmanager
def _namespace(setup: str) -> Iterator[int]:
    """A user namespace of the user's, as root of which commands will run; held by a process."""
    inside = f"{setup}\necho ready; exec sleep 100000"
    holder = subprocess.Popen(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "--cgroup",
            "--propagation",
            "private",
            "sh",
            "-ec",
            inside,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        user=USER,
        group=USER,
        extra_groups=[],
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"ready\n"
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def _enter(pid: int) -> tuple[str, ...]:
    return ("nsenter", f"--target={pid}", "--user", "--mount", "--cgroup", "--setuid=0", "--setgid=0", "--")


PLACES = ("user", "ranges", "root-in-userns", "nested-read-only", "disabled")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, mark: str, no_leaks: None, template: rootfs.Template) -> Iterator[Place]:
    """One of the places: a plain user, with ranges of ids, root of a namespace, that on read-only cgroups, disabled."""
    name = str(request.param)
    if name == "ranges" and lacking("newuidmap"):
        pytest.skip(f"requires newuidmap: {lacking('newuidmap')}")
    path = Path(tempfile.mkdtemp(prefix=f"{mark}-", dir="/tmp"))
    path.chmod(0o777)
    world = World(path, mark, template, owner=USER, env={"HOME": str(path), "XDG_RUNTIME_DIR": str(path)})
    with contextlib.ExitStack() as stack:
        stack.enter_context(adopting_orphans())
        if name in ("user", "disabled"):
            world.user = USER
        elif name == "ranges":
            world.wrapper = _ranges(path)
        else:
            setup = READ_ONLY_CGROUPS if name == "nested-read-only" else ""
            world.wrapper = _enter(stack.enter_context(_namespace(setup)))
        world.allowed = frozenset(descendants())
        world.set_up()
        (path / "state").mkdir()
        os.chown(path / "state", USER, USER)
        flags = ("--cgroup-manager", "disabled") if name == "disabled" else ()
        yield Place(name, world, is_user=name in ("user", "ranges", "disabled"), global_args=flags)
        world.clean()
    shutil.rmtree(path)
