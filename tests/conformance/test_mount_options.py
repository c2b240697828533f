"""Mount options: each one's flag as the kernel shows it, plain and recursive."""

from __future__ import annotations

import pytest

from conformance import mountinfo
from conformance.harness import Bundle, Runtime
from conformance.holders import in_private_mounts
from conformance.rootfs import chown_tree
from conformance.runtimes import needs
from conformance.spec import add_bind, add_mount, map_ids, set_capabilities

TABLE = "cat /proc/self/mountinfo"

# Option of the config -> what the options of the mount must (or, with "!", must not) have.
FLAGS = {
    "ro": "ro",
    "rw": "rw",
    "nosuid": "nosuid",
    "nodev": "nodev",
    "noexec": "noexec",
    "noatime": "noatime",
    "nodiratime": "nodiratime",
    "relatime": "relatime",
    "strictatime": "!relatime",
    "suid": "!nosuid",
    "dev": "!nodev",
    "exec": "!noexec",
    "norelatime": "!noatime",
    "diratime": "!nodiratime",
    "nosymfollow": "nosymfollow",
    "symfollow": "!nosymfollow",
}
SUPER = {
    "sync": "sync",
    "dirsync": "dirsync",
    "mand": "rw",
    "nomand": "rw",
    "async": "!sync",
    "silent": "rw",
    "loud": "rw",
}


def holds(claim: str, options: frozenset[str]) -> bool:
    """Whether the options agree with one entry of the tables above."""
    return claim[1:] not in options if claim.startswith("!") else claim in options


ALL_FLAGS = [
    *FLAGS.items(),
    pytest.param("defaults", "rw", marks=needs("option-defaults")),
]


@pytest.mark.parametrize(("option", "claim"), ALL_FLAGS)
def test_option_of_a_tmpfs(runtime: Runtime, bundle: Bundle, option: str, claim: str) -> None:
    """Each flag of a new mount is in the mount table."""
    add_mount(bundle.spec, "/mnt", "tmpfs", "tmpfs", option)
    assert holds(claim, mountinfo.at(runtime.run(bundle, TABLE).stdout, "/mnt").options)


@pytest.mark.parametrize(("option", "claim"), SUPER.items())
def test_option_of_the_file_system(runtime: Runtime, bundle: Bundle, option: str, claim: str) -> None:
    """Options that belong to the superblock are taken, and shown where the kernel shows them."""
    add_mount(bundle.spec, "/mnt", "tmpfs", "tmpfs", option)
    assert holds(claim, mountinfo.at(runtime.run(bundle, TABLE).stdout, "/mnt").super_options)


