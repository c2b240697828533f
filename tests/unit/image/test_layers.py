"""Unpacking layers: what they may do, and a corpus of what hostile ones try."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.errors import CorralError, InvalidArgument, ResourceExhausted
from corral.image.layers import Limits
from unit.image.tars import archive, entry, folder, hard, link, listing, octal, pax, unpack

OPAQUE = "user.overlay.opaque"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A layer's directory, beside which there is a file that nothing may touch."""
    outside = tmp_path / "world" / "outside"
    outside.mkdir(parents=True)
    (outside / "secret").write_text("secret")
    return tmp_path / "world" / "layer"


def refusal(data: bytes, target: Path) -> str:
    """Why a layer is refused; what is outside is as before."""
    with pytest.raises(InvalidArgument) as caught:
        unpack(data, target)
    assert_untouched(target)
    return caught.value.message.removeprefix("unpack ")


def assert_untouched(target: Path) -> None:
    """The neighbour of the layer's directory is as it was."""
    outside = target.parent / "outside"
    assert listing(outside) == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert (outside / "secret").stat().st_nlink == 1
    assert sorted(os.listdir(target.parent)) == ["layer", "outside"]


def is_whiteout(path: Path) -> bool:
    """A character device 0, 0."""
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def test_files_links_and_directories(target: Path) -> None:
    """Each kind, with mode and time; an absolute name is below the layer all the same."""
    data = archive(
        folder(b"./"),
        folder(b"d/"),
        entry(b"d/f", b"content", mode=b"0004751\0", mtime=octal(1234567)),
        link(b"/d/l", b"/outside"),
        hard(b"./h", b"/d/f"),
        entry(b"d//p", type=b"6", mode=b"0000600\0"),
    )
    applied = unpack(data, target)
    assert (applied.entries, applied.size_bytes, applied.implied) == (6, 7, [])
    assert listing(target) == ["d", "d/f", "d/l", "d/p", "h"]
    status = (target / "d" / "f").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime, status.st_nlink) == (0o4751, 1234567, 2)
    assert (target / "h").read_text() == "content"
    assert os.readlink(target / "d" / "l") == "/outside"
    assert stat.S_ISFIFO((target / "d" / "p").stat().st_mode)
    assert (target / "d").stat().st_mtime == 1


def test_directory_without_an_entry_is_made_and_told(target: Path) -> None:
    """With a mode of everyone's, whatever the process's umask."""
    applied = unpack(archive(entry(b"a/b/c/f"), folder(b"a/b")), target)
    assert applied.implied == [b"a", b"a/b/c"]
    assert stat.S_IMODE((target / "a" / "b" / "c").stat().st_mode) == 0o755


def test_names_of_any_bytes(target: Path) -> None:
    """Only the slash and the zero byte mean something."""
    unpack(archive(entry(b"\xff\xfe\n"), link(b"\xc3(", b"\xff")), target)
    assert sorted(os.listdir(os.fsencode(target))) == [b"\xc3(", b"\xff\xfe\n"]


def test_long_paths_are_unpacked(target: Path) -> None:
    """Longer than a header's field, as deep as the kernel allows in one path."""
    name = b"/".join([b"n" * 200] * 15)
    unpack(archive(pax((b"path", name)), entry(b"x", b"deep")), target)
    assert (target / name.decode()).read_text() == "deep"


def test_later_entries_replace_earlier_ones(target: Path) -> None:
    """A file by a directory and the reverse, a link by a file, twice the same."""
    data = archive(
        entry(b"a", b"1"), entry(b"a", b"2"), folder(b"b"), entry(b"b/x"), entry(b"b", b"file"),
        entry(b"c"), folder(b"c"), entry(b"c/y"), link(b"d", b"../outside"), entry(b"d", b"no link"),
        folder(b"e"), entry(b"e/kept"), folder(b"e"), entry(b"f"), link(b"f", b"g"),
    )  # fmt: skip
    unpack(data, target)
    assert listing(target) == ["a", "b", "c", "c/y", "d", "e", "e/kept", "f"]
    assert ((target / "a").read_text(), (target / "b").read_text()) == ("2", "file")
    assert not (target / "d").is_symlink()
    assert_untouched(target)


def test_links_are_followed_inside_the_layer_only(target: Path) -> None:
    """As a parent, absolute and relative, up beyond the root too: all of it is the layer's own."""
    data = archive(
        folder(b"usr"), folder(b"usr/bin"), link(b"bin", b"usr/bin"), entry(b"bin/tool"),
        link(b"abs", b"/usr"), entry(b"abs/file"), link(b"up", b"../../../usr"), entry(b"up/other"),
        link(b"usr/back", b"../usr/bin"), entry(b"usr/back/deep"),
    )  # fmt: skip
    unpack(data, target)
    assert sorted(os.listdir(target / "usr" / "bin")) == ["deep", "tool"]
    assert sorted(os.listdir(target / "usr")) == ["back", "bin", "file", "other"]
    assert_untouched(target)


