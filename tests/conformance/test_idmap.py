"""Idmapped mounts: whose files are whose, from inside and on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from conformance.harness import Bundle, Runtime
from conformance.holders import in_private_mounts
from conformance.host import host
from conformance.rootfs import chown_tree
from conformance.runtimes import needs
from conformance.spec import add_bind, map_ids, set_capabilities

pytestmark = [needs("idmap"), host("idmap")]
BASE = 200000


def ids(host_id: int, size: int = 65536, container_id: int = 0) -> list[dict[str, Any]]:
    """One range of a mapping."""
    return [{"containerID": container_id, "hostID": host_id, "size": size}]


@pytest.fixture
def source(bundle: Bundle) -> Path:
    """A directory of the host with files of 0, 1000 and 1000:2000."""
    path = bundle.host_dir("data")
    for name, uid, gid in (("root", 0, 0), ("user", 1000, 1000), ("mixed", 1000, 2000)):
        (path / name).write_text(name)
        os.chown(path / name, uid, gid)
    path.chmod(0o777)
    return path


def in_user_namespace(bundle: Bundle) -> None:
    """Give the bundle a user namespace at BASE."""
    map_ids(bundle.spec, BASE)
    chown_tree(bundle.rootfs, BASE, BASE)


OWNERS = "cd /mnt; stat -c %n:%u:%g root user mixed"


@pytest.mark.parametrize("option", ["idmap", "ridmap", None])
def test_owners_are_seen_as_on_disk(runtime: Runtime, bundle: Bundle, source: Path, option: str | None) -> None:
    """With the container's own mapping on the mount, ids on disk are the container's ids."""
    in_user_namespace(bundle)
    entry = add_bind(bundle.spec, str(source), "/mnt", *([option] if option else []))
    entry.update(uidMappings=ids(BASE), gidMappings=ids(BASE))
    assert runtime.run(bundle, OWNERS).lines == ["root:0:0", "user:1000:1000", "mixed:1000:2000"]


def test_without_mapping_the_owners_are_nobody(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """The counter-proof: a plain bind mount shows the host's ids as unmapped."""
    in_user_namespace(bundle)
    add_bind(bundle.spec, str(source), "/mnt")
    assert runtime.run(bundle, OWNERS).lines == ["root:65534:65534", "user:65534:65534", "mixed:65534:65534"]


