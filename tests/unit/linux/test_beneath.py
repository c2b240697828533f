"""Paths inside a hostile tree never lead out of it, and nothing but a regular file is ever opened."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.linux import beneath


def open_fds() -> list[str]:
    """The descriptors of this process, without the one that lists them."""
    return sorted(name for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root with a file in a directory, and a secret of the same names outside."""
    for base, text in ((tmp_path, "secret"), (tmp_path / "root", "inside")):
        (base / "etc").mkdir(parents=True)
        (base / "etc" / "passwd").write_text(text)
    return tmp_path / "root"


def read(root: Path, path: str, limit: int = 1000) -> bytes:
    """The file's content through the module, and no descriptor left."""
    before = open_fds()
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        return beneath.read_regular(fd, path, limit)
    finally:
        os.close(fd)
        assert before == open_fds()


def code_of(root: Path, path: str) -> str:
    """The name of the errno that reading gives; the error names the path."""
    with pytest.raises(OSError) as caught:
        read(root, path)
    assert path == caught.value.filename
    return errno.errorcode[caught.value.errno or 0]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "etc/passwd",
        "//etc/./passwd",
        "../../etc/passwd",
        "/etc/../../../etc/passwd",
        "/etc/../etc/passwd",
    ],
)
def test_path_stays_inside_when_it_climbs(tree: Path, path: str) -> None:
    """The root is its own parent, as / is."""
    assert b"inside" == read(tree, path)


@pytest.mark.parametrize(
    "target",
    ["/etc/passwd", "../../../etc/passwd", "../etc/passwd", "/../etc/passwd", "/link2"],
)
def test_link_stays_inside_when_it_points_out(tree: Path, target: str) -> None:
    """Absolute links start at the tree's root; chains are followed."""
    (tree / "link2").symlink_to("/etc/../etc/passwd")
    (tree / "dir").mkdir()
    (tree / "dir" / "link").symlink_to(target)
    assert b"inside" == read(tree, "/dir/link")


def test_directory_link_is_followed_when_in_the_middle(tree: Path) -> None:
    """Links to directories work as they do in the container."""
    (tree / "usr").mkdir()
    (tree / "usr" / "etc").symlink_to("../etc")
    assert b"inside" == read(tree, "/usr/etc/passwd")


def test_magic_link_is_only_text_when_met(tree: Path) -> None:
    """What looks like a door in /proc is walked as a path of the tree."""
    (tree / "out").symlink_to("/proc/self/root/etc/passwd")
    assert "ENOENT" == code_of(tree, "/out")


def test_loop_is_an_error_when_links_go_in_circles(tree: Path) -> None:
    """More than 40 links are too many, as for the kernel."""
    (tree / "a").symlink_to("b")
    (tree / "b").symlink_to("a")
    assert "ELOOP" == code_of(tree, "/a")


def test_links_are_counted_when_they_multiply(tree: Path) -> None:
    """Forty links are walked, and one more is not."""
    (tree / "l0").symlink_to("etc/passwd")
    for number in range(1, 41):
        (tree / f"l{number}").symlink_to(f"l{number - 1}")
    assert b"inside" == read(tree, "l39")
    assert "ELOOP" == code_of(tree, "l40")


def test_long_path_is_refused_when_beyond_the_bound(tree: Path) -> None:
    """A tree cannot make us hold any number of descriptors."""
    assert b"inside" == read(tree, "etc/../" * 255 + "etc/passwd")
    assert "ELOOP" == code_of(tree, "etc/../" * 256 + "etc/passwd")


def make_socket(path: Path) -> None:
    """A bound unix socket, by a short relative name."""
    import socket

    with socket.socket(socket.AF_UNIX) as sock:
        here = os.open(".", os.O_PATH)
        os.chdir(path.parent)
        try:
            sock.bind(path.name)
        finally:
            os.fchdir(here)
            os.close(here)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, make_socket], ids=["fifo", "directory", "socket"])