@pytest.mark.parametrize("option", ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"])
def test_option_of_a_bind_mount(runtime: Runtime, bundle: Bundle, option: str) -> None:
    """A bind mount gets its flags, and the source on the host keeps its own."""
    source = bundle.host_dir("data")
    add_bind(bundle.spec, str(source), "/mnt", option)
    assert option in mountinfo.at(runtime.run(bundle, TABLE).stdout, "/mnt").options
    (source / "still-writable").touch()


def test_later_option_wins(runtime: Runtime, bundle: Bundle) -> None:
    """Of two options that contradict each other, the later one counts."""
    add_mount(bundle.spec, "/mnt/a", "tmpfs", "tmpfs", "ro", "nosuid", "rw", "suid")
    add_mount(bundle.spec, "/mnt/b", "tmpfs", "tmpfs", "rw", "suid", "ro", "nosuid")
    table = runtime.run(bundle, TABLE).stdout
    assert mountinfo.at(table, "/mnt/a").options.isdisjoint({"ro", "nosuid"})
    assert mountinfo.at(table, "/mnt/b").options >= {"ro", "nosuid"}


def test_read_only_bind_refuses_writes(runtime: Runtime, bundle: Bundle) -> None:
    """`ro` on a bind mount holds against root with every right to write there."""
    source = bundle.host_dir("data")
    add_bind(bundle.spec, str(source), "/mnt", "ro")
    assert runtime.run(bundle, "> /mnt/x || echo locked").stdout == "locked\n"
    assert list(source.iterdir()) == []


def test_noexec_refuses_programs(runtime: Runtime, bundle: Bundle) -> None:
    """`noexec` holds."""
    add_mount(bundle.spec, "/mnt", "tmpfs", "tmpfs", "noexec")
    done = runtime.run(bundle, "cp /bin/probe /mnt/probe; /mnt/probe signals; echo $?")
    assert done.lines == ["126"]


def test_nodev_refuses_devices(runtime: Runtime, bundle: Bundle) -> None:
    """`nodev` holds: a device node on that mount cannot be opened."""
    set_capabilities(bundle.spec, "CAP_MKNOD")
    bundle.resources["devices"] = [{"allow": True, "access": "rwm"}]
    add_mount(bundle.spec, "/mnt/a", "tmpfs", "tmpfs", "nodev")
    add_mount(bundle.spec, "/mnt/b", "tmpfs", "tmpfs", "dev")
    done = runtime.run(bundle, "for d in a b; do mknod /mnt/$d/null c 1 3; probe open /mnt/$d/null; done")
    assert done.lines == ["Permission denied", "open"]


@needs("locked-mount-flags")
def test_option_ro_of_a_bind_keeps_the_locked_flags_of_the_source(runtime: Runtime, bundle: Bundle) -> None:
    """In a user namespace the flags of the source's mount are locked: `ro` is added to them."""
    source = bundle.host_dir("data")
    map_ids(bundle.spec, 200000)
    chown_tree(bundle.rootfs, 200000, 200000)
    runtime.prefix = in_private_mounts(f"mount -t tmpfs -o nosuid,nodev,noexec,mode=755 none {source}")
    add_bind(bundle.spec, str(source), "/mnt", "ro")
    options = mountinfo.at(runtime.run(bundle, TABLE).stdout, "/mnt").options
    assert options >= {"ro", "nosuid", "nodev", "noexec"}


RECURSIVE = {
    "rro": "ro",
    "rnosuid": "nosuid",
    "rnodev": "nodev",
    "rnoexec": "noexec",
    "rnoatime": "noatime",
    "rnodiratime": "nodiratime",
    "rnosymfollow": "nosymfollow",
}


@needs("recursive-attributes")
@pytest.mark.parametrize(("option", "flag"), RECURSIVE.items())
def test_recursive_option_sets_every_mount_below(runtime: Runtime, bundle: Bundle, option: str, flag: str) -> None:
    """An `r...` option reaches the submounts that rbind brought."""
    source = bundle.host_dir("data")
    (source / "sub").mkdir()
    runtime.prefix = in_private_mounts(
        f"mount -t tmpfs none {source}/sub; mkdir {source}/sub/deep; mount -t tmpfs none {source}/sub/deep"
    )
    add_bind(bundle.spec, str(source), "/mnt", "rbind", option)
    table = runtime.run(bundle, TABLE).stdout
    for point in ("/mnt", "/mnt/sub", "/mnt/sub/deep"):
        assert flag in mountinfo.at(table, point).options


CLEARING = {
    "rrw": ("ro", "ro"),
    "rsuid": ("nosuid", "nosuid"),
    "rdev": ("nodev", "nodev"),
    "rexec": ("noexec", "noexec"),
    "rdiratime": ("nodiratime", "nodiratime"),
    "rrelatime": ("noatime", "noatime"),
    "rstrictatime": ("noatime", "noatime"),
    "rsymfollow": ("nosymfollow", "nosymfollow"),
}


@needs("recursive-attributes")
@pytest.mark.parametrize("option", CLEARING)
def test_recursive_option_clears_every_mount_below(runtime: Runtime, bundle: Bundle, option: str) -> None:
    """The opposite `r...` option takes the flag from the submounts."""
    given, gone = CLEARING[option]
    source = bundle.host_dir("data")
    (source / "sub").mkdir()
    # One mount call alone: util-linux 2.38 knows no nosymfollow, the kernel's flag goes by bind.
    make = f"mount -t tmpfs none {source}/sub; "
    make += "true" if given == "nosymfollow" else f"mount -o remount,bind,{given} {source}/sub"
    runtime.prefix = in_private_mounts(make)
    add_bind(bundle.spec, str(source), "/mnt", "rbind", option)
    assert gone not in mountinfo.at(runtime.run(bundle, TABLE).stdout, "/mnt/sub").options


def test_plain_option_leaves_the_mounts_below_alone(runtime: Runtime, bundle: Bundle) -> None:
    """`ro` with rbind makes the top read-only, and only that."""
    source = bundle.host_dir("data")
    (source / "sub").mkdir()
    runtime.prefix = in_private_mounts(f"mount -t tmpfs none {source}/sub")
    add_bind(bundle.spec, str(source), "/mnt", "rbind", "ro")
    table = runtime.run(bundle, TABLE).stdout
    assert "ro" in mountinfo.at(table, "/mnt").options
    assert "rw" in mountinfo.at(table, "/mnt/sub").options