def test_new_files_have_the_containers_ids_on_disk(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """What root and others of the container make is owned by 0 and 1000 on disk, not by the mapped ids."""
    in_user_namespace(bundle)
    entry = add_bind(bundle.spec, str(source), "/mnt", "idmap")
    entry.update(uidMappings=ids(BASE), gidMappings=ids(BASE))
    set_capabilities(bundle.spec, "CAP_CHOWN")
    runtime.run(bundle, "> /mnt/new; > /mnt/given; chown 5:6 /mnt/given")
    new, given = (source / "new").stat(), (source / "given").stat()
    assert [(s.st_uid, s.st_gid) for s in (new, given)] == [(0, 0), (5, 6)]


def test_idmap_without_mappings_takes_those_of_the_container(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """The option alone means the container's own mapping."""
    in_user_namespace(bundle)
    add_bind(bundle.spec, str(source), "/mnt", "idmap")
    assert runtime.run(bundle, OWNERS).lines == ["root:0:0", "user:1000:1000", "mixed:1000:2000"]


def test_idmap_without_mappings_and_user_namespace_is_refused(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """The option alone, without a user namespace to take the mapping from, is an error."""
    add_bind(bundle.spec, str(source), "/mnt", "idmap")
    runtime.refuse(bundle)


def test_mapping_of_a_mount_without_user_namespace(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """Without a user namespace the mount's own mapping shifts the ids that are seen."""
    entry = add_bind(bundle.spec, str(source), "/mnt", "idmap")
    entry.update(uidMappings=ids(70000), gidMappings=ids(80000))
    assert runtime.run(bundle, OWNERS).lines == ["root:70000:80000", "user:71000:81000", "mixed:71000:82000"]


def test_mapping_that_differs_from_the_containers(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """A mount may have a mapping of its own: here 1000 on disk is root of the container."""
    in_user_namespace(bundle)
    entry = add_bind(bundle.spec, str(source), "/mnt", "idmap")
    entry.update(uidMappings=ids(BASE, 10, 1000), gidMappings=ids(BASE, 10, 1000))
    found = runtime.run(bundle, OWNERS).lines
    assert found == ["root:65534:65534", "user:0:0", "mixed:0:65534"]


def test_mapping_with_several_ranges(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """More than one range per mount."""
    entry = add_bind(bundle.spec, str(source), "/mnt", "idmap")
    entry["uidMappings"] = [*ids(70000, 1), *ids(90000, 1, 1000)]
    entry["gidMappings"] = [*ids(70000, 1), *ids(90000, 1, 1000), *ids(95000, 1, 2000)]
    assert runtime.run(bundle, OWNERS).lines == ["root:70000:70000", "user:90000:90000", "mixed:90000:95000"]


def test_source_on_the_host_keeps_its_owners(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """Nothing is chowned."""
    in_user_namespace(bundle)
    entry = add_bind(bundle.spec, str(source), "/mnt", "idmap")
    entry.update(uidMappings=ids(BASE), gidMappings=ids(BASE))
    runtime.run(bundle, "true")
    assert [(source / n).stat().st_uid for n in ("root", "user", "mixed")] == [0, 1000, 1000]


@pytest.mark.parametrize(("option", "expected"), [("idmap", "sub:65534"), ("ridmap", "sub:0")])
def test_recursion_of_the_mapping(runtime: Runtime, bundle: Bundle, source: Path, option: str, expected: str) -> None:
    """idmap maps the top mount only, ridmap also what rbind brought along."""
    in_user_namespace(bundle)
    (source / "sub").mkdir()
    # A mount of the same file system: tmpfs can be mapped since 6.3 only.
    other = bundle.host_dir("other")
    runtime.prefix = in_private_mounts(f"mount --bind {other} {source}/sub")
    entry = add_bind(bundle.spec, str(source), "/mnt", "rbind", option)
    entry.update(uidMappings=ids(BASE), gidMappings=ids(BASE))
    assert runtime.run(bundle, "stat -c %n:%u /mnt/root /mnt/sub | sed s,/mnt/,,").lines == ["root:0", expected]


def test_read_only_idmapped_mount(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """Other options hold together with a mapping."""
    in_user_namespace(bundle)
    entry = add_bind(bundle.spec, str(source), "/mnt", "idmap", "ro", "nosuid")
    entry.update(uidMappings=ids(BASE), gidMappings=ids(BASE))
    done = runtime.run(bundle, "> /mnt/x || echo locked; stat -c %u /mnt/user; grep ' /mnt ' /proc/self/mountinfo")
    assert done.lines[:2] == ["locked", "1000"]
    assert {"ro", "nosuid"} <= set(done.lines[2].split()[5].split(","))


def test_two_mounts_with_different_mappings(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """Each mount has its own mapping."""
    for point, base in (("/mnt/a", 70000), ("/mnt/b", 80000)):
        entry = add_bind(bundle.spec, str(source), point, "idmap")
        entry.update(uidMappings=ids(base), gidMappings=ids(base))
    assert runtime.run(bundle, "stat -c %u /mnt/a/user /mnt/b/user").lines == ["71000", "81000"]


def test_idmapped_mount_of_a_file(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """A single file can be mapped too."""
    in_user_namespace(bundle)
    entry = add_bind(bundle.spec, str(source / "user"), "/etc/mapped", "idmap")
    entry.update(uidMappings=ids(BASE), gidMappings=ids(BASE))
    assert runtime.run(bundle, "stat -c %u:%g /etc/mapped; cat /etc/mapped").lines == ["1000:1000", "user"]


def test_only_one_of_the_two_mappings_is_refused(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """uidMappings and gidMappings belong together."""
    entry = add_bind(bundle.spec, str(source), "/mnt", "idmap")
    entry["uidMappings"] = ids(70000)
    runtime.refuse(bundle)
