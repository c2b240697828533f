"""The kernel takes our device programs and decides by them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.linux import bpf_devices, mountinfo, syscalls

pytestmark = pytest.mark.requires("root", "cgroup-v2")

Rule = tuple[bool, str, int, int, str]

DENY_ALL: Rule = (False, "a", -1, -1, "rwm")
ALLOW_ALL: Rule = (True, "a", -1, -1, "rwm")


@pytest.fixture
def cgroup(mark: str) -> Iterator[Path]:
    """A v2 cgroup of our own, removed at the end."""
    [mount, *_] = [
        mount
        for mount in mountinfo.parse_mountinfo(Path("/proc/self/mountinfo").read_text())
        if mount.fstype == "cgroup2"
    ]
    path = Path(mount.mount_point) / mark
    path.mkdir()
    yield path
    path.rmdir()


# Joins a cgroup, then prints the errno of each attempt: [0, path, flags] opens, [1, path, minor] makes a device.
CHILD = """
import json, os, sys
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
answers = []
for act, path, number in json.loads(sys.argv[2]):
    try:
        if act:
            os.mknod(path, 0o020600, os.makedev(1, number))
        else:
            os.close(os.open(path, number))
        answers.append(0)
    except OSError as exc:
        answers.append(exc.errno)
print(json.dumps(answers))
"""


def inside(cgroup: Path, attempts: list[tuple[int, str, int]]) -> list[int]:
    """The errno of each attempt, made by a child in ``cgroup``; 0 for those that worked."""
    command = [sys.executable, "-ISE", "-c", CHILD, str(cgroup), json.dumps(attempts)]
    child = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True)
    answers: list[int] = json.loads(child.stdout)
    return answers


def install(cgroup: Path, rules: list[Rule]) -> int:
    """Make ``rules`` the cgroup's, and answer how many programs it has."""
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        bpf_devices.replace_device_program(fd, bpf_devices.assemble_device_program(rules))
        return len(syscalls.query_device_programs(fd))
    finally:
        os.close(fd)


def test_devices_open_as_the_rules_say_when_attached(cgroup: Path, tmp_path: Path) -> None:
    """Type, numbers and each access are decided by the kernel as the module documents."""
    rules: list[Rule] = [DENY_ALL, (True, "c", 1, 3, "rwm"), (True, "c", 1, 5, "r"), (True, "c", 1, 7, "rw")]
    rules.append((False, "c", 1, 7, "w"))
    assert 1 == install(cgroup, rules)
    attempts = [
        (0, "/dev/null", os.O_RDWR),
        (0, "/dev/zero", os.O_RDONLY),
        (0, "/dev/zero", os.O_RDWR),
        (0, "/dev/full", os.O_RDONLY),
        (0, "/dev/full", os.O_WRONLY),
        (0, "/dev/random", os.O_RDONLY),
        (1, str(tmp_path / "null"), 3),
        (1, str(tmp_path / "zero"), 5),
    ]
    eperm = errno.EPERM
    assert [0, 0, eperm, 0, eperm, eperm, 0, eperm] == inside(cgroup, attempts)


def test_only_the_new_program_decides_when_replaced(cgroup: Path) -> None:
    """An update widens and narrows, and leaves one program."""
    attempts = [(0, "/dev/null", os.O_RDONLY), (0, "/dev/zero", os.O_RDONLY)]
    seen = []
    for rules in ([DENY_ALL], [ALLOW_ALL], [DENY_ALL, (True, "c", 1, 5, "rwm")]):
        assert 1 == install(cgroup, rules)
        seen.append(inside(cgroup, attempts))
    assert [[errno.EPERM] * 2, [0, 0], [errno.EPERM, 0]] == seen


def test_all_old_programs_go_when_there_were_several(cgroup: Path) -> None:
    """Whoever attached more than one: afterwards there is ours alone."""
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    for rules in ([DENY_ALL], [ALLOW_ALL, (False, "c", 1, 3, "r")]):
        program = syscalls.load_device_program(bpf_devices.assemble_device_program(rules))
        syscalls.attach_device_program(fd, program)
        os.close(program)
    assert 2 == len(syscalls.query_device_programs(fd))
    os.close(fd)
    assert 1 == install(cgroup, [ALLOW_ALL])
    assert [0] == inside(cgroup, [(0, "/dev/null", os.O_RDONLY)])


def test_verifier_takes_the_program_for_any_shape_of_rules() -> None:
    """Every kind of rule, alone and among others, makes a program that the kernel loads."""
    shapes: list[Rule] = [
        (allow, kind, major, minor, access)
        for allow in (True, False)
        for kind in "abc"
        for major in (-1, 4294967295)
        for minor in (-1, 3)
        for access in ("rwm", "r", "")
    ]
    for rules in ([], *([shape] for shape in shapes), shapes, shapes * 20):
        os.close(syscalls.load_device_program(bpf_devices.assemble_device_program(list(rules))))


def test_verifiers_words_are_in_the_error_when_it_refuses() -> None:
    """A program that cannot be loaded says why."""
    with pytest.raises(OSError, match="R0 !read_ok") as caught:
        syscalls.load_device_program(bytes([0x95, 0, 0, 0, 0, 0, 0, 0]))
    assert errno.EACCES == caught.value.errno
