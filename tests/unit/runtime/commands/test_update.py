"""``update``: what is asked for, merged with what is; and a change that the kernel refuses leaves no trace."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from corral.cgroup.group import Group
from corral.cgroup.layout import Hierarchy, Layout
from corral.cgroup.member import Member
from corral.cgroup.writes import LimitWrite
from corral.errors import CorralError, InvalidArgument
from corral.runtime.commands.update import given_pointers, merge, parse_size, requested, strip_unset
from corral.runtime.commands.update_apply import Change, apply_change, undo_values
from corral.runtime.options import parse
from unit.runtime.commands.command_lines import GROUP, Run, make_container
from unit.runtime.jobs import config
from unit.runtime.test_record import live_as

V2 = Layout((Hierarchy(0, 2, ("memory", "pids", "cpu", "io", "cpuset"), mount_point="/cg"),))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("4096", 4096), ("-1", -1), ("1k", 1024), ("64M", 64 << 20), ("64m", 64 << 20), ("64MB", 64 << 20),
        ("64MiB", 64 << 20), ("1.5g", 3 << 29), ("2T", 2 << 40), ("1 G", 1 << 30), ("100b", 100), ("1P", 1 << 50),
    ],
)  # fmt: skip
def test_size_is_read_as_docker_reads_it(text: str, size: int) -> None:
    """Powers of 1024, whatever the spelling."""
    assert size == parse_size("memory", text)


@pytest.mark.parametrize("text", ["", "x", "-2", "1q", "1.2.3g", "k", "1kk", "٣", "1e3", "0x10"])
def test_odd_size_is_refused_in_runcs_words(text: str) -> None:
    """With the flag and the text."""
    with pytest.raises(InvalidArgument) as caught:
        parse_size("memory-swap", text)

    assert f"update: invalid value for memory-swap: invalid size: {text!r}" == caught.value.message


def asked(*words: str) -> dict[str, Any]:
    """What a command line asks for."""
    return requested(parse(["update", *words, "c1"]))


def test_flags_become_sections() -> None:
    """Every flag has its place in resources."""
    assert {
        "memory": {"limit": 1 << 20, "reservation": 5, "swap": -1, "kernel": 6, "kernelTCP": 7},
        "cpu": {
            "period": 1000, "quota": -1, "burst": 0, "shares": 9, "realtimePeriod": 10, "realtimeRuntime": 11,
            "idle": 0, "cpus": "0", "mems": "1",
        },
        "blockIO": {"weight": 100},
        "pids": {"limit": -1},
    } == asked(
        *"--memory 1M --memory-reservation 5 --memory-swap -1 --kernel-memory 6 --kernel-memory-tcp 7".split(),
        *"--cpu-period 1000 --cpu-quota -1 --cpu-burst 0 --cpu-share 9 --cpu-rt-period 10 --cpu-rt-runtime 11".split(),
        *"--cpu-idle 0 --cpuset-cpus 0 --cpuset-mems 1 --blkio-weight 100 --pids-limit -1".split(),
    )  # fmt: skip


def test_zero_means_unset() -> None:
    """As callers send it for "not given"."""
    assert {} == asked(*"--memory 0 --cpu-quota 0 --pids-limit 0 --blkio-weight 0".split(), "--cpuset-cpus", "")
    assert {} == asked()


def test_file_is_read_and_flags_lie_over_it(tmp_path: Path) -> None:
    """--resources, then the flags; nulls and zeros of the file are unset."""
    path = tmp_path / "r.json"
    path.write_text('{"memory": {"limit": 5, "swap": 0}, "cpu": {"cpus": "", "shares": null, "idle": 0}, "pids": {}}')

    assert {"memory": {"limit": 7}, "cpu": {"idle": 0}} == asked("-r", str(path), "--memory", "7")


def test_file_may_be_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """containerd's shim sends it so."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"pids": {"limit": 0}}')))

    assert {"pids": {"limit": 0}} == asked("--resources", "-")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "want an object at the top"),
        ("{", "r.json: line 1 column 2"),
        ('{"memory": {"limit": "x"}}', "update limits: want an integer, got the string 'x'"),
        ('{"blockIO": {"weight": 2000}}', "(config linux.resources.blockIO.weight)"),
    ],
)
def test_odd_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """With the pointer where there is one."""
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(CorralError) as caught:
        asked("-r", str(path))

    assert message in str(caught.value)


def test_missing_file_is_told() -> None:
    """With its path."""
    with pytest.raises(CorralError, match=r"read /nowhere/r\.json: no such file or directory"):
        asked("-r", "/nowhere/r.json")


def test_merge_keeps_what_is_not_named() -> None:
    """Members one by one, lists as a whole."""
    current = {"memory": {"limit": 1, "swap": 2}, "devices": [{"allow": True}], "pids": {"limit": 3}}

    assert {"memory": {"limit": 5, "swap": 2}, "devices": [], "pids": {"limit": 3}, "cpu": {"shares": 4}} == merge(
        current, {"memory": {"limit": 5}, "devices": [], "cpu": {"shares": 4}}
    )
    assert {"limit": 1, "swap": 2} == current["memory"]


