"""A container's user database is text from a stranger: it is read within bounds, and bad lines are passed over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.linux import users

PASSWD = """\
# comment
root:x:0:0:root:/root:/bin/sh
bad line
toor:x:0:0::/toor:/bin/sh
app:x:1000:1000:App,,,:/home/app:/bin/sh:extra
empty:x:1001:1001:::
neg:x:-1:0::/neg:/bin/sh
big:x:4294967295:0::/big:/bin/sh
huge:x:99999999999999999999:0::/huge:/bin/sh
other:x:\u0663:0::/digits:/bin/sh
nul:x:1002:0::/a\0b:/bin/sh
+nis::::::
:x:1003:0::/noname:/bin/sh
1000:x:1004:1004::/numeric-name:/bin/sh
cr:x:1005:1005::/cr:/bin/sh\r
"""

GROUP = """\
root:x:0:
wheel:x:10:root,app
app:x:1000:
short:x:11
dup:x:10:app,,
bad:x:y:app
audio:x:29:app
"""


@pytest.fixture
def root_fd(tmp_path: Path) -> int:
    """A tree with both files; pytest's process closes the descriptor at the end of the test."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(PASSWD)
    (tmp_path / "etc" / "group").write_text(GROUP)
    return os.open(tmp_path, os.O_PATH)


@pytest.mark.parametrize(
    ("uid", "home"),
    [
        (0, "/root"),
        (1000, "/home/app"),
        (1001, "/"),
        (1002, "/"),
        (1003, "/"),
        (1005, "/cr"),
        (3, "/"),
        (4294967295, "/"),
        (77, "/"),
    ],
)
def test_home_is_the_first_accounts_when_uid_is_listed(root_fd: int, uid: int, home: str) -> None:
    """The first sound line for a uid counts; without one, or with an empty field, home is /."""
    assert home == users.lookup_home(root_fd, uid)
    os.close(root_fd)


def test_user_is_found_by_name_before_number_when_both_fit(root_fd: int) -> None:
    """A name made of digits is a name."""
    found = [users.lookup_user(root_fd, name) for name in ("app", "1000", "1001", "nobody", "neg", "77")]
    assert ["app", "1000", "empty", None, None, None] == [user.name if user else None for user in found]
    os.close(root_fd)


def test_groups_are_listed_once_when_user_is_a_member(root_fd: int) -> None:
    """Two lines of one gid count once; malformed lines not at all."""
    assert [10, 29] == users.supplementary_groups(root_fd, "app")
    assert [] == users.supplementary_groups(root_fd, "")
    os.close(root_fd)


def test_members_are_names_when_group_is_parsed() -> None:
    """A line without the last field has no members."""
    assert [("a", 1, ("x", "y")), ("b", 2, ())] == [
        (g.name, g.gid, g.members) for g in users.parse_group("a::1:x,y\nb::2")
    ]


@pytest.mark.parametrize("what", ["missing", "fifo", "directory", "loop"])
def test_database_is_empty_when_there_is_no_regular_file(tmp_path: Path, what: str) -> None:
    """Whatever stands there instead, nobody waits for it."""
    path = tmp_path / "etc" / "passwd"
    path.parent.mkdir()
    if what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    elif what == "loop":
        path.symlink_to("passwd")
    fd = os.open(tmp_path, os.O_PATH)
    assert ([], "/") == (users.read_users(fd), users.lookup_home(fd, 0))
    os.close(fd)


def test_cut_line_is_dropped_when_file_exceeds_the_limit(tmp_path: Path) -> None:
    """The first mebibyte counts, in whole lines: half a home directory would be another directory."""
    (tmp_path / "etc").mkdir()
    line = "u:x:5:5::/home/directory:/bin/sh\n"
    filler = "#" * (users.LIMIT_BYTES - len(line) - 8) + "\n"
    (tmp_path / "etc" / "passwd").write_text(filler + line + line.replace(":5:5:", ":6:6:") * 9)
    fd = os.open(tmp_path, os.O_PATH)
    assert ("/home/directory", "/") == (users.lookup_home(fd, 5), users.lookup_home(fd, 6))
    os.close(fd)


def test_bytes_survive_when_home_is_no_text(tmp_path: Path) -> None:
    """A home that is not UTF-8 comes back as the same bytes."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_bytes(b"u:x:5:5::/h\xff:/bin/sh\n")
    fd = os.open(tmp_path, os.O_PATH)
    assert b"/h\xff" == os.fsencode(users.lookup_home(fd, 5))
    os.close(fd)


@given(st.text())
def test_parsers_never_raise_for_any_text(text: str) -> None:
    """Whatever the files hold."""
    assert isinstance(users.parse_passwd(text), list)
    assert isinstance(users.parse_group(text), list)