def test_special_file_is_refused_when_named(tree: Path, make: Any) -> None:
    """A FIFO would block, a device would act: neither is opened."""
    make(tree / "x")
    assert "EINVAL" == code_of(tree, "/x")


def test_device_is_refused_when_the_tree_is_dev() -> None:
    """The kind is known before anything is opened."""
    assert "EINVAL" == code_of(Path("/dev"), "/tty")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/none", "ENOENT"),
        ("/etc/passwd/x", "ENOTDIR"),
        ("/etc/passwd/..", "ENOTDIR"),
        ("/" + "n" * 300, "ENAMETOOLONG"),
        ("/a\0b", "EINVAL"),
        ("/", "EINVAL"),
        ("", "EINVAL"),
    ],
)
def test_error_names_the_path_when_there_is_no_file(tree: Path, path: str, expected: str) -> None:
    """The kernel's codes, with the whole path."""
    assert expected == code_of(tree, path)


def test_walk_stays_inside_when_a_directory_is_moved_out_meanwhile(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename during the walk does not make .. lead outside."""
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "passwd").write_text("still inside")
    (tmp_path / "passwd").write_text("outside")
    real = os.open

    def open_then_move(path: str, *args: Any, **kwargs: Any) -> int:
        fd = real(path, *args, **kwargs)
        if path == "b":
            (tree / "a" / "b").rename(tmp_path / "b")
        return fd

    monkeypatch.setattr(os, "open", open_then_move)
    assert b"still inside" == read(tree, "/a/b/../passwd")


def test_file_is_the_one_looked_at_when_replaced_meanwhile(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between look and open, the name may come to mean a FIFO: it is not opened."""
    real = os.fstat

    def stat_then_replace(fd: int) -> os.stat_result:
        info = real(fd)
        if os.readlink(f"/proc/self/fd/{fd}") == str(tree / "etc" / "passwd"):
            (tree / "etc" / "passwd").unlink()
            os.mkfifo(tree / "etc" / "passwd")
        return info

    monkeypatch.setattr(os, "fstat", stat_then_replace)
    assert b"inside" == read(tree, "/etc/passwd")


def test_descriptor_is_a_mere_handle_when_path_is_opened(tree: Path) -> None:
    """open_path gives O_PATH descriptors, of the root too, close-on-exec."""
    import fcntl

    root = os.open(tree, os.O_RDONLY)
    for path in ("/", "/etc", "/etc/.."):
        fd = beneath.open_path(root, path)
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH
        assert not os.get_inheritable(fd)
        os.close(fd)
    os.close(root)


def test_content_is_cut_when_file_is_longer_than_the_limit(tree: Path) -> None:
    """Never more than asked for."""
    (tree / "big").write_bytes(b"x" * 200_000)
    assert 150_000 == len(read(tree, "big", 150_000))
    assert b"" == read(tree, "big", 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    links=st.dictionaries(
        st.sampled_from(["a", "b", "c"]), st.lists(st.sampled_from(["..", ".", "", "a", "b", "c", "etc"]), max_size=5)
    ),
    path=st.lists(st.sampled_from(["..", "a", "b", "c", "etc", "passwd"]), max_size=6),
)
def test_outside_is_never_read_for_any_links(
    tmp_path_factory: Any, links: dict[str, list[str]], path: list[str]
) -> None:
    """For any links and any path: the file inside, or an error."""
    base: Path = tmp_path_factory.mktemp("any")
    root = base / "root"
    for place, text in ((base, "secret"), (root, "inside")):
        (place / "etc").mkdir(parents=True)
        (place / "etc" / "passwd").write_text(text)
        (place / "passwd").write_text(text)
    for name, parts in links.items():
        (root / name).symlink_to("/".join(parts) or "/")
    try:
        content = read(root, "/".join(path))
    except OSError:
        content = b"inside"
    assert b"inside" == content
