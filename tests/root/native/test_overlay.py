"""OVERLAY and ROOTFS_TREE: a root of layers, with new and with old mount calls."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.runtime.plan import FRONT
from native.driver import MS_REC, MS_SLAVE, Bench, Step, make_rootfs

pytestmark = [
    pytest.mark.requires("root", "cc", "busybox"),
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "aarch64"), reason="the filter names system calls by number"
    ),
]

MAPPED, USER_XATTR, VOLATILE = 1, 2, 4
SLOT = 80
FSCONFIG = 431
TABLE = "grep ' / / ' /proc/self/mountinfo"
PROC = ("MOUNT_FS", "proc", "proc", "/proc", "", 0, 0, 0, 0, 0)


class LayerBench(Bench):
    """A bench with a bottom layer (busybox), a top layer with two files, and a writable directory."""

    def __init__(self, folder: Path, namespaces: tuple[str, ...]) -> None:
        super().__init__(folder, namespaces=namespaces)
        self.bottom = make_rootfs(folder / "bottom")
        self.top = folder / "top"
        (self.top / "etc").mkdir(parents=True)
        (self.top / "etc" / "name").write_text("top\n")
        (self.bottom / "etc" / "name").write_text("bottom\n")
        (self.bottom / "etc" / "old").write_text("old\n")
        self.place = folder / "place"
        self.place.mkdir()
        self.writable = folder / "writable"
        for name in ("upper", "work"):
            (self.writable / name).mkdir(parents=True)

    def stacked(self, *lower: Path, writable: bool = True, flags: int = 0) -> list[Step]:
        """The steps that make a root of ``lower`` (top and bottom without)."""
        paths = [str(path) for path in lower or (self.top, self.bottom)]
        return [
            ("ROOT_PROPAGATION", MS_SLAVE | MS_REC),
            ("OVERLAY", SLOT, paths, str(self.writable) if writable else "", "", flags),
            ("ROOTFS_TREE", str(self.place), SLOT),
        ]

    def shell(self, script: str, steps: list[Step] | None = None, **more: str) -> str:
        """What a shell prints in the stacked root."""
        actor = {"actor": FRONT} if "DRIVER_INIT_PID" in more else {}
        command = ("/bin/sh", "-euc", script)
        plan = [*(steps or self.stacked()), PROC, ("PIVOT", 0)]
        result = self.run(plan, *command, PATH="/bin", **actor, **more)  # type: ignore[arg-type]
        assert (result.status, result.err) == (0, ""), result.err
        return result.out


@pytest.fixture(params=["", str(FSCONFIG)], ids=["new-calls", "old-calls"])
def layers(tmp_path: Path, request: pytest.FixtureRequest) -> LayerBench:
    """Layers, on this kernel and on one whose overlay takes only a string of options."""
    made = LayerBench(tmp_path, ("--mount", "--propagation", "private"))
    made.environment = {"DRIVER_REFUSE": request.param} if request.param else {}
    return made


@pytest.fixture
def mapped_process() -> Iterator[int]:
    """The pid of a process in a user namespace whose root is 100000 here."""
    command = ["unshare", "--user", "sh", "-c", "echo; exec sleep 1000"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert started.stdout is not None
    started.stdout.readline()
    for kind in ("gid", "uid"):
        Path(f"/proc/{started.pid}/{kind}_map").write_text("0 100000 65536\n")
    yield started.pid
    started.kill()
    started.communicate()


def test_topmost_layer_wins_and_writes_stay_apart(layers: LayerBench) -> None:
    """Files of upper layers hide those below; what is written or removed only shows in the writable directory."""
    script = "cat /etc/name /etc/old; echo new > /etc/new; rm /etc/old; ls /etc"
    assert layers.shell(script) == "top\nold\nname\nnew\n"
    upper = layers.writable / "upper" / "etc"
    assert sorted(os.listdir(upper)) == ["new", "old"]
    assert os.stat(upper / "old").st_rdev == 0
    assert (layers.bottom / "etc" / "old").read_text() == "old\n"
    assert layers.shell("ls /etc") == "name\nnew\n"


def test_root_is_private_to_the_namespace(layers: LayerBench) -> None:
    """Outside, neither the mount table nor the place where it is mounted shows anything."""
    assert " overlay " in layers.shell(TABLE)
    assert os.listdir(layers.place) == []
    assert str(layers.place) not in Path("/proc/self/mountinfo").read_text()


def test_stack_without_a_writable_directory_is_read_only(layers: LayerBench) -> None:
    """One layer, or several, and nothing to write to."""
    for lower in ((layers.bottom, layers.top), (layers.top, layers.bottom)):
        script = "cat /etc/name; touch /x 2>&1 || true"
        out = layers.shell(script, layers.stacked(*lower, writable=False))
        assert out == (lower[0] / "etc" / "name").read_text() + "touch: /x: Read-only file system\n"


@pytest.mark.parametrize("number", [128, 499])
def test_many_layers_of_long_names(layers: LayerBench, number: int) -> None:
    """The names of all of them are longer than a page."""
    lower = []
    for index in range(number):
        path = layers.folder / "layers" / f"{index:064}" / "diff"
        path.mkdir(parents=True)
        (path / f"file-{index}").touch()
        lower.append(path)
    assert layers.shell("ls / | grep -c file", layers.stacked(*lower, layers.bottom)) == f"{number}\n"


def test_layer_of_a_very_long_path(layers: LayerBench) -> None:
    """Longer than what one option of the mount may hold."""
    deep = layers.folder
    for _ in range(5):
        deep = deep / ("d" * 100)
    deep.mkdir(parents=True)
    (deep / "far").write_text("far\n")
    assert layers.shell("cat /far", layers.stacked(deep, layers.bottom)) == "far\n"


def test_layers_are_mapped_and_writes_are_not(layers: LayerBench, mapped_process: int) -> None:
    """Files of the layers belong to the namespace's root; what it writes has its real id on disk."""
    layers.place.chmod(0o755)
    os.chown(layers.writable / "upper", 100000, 100000)
    script = "stat -c %u /etc/name; echo x > /new; echo more >> /etc/name"
    out = layers.shell(script, layers.stacked(flags=MAPPED), DRIVER_INIT_PID=str(mapped_process))
    assert out == "100000\n"
    assert (layers.top / "etc" / "name").stat().st_uid == 0
    assert (layers.writable / "upper" / "etc" / "name").stat().st_uid == 100000