# ---- whiteouts -------------------------------------------------------------------------------------


def test_whiteouts_become_the_overlays_own(target: Path) -> None:
    """A device 0, 0 for a name, an attribute for a directory."""
    unpack(archive(folder(b"d"), entry(b"d/.wh.gone"), entry(b"d/.wh..wh..opq"), entry(b".wh.top")), target)
    assert is_whiteout(target / "d" / "gone")
    assert is_whiteout(target / "top")
    assert os.getxattr(target / "d", OPAQUE) == b"y"
    assert listing(target) == ["d", "d/gone", "top"]


def test_opaque_mark_at_the_root_is_told(target: Path) -> None:
    """An overlay looks for none there."""
    assert unpack(archive(entry(b".wh..wh..opq")), target).is_opaque
    assert listing(target) == []


def test_whiteout_speaks_of_lower_layers_only(target: Path) -> None:
    """What this layer brings under the same name stays, in any order; a directory is opaque then."""
    data = archive(
        entry(b"a", b"1"), entry(b".wh.a"), entry(b".wh.b"), entry(b"b", b"2"),
        folder(b"c"), entry(b"c/x"), entry(b".wh.c"), entry(b".wh.d"), folder(b"d"), entry(b"d/y"),
        entry(b".wh.e"), entry(b"e/implied"), entry(b".wh.f"), link(b"f", b"x"),
    )  # fmt: skip
    unpack(data, target)
    assert listing(target) == ["a", "b", "c", "c/x", "d", "d/y", "e", "e/implied", "f"]
    assert [os.getxattr(target / name, OPAQUE) for name in ("c", "d", "e")] == [b"y"] * 3
    assert ((target / "a").read_text(), (target / "b").read_text()) == ("1", "2")


def test_what_aufs_left_behind_is_passed_over(target: Path) -> None:
    """Its own files are marked like whiteouts, and are none."""
    data = archive(folder(b".wh..wh.plnk"), entry(b".wh..wh.plnk/1.2"), entry(b".wh..wh.orph"), entry(b"a"))
    unpack(data, target)
    assert listing(target) == ["a"]


@pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh...", b"a/.wh.."], ids=["none", "dot", "dots", "deep"])
def test_whiteout_of_the_parent_is_refused(target: Path, name: bytes) -> None:
    """It names no entry of its directory."""
    assert refusal(archive(folder(b"a"), entry(name)), target).endswith("a whiteout of nothing")


def test_whiteout_as_a_directory_is_refused(target: Path) -> None:
    """Nothing lies below one."""
    assert refusal(archive(entry(b".wh.a/b")), target) == "'.wh.a/b': a whiteout is no directory"


# ---- attributes ------------------------------------------------------------------------------------


def test_attributes_that_mean_something_to_an_overlay_are_dropped(target: Path) -> None:
    """An image must not say what is opaque or redirected, nor touch what is trusted."""
    names = (b"trusted.overlay.opaque", b"user.overlay.opaque", b"trusted.overlay.redirect", b"user.overlay.redirect",
             b"trusted.x", b"security.selinux", b"security.evm", b"system.x", b"user.kept")  # fmt: skip
    records = [(b"SCHILY.xattr." + name, b"y") for name in names]
    unpack(archive(pax(*records), folder(b"d"), pax(*records), entry(b"f")), target)
    for name in ("d", "f"):
        found = [item for item in os.listxattr(target / name) if not item.startswith("security.")]
        assert found == ["user.kept"]


def test_mode_keeps_what_chown_would_clear(target: Path) -> None:
    """The set-user-id, set-group-id and sticky bits."""
    unpack(archive(entry(b"f", b"x", mode=b"0006755\0"), entry(b"d", type=b"5", mode=b"0001777\0")), target)
    assert stat.S_IMODE((target / "f").stat().st_mode) == 0o6755
    assert stat.S_IMODE((target / "d").stat().st_mode) == 0o1777


