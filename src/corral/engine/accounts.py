"""Who a container runs as: ``--user`` and ``--group-add`` against the root filesystem's own user database.

Knows passwd and group files of images as text from strangers; never asks NSS, for the host's users are not the
container's.

Source: podman-run(1) "--user", "--group-add"; passwd(5), group(5).
"""

from __future__ import annotations

from corral.engine.layered import read_layered
from corral.errors import InvalidArgument
from corral.linux.users import LIMIT_BYTES, parse_group, parse_passwd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.engine.definition import Account
    from corral.linux.users import Group, User

_MAX_ID = 0xFFFFFFFE


def resolve_account(layers: Sequence[str], user: str, groups: Sequence[str] = ()) -> Account:
    """The numbers for ``user`` (``NAME|UID[:GROUP|GID]``, "" is root) and additional ``groups``.

    ``layers``: the directories of the root filesystem, top first. A uid that no account bears is fine: its group is 0
    and its home is /. Raises: InvalidArgument for a name that the root filesystem does not know.
    """
    name, colon, group = user.partition(":")
    users = parse_passwd(_text(layers, "/etc/passwd"))
    known = parse_group(_text(layers, "/etc/group"))
    account = _find_user(users, name or "0")
    uid = account.uid if account is not None else _number(name or "0")
    if uid is None:
        raise InvalidArgument(
            f"user {name!r}: the root filesystem's /etc/passwd has no such name",
            hint="give a number, as in --user 1000:1000, or a name of the image",
        )
    if colon and group:
        gid, more = _gid(known, group), []
    else:
        gid = account.gid if account is not None else 0
        more = [item.gid for item in known if account is not None and account.name in item.members]
    more += [_gid(known, item) for item in groups]
    home = account.home if account is not None else ""
    return {
        "uid": uid,
        "gid": gid,
        "groups": [item for item in dict.fromkeys(more) if item != gid],
        "home": home or "/",
    }


def _text(layers: Sequence[str], path: str) -> str:
    data = read_layered(layers, path, LIMIT_BYTES) or b""
    if len(data) == LIMIT_BYTES:
        data = data[: data.rfind(b"\n") + 1]
    return data.decode("utf-8", "surrogateescape")


def _find_user(users: list[User], name: str) -> User | None:
    for user in users:
        if user.name == name:
            return user
    uid = _number(name)
    return next((user for user in users if user.uid == uid), None) if uid is not None else None


def _number(text: str) -> int | None:
    if text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= _MAX_ID:
        return int(text)
    return None


def _gid(groups: list[Group], name: str) -> int:
    for group in groups:
        if group.name == name:
            return group.gid
    gid = _number(name)
    if gid is None:
        raise InvalidArgument(
            f"group {name!r}: the root filesystem's /etc/group has no such name",
            hint="give a number, or a name of the image",
        )
    return gid
