"""Facts of the host for the compiler of config.json."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from corral.engine.host_facts import bounding_set, find_devices, nofile_hard, read_profile, split_device
from corral.errors import InvalidArgument, NotFound
from corral.linux.caps import CAPABILITIES


def devices(*texts: str) -> list[Any]:
    """The devices that ``--device`` finds for ``texts``."""
    definition: Any = {"devices": list(texts)}
    return list(find_devices(definition))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/dev/null", ("/dev/null", "/dev/null", "rwm")),
        ("/dev/null:/dev/x", ("/dev/null", "/dev/x", "rwm")),
        ("/dev/null:r", ("/dev/null", "/dev/null", "r")),
        ("/dev/null:/dev/x:rw", ("/dev/null", "/dev/x", "rw")),
    ],
)
def test_device_flag_has_three_parts(text: str, expected: tuple[str, str, str]) -> None:
    """/host[:/inside][:rwm]."""
    assert split_device(text) == expected


@pytest.mark.parametrize("text", ["null", "/dev/null:x", "/dev/null:/a:/b", "/dev/null:/a:rwx", ""])
def test_malformed_device_flag_is_refused(text: str) -> None:
    """The message shows the value and the form."""
    with pytest.raises(InvalidArgument, match="not of the form"):
        split_device(text)


def test_device_numbers_come_from_the_host() -> None:
    """Type, numbers and mode are the node's own."""
    (found,) = devices("/dev/null:/dev/nothing:rw")
    assert (found["type"], found["major"], found["minor"], found["target"]) == ("c", 1, 3, "/dev/nothing")
    assert (found["access"], found["mode"]) == ("rw", os.stat("/dev/null").st_mode & 0o7777)


def test_device_that_is_not_there_is_named() -> None:
    """The value is in the message."""
    with pytest.raises(NotFound, match="device '/dev/corral-none': no such file or directory"):
        devices("/dev/corral-none")


def test_file_is_no_device(tmp_path: Path) -> None:
    """A regular file is refused before the container is made."""
    (tmp_path / "f").touch()
    with pytest.raises(InvalidArgument, match="is no device node"):
        devices(f"{tmp_path}/f")


def test_bounding_set_is_the_kernels() -> None:
    """Known names, in the kernel's order."""
    found = bounding_set()
    assert found == [name for name in CAPABILITIES if name in found]
    assert nofile_hard() > 0


def test_dockers_profile_is_reduced_to_the_runtimes_form(tmp_path: Path) -> None:
    """Rules bound to capabilities or architectures apply or not; the table of architectures is resolved."""
    path = tmp_path / "profile.json"
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "", "includes": {}, "excludes": {}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
            {"names": ["s390"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
        ],
    }
    path.write_text(json.dumps(profile))
    found: Any = read_profile(str(path), ["CAP_SYS_ADMIN"], "x86_64")
    assert found["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert [rule["names"] for rule in found["syscalls"]] == [["read"], ["mount"], ["arch_prctl"]]
    assert found["syscalls"][0] == {"names": ["read"], "action": "SCMP_ACT_ALLOW"}


def test_profile_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, not JSON, not a profile: each message has the path."""
    with pytest.raises(NotFound, match="read the seccomp profile"):
        read_profile(f"{tmp_path}/none", [], "x86_64")
    (tmp_path / "p").write_text("[]")
    with pytest.raises(InvalidArgument, match="has no defaultAction"):
        read_profile(f"{tmp_path}/p", [], "x86_64")