# ---- attacks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ((entry(b"../evil"),), "'../evil': a path with '..' in it"),
        ((entry(b"a/../../evil"),), "'a/../../evil': a path with '..' in it"),
        ((entry(b"/../evil"),), "'/../evil': a path with '..' in it"),
        ((pax((b"path", b"../evil")), entry(b"fine")), "'../evil': a path with '..' in it"),
        ((entry(b"L", b"../evil\0", type=b"L"), entry(b"fine")), "'../evil': a path with '..' in it"),
        ((hard(b"h", b"../outside/secret"),), "'h': a path with '..' in it"),
        ((hard(b"h", b"/"),), "'h': a hard link to '/'"),
        ((hard(b"h", b"missing"),), "'h': a hard link to 'missing', which the layer lacks"),
        ((folder(b"d"), hard(b"h", b"d")), "'h': a hard link to 'd', which is no file"),
        ((entry(b".wh.w"), hard(b"h", b"w")), "'h': a hard link to 'w', which is no file"),
        ((hard(b"h", b".wh.w"),), "'h': a hard link to '.wh.w'"),
        ((link(b"l", b""),), "'l': a symbolic link to nowhere"),
        ((entry(b"./", b""),), "'./': the layer's root is not a directory"),
        ((entry(b"f"), entry(b"f/x")), "'f/x': something on its path is a file"),
        ((link(b"l", b"l"), entry(b"l/x")), "'l/x': its directory cannot be reached inside the layer "
         "(too many levels of symbolic links)"),
        ((link(b"l", b"/nowhere"), entry(b"l/x")), "'l/x': its directory cannot be reached inside the layer "
         "(no such file or directory)"),
        ((entry(b"n", type=b"3", major=b"7777777\0"),), "'n': a device 2097151:0"),
        ((pax((b"path", b"n" * 256)), entry(b"x")), f"'{'n' * 200}': a path that no file can have"),
        ((pax((b"path", b"n/" * 2100)), entry(b"x")), f"'{'n/' * 100}': a path that no file can have"),
    ],
    ids=[
        "dotdot", "inner-dotdot", "absolute-dotdot", "pax-dotdot", "long-name-dotdot", "hard-outside", "hard-root",
        "hard-missing", "hard-directory", "hard-whiteout", "hard-mark", "empty-link", "root-file", "file-parent",
        "loop", "dangling", "device-number", "long-component", "long-path",
    ],
)  # fmt: skip
def test_hostile_entry_is_refused(target: Path, entries: tuple[bytes, ...], why: str) -> None:
    """In words that name it; nothing outside is touched."""
    assert refusal(archive(*entries), target) == why


ESCAPES = (
    (link(b"l", b"../outside"), entry(b"l/evil")),
    (link(b"l", b"/"), entry(b"l/outside/evil")),
    (folder(b"d"), link(b"d/l", b"../../outside"), hard(b"h", b"d/l/secret")),
    (folder(b"d"), entry(b"d/f"), link(b"d", b"../outside"), entry(b"d/evil")),
    (folder(b"d"), entry(b"d/x"), link(b"d", b"../outside"), entry(b"d/.wh.secret")),
    (link(b"l", b"../outside"), entry(b"l/.wh..wh..opq")),
    (link(b"l", b"../outside/secret"), entry(b"l", b"overwritten")),
    (link(b"l", b"../outside/secret"), hard(b"h", b"l"), entry(b"h", b"overwritten")),
    (link(b"l", b"../outside"), folder(b"l"), entry(b"l/evil")),
    (link(b"a", b"b"), link(b"b", b"../outside"), entry(b"a/evil")),
    (
        folder(b"d"),
        entry(b"d/x"),
        folder(b"d/e"),
        entry(b"d/e/y"),
        link(b"d/e", b"../../outside"),
        entry(b"d/e/secret"),
    ),
    (link(b"p", b"/proc/self/cwd"), entry(b"p/evil")),
    (link(b"p", b"/proc/self/root"), entry(b"p/tmp/evil")),
)


@pytest.mark.parametrize("entries", ESCAPES, ids=range(len(ESCAPES)))
@pytest.mark.parametrize("step", [1 << 20, 512])
def test_links_never_lead_out(target: Path, entries: tuple[bytes, ...], step: int) -> None:
    """Refused, or unpacked inside: either way nothing outside changes."""
    try:
        unpack(archive(*entries), target, step=step)
    except InvalidArgument:
        pass
    assert_untouched(target)


def test_times_are_set_inside_when_a_link_takes_a_directorys_place(target: Path) -> None:
    """Times of directories are set last; a link that has come to be on such a path leads nowhere."""
    below = target.parent / "elsewhere" / "below"
    below.mkdir(parents=True)
    before = below.stat().st_mtime_ns
    unpack(archive(folder(b"d"), folder(b"d/below"), link(b"d", os.fsencode(below.parent))), target)
    assert (target / "d").is_symlink()
    assert below.stat().st_mtime_ns == before


