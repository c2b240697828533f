"""The user database of a foreign root file system: /etc/passwd and /etc/group, read as hostile text, without NSS.

Source: passwd(5), group(5).
"""

from __future__ import annotations

from corral.linux import beneath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Nobody's passwd is longer; whoever's is, gets the accounts in its first part.
LIMIT_BYTES = 1 << 20

_MAX_ID = 0xFFFFFFFE


class User:
    """One account. Text is decoded with surrogates for bytes that are none."""

    __slots__ = ("gid", "home", "name", "shell", "uid")

    def __init__(self, name: str, uid: int, gid: int, home: str, shell: str) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.home = home
        self.shell = shell


class Group:
    """One group with the names of its listed members."""

    __slots__ = ("gid", "members", "name")

    def __init__(self, name: str, gid: int, members: tuple[str, ...]) -> None:
        self.name = name
        self.gid = gid
        self.members = members


def _id_or_none(text: str) -> int | None:
    # Not isdecimal alone: that takes the digits of all scripts.
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        return None
    number = int(text)
    return number if number <= _MAX_ID else None


def _records(text: str, fields: int) -> Iterator[list[str]]:
    """Lines with at least so many fields; comments, NIS entries and lines with a NUL are none."""
    for line in text.split("\n"):
        if line[:1] in ("", "#", "+", "-") or "\0" in line:
            continue
        parts = line.split(":")
        if len(parts) >= fields and parts[0]:
            yield parts


def parse_passwd(text: str) -> list[User]:
    """The accounts, in file order; malformed lines are skipped."""
    users = []
    for parts in _records(text, 7):
        uid, gid = _id_or_none(parts[2]), _id_or_none(parts[3])
        if uid is not None and gid is not None:
            users.append(User(parts[0], uid, gid, parts[5], parts[6]))
    return users


def parse_group(text: str) -> list[Group]:
    """The groups, in file order; malformed lines are skipped."""
    groups = []
    for parts in _records(text, 3):
        gid = _id_or_none(parts[2])
        if gid is not None:
            members = parts[3].split(",") if len(parts) > 3 else []
            groups.append(Group(parts[0], gid, tuple(member for member in members if member)))
    return groups


def _read(root_fd: int, path: str) -> str:
    """The text of a file in the tree; empty if it cannot be had. A line cut at the limit is dropped."""
    try:
        data = beneath.read_regular(root_fd, path, LIMIT_BYTES)
    except OSError:
        return ""
    if len(data) == LIMIT_BYTES:
        data = data[: data.rfind(b"\n") + 1]
    return data.decode("utf-8", "surrogateescape")


def read_users(root_fd: int) -> list[User]:
    """Accounts in the tree's /etc/passwd; none if there is no such regular file."""
    return parse_passwd(_read(root_fd, "/etc/passwd"))


def read_groups(root_fd: int) -> list[Group]:
    """Groups in the tree's /etc/group; none if there is no such regular file."""
    return parse_group(_read(root_fd, "/etc/group"))


def lookup_home(root_fd: int, uid: int) -> str:
    """The home directory of the first account with ``uid``; ``/`` without one, or where it is empty."""
    for user in read_users(root_fd):
        if user.uid == uid:
            return user.home or "/"
    return "/"


def lookup_user(root_fd: int, name: str) -> User | None:
    """The account called ``name``, or, if there is none and ``name`` is a number, the one with that uid."""
    users = read_users(root_fd)
    for user in users:
        if user.name == name:
            return user
    uid = _id_or_none(name)
    return next((user for user in users if user.uid == uid), None) if uid is not None else None


def supplementary_groups(root_fd: int, name: str) -> list[int]:
    """Ids of the groups that list ``name`` as a member, in file order, each once."""
    return list(dict.fromkeys(group.gid for group in read_groups(root_fd) if name in group.members))