def test_unlimited_memory_takes_the_sum_with_it() -> None:
    """An old limit of memory and swap would forbid it."""
    assert {"limit": -1, "swap": -1} == merge({"memory": {"limit": 1, "swap": 2}}, {"memory": {"limit": -1}})["memory"]
    assert {"limit": -1, "swap": 9} == merge({}, {"memory": {"limit": -1, "swap": 9}})["memory"]


def test_strip_unset_keeps_lists_and_real_zeros() -> None:
    """A swappiness of 0 is a value; an empty section is none."""
    assert {"memory": {"swappiness": 0}, "devices": [1]} == strip_unset(
        {"memory": {"swappiness": 0, "limit": 0}, "cpu": {"quota": 0}, "devices": [1], "hugepageLimits": []}
    )


def test_given_pointers_name_members_and_whole_maps() -> None:
    """For what is a list or a map, the section."""
    assert {
        "linux.resources.memory.limit",
        "linux.resources.unified",
        "linux.resources.rdma",
        "linux.resources.hugepageLimits",
    } == set(
        given_pointers({"memory": {"limit": 1}, "unified": {"a.b": "c"}, "rdma": {"d": {}}, "hugepageLimits": [{}]})
    )


def change(current: dict[str, Any], wanted: dict[str, Any], *given: str, layout: Layout = V2) -> Change:
    """A change on v2."""
    places = frozenset(f"linux.resources.{place}" for place in given)
    return Change(current, wanted, places, layout, pids_zero_is_limit=True)


def test_only_differences_and_what_was_asked_for_are_written() -> None:
    """Memory is asked for again, pids differ, cpu stays."""
    writes = change(
        {"memory": {"limit": 4096}, "cpu": {"shares": 100}, "pids": {"limit": 1}},
        {"memory": {"limit": 4096}, "cpu": {"shares": 100}, "pids": {"limit": 2}},
        "memory.limit",
    ).writes()

    assert [("memory.max", "4096"), ("pids.max", "2")] == [(write.file, write.value) for write in writes]