def test_bombs_are_bounded(target: Path) -> None:
    """By bytes, holes included, by entries, and by what the disk has."""
    with pytest.raises(ResourceExhausted):
        unpack(archive(entry(b"a", b"x" * 600), entry(b"b", b"x" * 600)), target, limits=Limits(1000))
    with pytest.raises(ResourceExhausted):
        unpack(archive(*[entry(b"%d" % n) for n in range(11)]), target, limits=Limits(max_entries=10))
    hole = pax((b"GNU.sparse.size", b"99999999999"), (b"GNU.sparse.map", b"0,1"))
    with pytest.raises(ResourceExhausted):
        unpack(archive(hole, entry(b"s", b"x")), target, limits=Limits(1 << 30))
    with pytest.raises(ResourceExhausted) as caught:
        unpack(archive(entry(b"big", size=b"\x80\0\0\0\0\x10" + bytes(6))), target)
    assert "unpack 'big': no space left on device" in str(caught.value) or "bytes" in str(caught.value)
    assert_untouched(target)


def test_deep_trees_do_not_exhaust_descriptors(target: Path) -> None:
    """However many directories: few are held open at once."""
    before = len(os.listdir("/proc/self/fd"))
    path = b""
    entries = []
    for number in range(700):
        path += b"d/"
        entries.append(pax((b"path", path + b"f%d" % number)) + entry(b"x"))
    unpack(archive(*entries), target)
    unpack(archive(*[entry(b"%d/f" % n) for n in range(3000)]), target)
    assert len(os.listdir("/proc/self/fd")) == before


def test_archives_of_gnu_tar_unpack_to_the_same_tree(tmp_path: Path, target: Path) -> None:
    """Modes, times, links, holes and long names, compared file by file."""
    source = tmp_path / "source"
    (source / ("long" * 40)).mkdir(parents=True)
    (source / ("long" * 40) / ("name" * 50)).write_text("x" * 5000)
    (source / "executable").write_bytes(os.urandom(70_000))
    (source / "executable").chmod(0o755)
    os.link(source / "executable", source / "hard")
    (source / "soft").symlink_to("executable")
    with (source / "hole").open("wb") as file:
        file.truncate(1 << 20)
        file.write(b"end")
    for options in (["--format=gnu"], ["--format=posix"], ["--format=gnu", "-S"], ["--format=posix", "-S"]):
        data = subprocess.run(
            ["tar", "-C", str(source), *options, "-cf", "-", "."], capture_output=True, check=True
        ).stdout
        unpack(data, target)
        assert subprocess.run(["diff", "-r", "--no-dereference", source, target]).returncode == 0
        for path in source.rglob("*"):
            mine, theirs = (target / path.relative_to(source)).lstat(), path.lstat()
            assert (mine.st_mode, mine.st_nlink, int(mine.st_mtime)) == (
                theirs.st_mode, theirs.st_nlink, int(theirs.st_mtime)
            )  # fmt: skip
        subprocess.run(["rm", "-r", target], check=True)
    subprocess.run(["rm", "-r", source], check=True)


_PARTS = st.sampled_from([b"a", b"b", b"c", b".", b"..", b"", b".wh.a", b".wh..wh..opq", b".wh.."])
_PATHS = st.lists(_PARTS, min_size=1, max_size=4).map(b"/".join)
_ENTRIES = st.one_of(
    _PATHS.map(folder),
    _PATHS.map(lambda name: entry(name, b"content")),
    st.tuples(_PATHS, _PATHS).map(lambda pair: link(pair[0], pair[1] or b"x")),
    st.tuples(_PATHS, st.sampled_from([b"../outside", b"/", b"../outside/secret", b"../.."])).map(
        lambda pair: link(*pair)
    ),
    st.tuples(_PATHS, _PATHS).map(lambda pair: hard(*pair)),
    _PATHS.map(lambda name: entry(name, type=b"6")),
)


@settings(max_examples=300)
@given(st.lists(_ENTRIES, max_size=12))
def test_no_sequence_of_entries_touches_the_outside(
    tmp_path_factory: pytest.TempPathFactory, entries: list[bytes]
) -> None:
    """Any few names, of any kinds, in any order: the neighbour stays as it is."""
    base = tmp_path_factory.mktemp("random")
    (base / "outside").mkdir()
    (base / "outside" / "secret").write_text("secret")
    try:
        unpack(archive(*entries), base / "layer")
    except CorralError:
        pass
    assert_untouched(base / "layer")


def test_own_archive_round_trip(tmp_path: Path, target: Path) -> None:
    """What tarfile writes of a tree is the tree again."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        made.add("/usr/share/zoneinfo" if os.path.isdir("/usr/share/zoneinfo") else "/etc", arcname=".")
    unpack(stream.getvalue(), target)
    assert len(listing(target)) > 10
