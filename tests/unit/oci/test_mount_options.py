"""corral.oci.mount_options: from words to flags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.oci import mount_options as table
from corral.oci.mount_options import MOUNT_OPTIONS, MountOptions, parse_mount_options

# runtime-spec config.md "Linux mount options", plus what runc and crun add: acl, noacl, copy-symlink.
SPEC_OPTIONS = """
    async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime
    noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev
    rdiratime relatime remount rexec rnoatime rnodiratime rnoexec rnorelatime rnostrictatime rnosuid
    rnosymfollow rnodev ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable
    rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap
""".split()


def test_every_option_of_the_specification_is_known() -> None:
    """None falls through to the filesystem's data."""
    assert [] == [option for option in SPEC_OPTIONS if option not in MOUNT_OPTIONS]
    assert {"acl", "noacl", "copy-symlink"} == set(MOUNT_OPTIONS) - set(SPEC_OPTIONS)


@pytest.mark.parametrize(
    ("options", "flags", "cleared"),
    [
        pytest.param(["ro", "nosuid"], table.MS_RDONLY | table.MS_NOSUID, 0, id="set"),
        pytest.param(["rw"], 0, table.MS_RDONLY, id="cleared"),
        pytest.param(["ro", "rw"], 0, table.MS_RDONLY, id="the later wins: cleared"),
        pytest.param(["rw", "ro"], table.MS_RDONLY, 0, id="the later wins: set"),
        pytest.param(["defaults", ""], 0, 0, id="nothing"),
        pytest.param(["nodev", "dev", "noexec"], table.MS_NOEXEC, table.MS_NODEV, id="apart"),
        pytest.param(["strictatime", "relatime"], table.MS_STRICTATIME | table.MS_RELATIME, 0, id="for the kernel"),
        pytest.param(["symfollow"], 0, table.MS_NOSYMFOLLOW, id="symfollow"),
        pytest.param(["rbind"], table.MS_BIND | table.MS_REC, 0, id="rbind"),
    ],
)
def test_flags_follow_the_last_word(options: list[str], flags: int, cleared: int) -> None:
    """What was unset on purpose is told apart from what was not mentioned."""
    merged = parse_mount_options(options)

    assert (flags, cleared) == (merged.flags, merged.flags_cleared)


@pytest.mark.parametrize(
    ("options", "attr_set", "attr_clear"),
    [
        pytest.param(["rro"], table.MOUNT_ATTR_RDONLY, 0, id="set"),
        pytest.param(["rrw"], 0, table.MOUNT_ATTR_RDONLY, id="cleared"),
        pytest.param(["rro", "rrw"], 0, table.MOUNT_ATTR_RDONLY, id="the later wins: cleared"),
        pytest.param(["rrw", "rro"], table.MOUNT_ATTR_RDONLY, 0, id="the later wins: set"),
        pytest.param(["rnoatime"], table.MOUNT_ATTR_NOATIME, table.MOUNT_ATTR__ATIME, id="atime mode clears the field"),
        pytest.param(["rrelatime"], 0, table.MOUNT_ATTR__ATIME, id="relatime is the field's zero"),
        pytest.param(["ratime"], 0, table.MOUNT_ATTR__ATIME, id="ratime returns to relatime"),
        pytest.param(
            ["rnoatime", "rstrictatime"],
            table.MOUNT_ATTR_STRICTATIME,
            table.MOUNT_ATTR__ATIME,
            id="one atime mode only",
        ),
        pytest.param(["rnoatime", "rnostrictatime"], 0, table.MOUNT_ATTR__ATIME, id="a cleared mode is gone"),
        pytest.param(
            ["rnodiratime", "rnosuid"], table.MOUNT_ATTR_NODIRATIME | table.MOUNT_ATTR_NOSUID, 0, id="diratime is a bit"
        ),
    ],
)
def test_recursive_attributes_follow_the_last_word(options: list[str], attr_set: int, attr_clear: int) -> None:
    """In the form that mount_setattr(2) accepts."""
    merged = parse_mount_options(options)

    assert (attr_set, attr_clear) == (merged.attr_set, merged.attr_clear)
    assert 0 == merged.flags


@given(st.lists(st.sampled_from(sorted(MOUNT_OPTIONS))))
def test_recursive_attributes_are_acceptable_to_the_kernel(options: list[str]) -> None:
    """fs/namespace.c build_mount_kattr: the access-time field is cleared whole, other bits are set or cleared."""
    merged = parse_mount_options(options)
    field = table.MOUNT_ATTR__ATIME

    assert merged.attr_clear & field in (0, field)
    assert merged.attr_clear & field or not merged.attr_set & field
    assert 0 == merged.attr_set & merged.attr_clear & ~field
    assert 0 == merged.flags & merged.flags_cleared


@given(st.lists(st.sampled_from(sorted(MOUNT_OPTIONS))), st.sampled_from(sorted(MOUNT_OPTIONS)))
def test_the_last_option_is_in_force(options: list[str], last: str) -> None:
    """Whatever came before it."""
    merged = parse_mount_options([*options, last])
    flags, cleared, attr_set, _, propagation, _ = MOUNT_OPTIONS[last]

    assert flags == merged.flags & flags
    assert 0 == merged.flags & cleared
    assert attr_set == merged.attr_set & attr_set
    assert not propagation or propagation == merged.propagation[-1]


def test_propagation_is_kept_apart_and_in_order() -> None:
    """mount(2) takes propagation only alone, one after the other."""
    merged = parse_mount_options(["ro", "rprivate", "shared"])

    assert [table.MS_PRIVATE | table.MS_REC, table.MS_SHARED] == merged.propagation
    assert table.MS_RDONLY == merged.flags


def test_unknown_words_become_data_in_order() -> None:
    """They are the filesystem's to judge."""
    assert "mode=755,size=65536k" == parse_mount_options(["nosuid", "mode=755", "", "size=65536k"]).data


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(["bind"], {"is_bind": True, "is_recursive_bind": False}, id="bind"),
        pytest.param(["rbind"], {"is_bind": True, "is_recursive_bind": True}, id="rbind"),
        pytest.param(["ro"], {"is_bind": False, "is_recursive_bind": False}, id="no bind"),
        pytest.param(["tmpcopyup"], {"tmpcopyup": True, "copy_symlink": False}, id="tmpcopyup"),
        pytest.param(["copy-symlink"], {"tmpcopyup": False, "copy_symlink": True}, id="copy-symlink"),
        pytest.param(["idmap"], {"idmap": "idmap"}, id="idmap"),
        pytest.param(["idmap", "ridmap"], {"idmap": "ridmap"}, id="ridmap"),
        pytest.param([], {"idmap": "", "data": "", "propagation": []}, id="nothing"),
    ],
)
def test_extensions_are_told_by_name(options: list[str], expected: dict[str, object]) -> None:
    """What no flag of mount(2) says."""
    merged: MountOptions = parse_mount_options(options)

    assert expected == {name: getattr(merged, name) for name in expected}
