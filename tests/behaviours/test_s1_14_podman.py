"""S1.14 with a load from real life: podman inside a container that manages groups of its own and has no privilege."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest

from behaviours import places
from behaviours.facts import applies
from behaviours.test_s1_writable import ANNOTATION, HOST_TREES, LEAF, TOP, mount_cgroups
from conformance import cgroups
from conformance.harness import Bundle, Runtime, wait_until
from conformance.rootfs import chown_tree
from conformance.spec import add_bind, add_mount, add_namespace, set_capabilities
from corral.oci.names import CAPABILITY_NAMES

# A program of Go's has some threads for each processor; podman, conmon and the inner runtime run at the same time.
PIDS_MAX = 400
INNER_PIDS_MAX, INNER_MEMORY_MAX = 17, 48 << 20
PODMAN = "podman --root /var/images --runroot /run/images --storage-driver vfs --events-backend file"
LIMITS = f"--network none --pids-limit {INNER_PIDS_MAX} --memory {INNER_MEMORY_MAX}"

pytestmark = [applies("v2", "root", "nsdelegate", "limits", "podman"), pytest.mark.timeout(400)]


@pytest.fixture
def nest(runtime: Runtime, bundle: Bundle) -> Bundle:
    """A bundle that shows the host's programs read-only and an image, in a user namespace with 65536 ids.

    Its capabilities are those of that namespace: on the host it is an ordinary user. Cgroups are its only grant.
    """
    image = bundle.host_dir("image")
    subprocess.run(["tar", "-C", bundle.rootfs, "-cf", image / "rootfs.tar", "."], check=True, timeout=60)
    places.give_user(bundle, with_userns=True)
    chown_tree(image, places.USERNS_FIRST_ID, places.USERNS_FIRST_ID)
    add_namespace(bundle.spec, "network")
    for path in [*HOST_TREES, str(Path(runtime.path).parent)]:
        if Path(path).is_dir():
            add_bind(bundle.spec, path, path, "rbind", "ro")
    add_bind(bundle.spec, str(image), "/mnt", "rbind", "ro")
    for path in ("/run", "/tmp", "/var"):
        add_mount(bundle.spec, path, "tmpfs", "tmpfs", "mode=755")
    add_mount(bundle.spec, "/sys", "sysfs", "sysfs", "ro", "nosuid", "nodev", "noexec")
    mount_cgroups(bundle, "rw")
    bundle.spec.setdefault("annotations", {})[ANNOTATION] = LEAF
    bundle.resources.update({"pids": {"limit": PIDS_MAX}})
    set_capabilities(bundle.spec, *CAPABILITY_NAMES)
    bundle.process["env"] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run/home", "TMPDIR=/tmp"]
    return bundle


def podman(runtime_path: str, *commands: str) -> str:
    """A script that imports the image and gives podman its commands, one after the other."""
    call = f"{PODMAN} --cgroup-manager cgroupfs --runtime {runtime_path}"
    return "\n".join(
        [
            "set -e",
            "mkdir -p /run/home /var/tmp /run/lock",
            f"{call} import -q /mnt/rootfs.tar localhost/box >/dev/null",
            *(f"{call} {command}" for command in commands),
        ]
    )


def inner_runtime(runtime: Runtime, name: str) -> str:
    """The path of what podman shall run its containers with."""
    return runtime.path if name == "corral-runtime" else shutil.which(name) or name


@pytest.mark.parametrize("name", ["crun", "corral-runtime"])
def test_s1_14_podman_within_a_container_limits_its_own(runtime: Runtime, nest: Bundle, name: str) -> None:
    """`podman run` with limits: the inner container reads them from its own group, and its exit code comes out."""
    files = f"cat {TOP}/pids.max {TOP}/memory.max"
    run = f"run --rm {LIMITS} localhost/box sh -c '{files}; exit 7'"
    done = runtime.run(nest, podman(inner_runtime(runtime, name), run), check=False, timeout_s=300)
    assert (done.lines, done.returncode) == ([str(INNER_PIDS_MAX), str(INNER_MEMORY_MAX)], 7), done.stderr


def test_s1_14_groups_that_podman_makes_lie_below_the_containers(runtime: Runtime, nest: Bundle) -> None:
    """As the host sees it: below the container's group, with the limit, an ordinary user's; delete takes all of it."""
    script = podman(runtime.path, f"run -d {LIMITS} localhost/box sleep 1000") + "\nexec sleep 1000"
    with runtime.start(nest, script, timeout_s=300) as c:
        top = cgroups.directory(c.pid, "").parent
        wait_until(lambda: inner_groups(top) != [], "a populated group with podman's limit", 240)
        group = inner_groups(top)[0]
        pid = (group / "cgroup.procs").read_text().split()[0]
        assert Path(f"/proc/{pid}").stat().st_uid >= places.USERNS_FIRST_ID
        assert (top / "pids.max").read_text() == f"{PIDS_MAX}\n"
        c.delete("--force")
        assert not top.exists()


def inner_groups(top: Path) -> list[Path]:
    """The groups below ``top`` that have the inner container's limit and a process."""
    found = []
    for path in top.rglob("pids.max"):
        # podman makes and removes groups meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if path.read_text() == f"{INNER_PIDS_MAX}\n" and (path.parent / "cgroup.procs").read_text():
                found.append(path.parent)
    return found