class Kernel:
    """A group of plain files that refuses some values, as a kernel would, and remembers what was written."""

    def __init__(self, folder: Path, files: dict[str, str], refuse: str = "", alter: str = "") -> None:
        for name, text in files.items():
            (folder / name).write_text(text)
        self.folder = folder
        self.refuse = refuse
        self.alter = alter
        self.log: list[str] = []
        fd = os.open(folder, os.O_RDONLY)
        self.group = Group([(Member(2, ("memory", "pids", "cpu", "io", "cpuset"), "/cg", "/c1"), fd)])
        self.group.__class__ = type("FakeGroup", (Group,), {"write": self._write, "__slots__": ()})

    def _write(self, controller: str, file: str, value: str) -> None:
        self.log.append(f"{file}={value}")
        if self.refuse == f"{file}={value}":
            raise InvalidArgument(f"write {value!r} to {file!r}: invalid argument")
        (self.folder / file).write_text("7\n" if self.alter == f"{file}={value}" else f"{value}\n")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A group with limits."""
    return {"memory.max": "8192\n", "memory.swap.max": "max\n", "pids.max": "5\n", "cpu.max": "max 100000\n"}


OLD = {"memory": {"limit": 8192}, "pids": {"limit": 5}}


def texts(folder: Path, files: dict[str, str]) -> dict[str, str]:
    """What the files hold."""
    return {name: (folder / name).read_text() for name in files}


def test_change_is_written_and_stays(tmp_path: Path, files: dict[str, str]) -> None:
    """All of it."""
    kernel = Kernel(tmp_path, files)
    apply_change(kernel.group, change(OLD, {"memory": {"limit": 4096}, "pids": {"limit": 9}, "cpu": {"quota": 50000}}))
    kernel.group.close()

    assert ("4096\n", "9\n", "50000 100000\n") == (
        (tmp_path / "memory.max").read_text(),
        (tmp_path / "pids.max").read_text(),
        (tmp_path / "cpu.max").read_text(),
    )


@pytest.mark.parametrize("how", ["refuse", "alter"])
def test_refused_change_is_rolled_back(tmp_path: Path, files: dict[str, str], how: str) -> None:
    """Whether the kernel says no, or takes the value and has another: the limits are those from before."""
    kernel = Kernel(tmp_path, files, **{how: "pids.max=9"})
    with pytest.raises(CorralError) as caught:
        apply_change(kernel.group, change(OLD, {"memory": {"limit": 4096}, "pids": {"limit": 9}}))
    kernel.group.close()

    assert "linux.resources.pids.limit" == caught.value.pointer
    assert {name: text.strip() for name, text in files.items()} == {
        name: text.strip() for name, text in texts(tmp_path, files).items()
    }
    if how == "alter":
        assert "check pids.max of the container's cgroup: asked for '9', the kernel has '7'" == caught.value.message
        assert "nothing was changed: the limits are those from before" == caught.value.hint


def test_controller_that_the_group_lacks_is_told(tmp_path: Path) -> None:
    """A limit needs its file."""
    kernel = Kernel(tmp_path, {"memory.max": "max\n"})
    kernel.group.__class__ = Group
    with pytest.raises(CorralError) as caught:
        apply_change(kernel.group, change({}, {"pids": {"limit": 9}}))
    kernel.group.close()

    assert "write '9' to '/cg/c1/pids.max': no such file or directory (config linux.resources.pids.limit)" == str(
        caught.value
    )


def test_check_before_update_spares_a_container_that_uses_more(tmp_path: Path) -> None:
    """The kernel would kill; the caller asked not to."""
    kernel = Kernel(tmp_path, {"memory.max": "max\n", "memory.current": "10000\n"})
    wanted = {"memory": {"limit": 4096, "checkBeforeUpdate": True}}
    with pytest.raises(CorralError) as caught:
        apply_change(kernel.group, change({}, wanted))
    kernel.group.close()

    assert "update limits: the container uses 10000 bytes, more than the new limit 4096" == caught.value.message
    assert [] == kernel.log


@pytest.mark.parametrize(
    ("file", "value", "text", "before", "undo"),
    [
        ("memory.max", "5", "8192\n", [], ["8192"]),
        ("cpu.max", "5 10", "max 100000\n", [], ["max 100000"]),
        ("io.max", "8:0 rbps=5", "8:0 wbps=7\n", ["8:0 wbps=7", "9:0 rbps=1"],
         ["8:0 rbps=max wbps=max riops=max wiops=max", "8:0 wbps=7"]),
        ("blkio.throttle.read_bps_device", "8:0 5", "", [], ["8:0 0"]),
        ("io.weight", "8:0 5", "default 100\n", [], ["8:0 default"]),
        ("io.weight", "5", "default 100\n8:0 7\n", [], ["default 100"]),
        ("rdma.max", "mlx hca_handle=1", "", [], ["mlx hca_handle=max hca_object=max"]),
        ("memory.oom_control", "1", "oom_kill_disable 0\n", [], ["0"]),
        ("pids.max", "5", None, [], []),
    ],
)  # fmt: skip
def test_undo_is_what_the_file_takes(
    file: str, value: str, text: str | None, before: list[str], undo: list[str]
) -> None:
    """A file with lines for devices is taken back line by line, another as a whole."""
    write = LimitWrite(0, file.partition(".")[0], file, value, pointer="p")

    assert undo == undo_values(write, text, before)


def test_stopped_container_is_refused_in_runcs_words(run: Run, root: Path) -> None:
    """Callers match on them."""
    make_container(root)
    code, out, err = run("update", "--memory", "64M", "c1")

    assert (1, "") == (code, out)
    assert err.startswith("update container 'c1': container not running\n")


def living(root: Path, **members: Any) -> Path:
    """A container whose process is this one."""
    path = make_container(root, **members)
    (path / "config.json").write_text(json.dumps(config(resources={"memory": {"limit": 1 << 20, "swap": 1 << 21}})))
    live_as(path, os.getpid())
    return path


def test_container_without_a_group_is_told_with_its_own_exit_code(run: Run, root: Path) -> None:
    """S2.11."""
    living(root, cgroups=[{**GROUP, "fate": "absent", "reason": "permission denied"}])
    code, _, err = run("update", "--pids-limit", "5", "c1")

    assert (3, True) == (code, err.startswith("container 'c1' has no cgroup (cgroup2: permission denied)"))


def test_limits_that_cannot_stand_together_are_refused_before_anything_is_written(run: Run, root: Path) -> None:
    """The new limit against the old sum."""
    path = living(root, cgroups=[GROUP])
    code, _, err = run("update", "--memory", "1G", "c1")

    assert (1, True) == (code, "linux.resources.memory.swap" in err)
    assert "resources" not in json.loads((path / "state.json").read_text())


def test_nothing_asked_is_nothing_done(run: Run, root: Path) -> None:
    """As with runc."""
    living(root)

    assert (0, "", "") == run("update", "c1")


def test_schemata_need_a_container_with_them(run: Run, root: Path) -> None:
    """Without intelRdt there is no group to write to."""
    living(root)
    code, _, err = run("update", "--l3-cache-schema", "L3:0=f", "c1")

    assert 1 == code
    assert err.startswith("update the resctrl group of container 'c1': the container was made without intelRdt\n")


def test_odd_number_is_refused(run: Run, root: Path) -> None:
    """By flag."""
    living(root)

    assert "update: flag --pids-limit: 'x' is not a number" in run("update", "--pids-limit", "x", "c1")[2]