def test_upper_directory_that_is_mounted_is_refused(layers: LayerBench) -> None:
    """The kernel is asked, whatever became of whoever mounted it; when that is gone, it is free."""
    first = layers.command([*layers.stacked(), ("PIVOT", 0)], "/bin/sh", "-c", "echo up; read line")
    env = {"PATH": f"{os.environ['PATH']}:/bin", "ASAN_OPTIONS": "detect_leaks=0", **layers.environment}
    pipe = subprocess.PIPE
    with subprocess.Popen(first, env=env, stdin=pipe, stdout=pipe, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        result = layers.run(layers.stacked())
        running.communicate("\n")
    if layers.environment:
        assert result.status == 0  # Without fsconfig(2) nobody can ask; overlay came to it with 5.2's legacy support.
    else:
        assert result.err.endswith("upper' is mounted by a process that still lives: device or resource busy")
    assert layers.shell("cat /etc/name") == "top\n"
    assert sorted(os.listdir(layers.writable)) == ["upper", "work"]


def test_missing_layer_is_named(layers: LayerBench) -> None:
    """The path, and the kernel's word."""
    result = layers.run(layers.stacked(layers.folder / "gone", layers.bottom))
    assert (result.status, "/gone': no such file or directory" in result.err) == (1, True)


def test_root_of_the_host_comes_without_its_mounts(layers: LayerBench) -> None:
    """What is mounted below / is not in the layer: /proc is an empty directory."""
    plan = [*layers.stacked(Path("/")), ("PIVOT", 0)]
    result = layers.run(plan, "/bin/sh", "-c", "ls /proc; ls -d /etc/passwd; touch /etc/x")
    assert (result.out, result.err) == ("/etc/passwd\n", "")
    assert not os.path.lexists("/etc/x")


def test_overlay_in_a_user_namespace(tmp_path: Path) -> None:
    """Made without privileges: whiteouts and marks in user attributes."""
    namespaces = ("--user", "--map-root-user", "--mount", "--pid", "--fork")
    bench = LayerBench(tmp_path, namespaces)
    script = "rm -r /etc; mkdir /etc; echo x > /etc/y; ls /etc"
    assert bench.shell(script, bench.stacked(flags=USER_XATTR)) == "y\n"
    assert os.getxattr(bench.writable / "upper" / "etc", "user.overlay.opaque") == b"y"


def test_volatile_stack_cannot_be_used_twice(layers: LayerBench) -> None:
    """The kernel refuses it, as nothing was synced."""
    layers.shell("echo x > /x", layers.stacked(flags=VOLATILE))
    assert layers.run(layers.stacked(flags=VOLATILE)).status == 1
