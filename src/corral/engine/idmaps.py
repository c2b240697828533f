"""Which ids a container's user namespace has: ``--userns`` and what a rootless user gets anyway, as maps of numbers.

A map is a list of (inside, outside, size). Source: podman-run(1) "--userns", "--uidmap"; user_namespaces(7).
"""

from __future__ import annotations

import posix

from corral.engine import names
from corral.engine.places import is_rootless
from corral.errors import InvalidArgument, ResourceExhausted
from corral.linux.idmap import read_subids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from corral.engine.places import Places

__all__ = ["own_maps", "own_user", "resolve_maps"]

Extent = tuple[int, int, int]

BLOCK = 65536
# Above all ranges that useradd(8) gives to people (SUB_UID_MAX is 600100000), below the sign bit.
FIRST_AUTO, LAST_AUTO = 1 << 30, 1 << 31


def resolve_maps(places: Places, definition: dict[str, Any]) -> None:
    """Put ``uid_map`` and ``gid_map`` into the definition's namespaces, where it gets a user namespace of its own.

    Raises: InvalidArgument for what this caller cannot have, ResourceExhausted without free ids.
    """
    modes = dict(definition.get("namespaces", {}))
    mode, _, rest = str(modes.get("user", "")).partition(":")
    if mode in ("container", "pod"):
        return
    if modes.get("uid_map"):
        if is_rootless():
            uids, gids = own_maps()
            wanted = modes["uid_map"]
            modes["uid_map"], modes["gid_map"] = _through(wanted, uids), _through(modes.get("gid_map") or wanted, gids)
    elif is_rootless():
        modes["uid_map"], modes["gid_map"] = _rootless(mode, rest)
    elif mode in ("auto", "private"):
        modes["uid_map"] = modes["gid_map"] = [(0, _free_block(places), BLOCK)]
    elif mode in ("keep-id", "nomap"):
        raise InvalidArgument(
            f"use the user namespace {mode!r}: it is for users without privileges",
            hint="as root: --userns auto, or --uidmap 0:100000:65536",
        )
    if modes:
        definition["namespaces"] = modes


def own_maps() -> tuple[list[Extent], list[Extent]]:
    """The ids that an unprivileged user has: itself as root, then its ranges of /etc/subuid and /etc/subgid."""
    return (
        _append([(0, posix.geteuid(), 1)], read_subids("uid", posix.geteuid())),
        _append([(0, posix.getegid(), 1)], read_subids("gid", posix.geteuid())),
    )


def _append(extents: list[Extent], ranges: Sequence[tuple[int, int]]) -> list[Extent]:
    inside = sum(size for _, _, size in extents)
    for first, count in ranges:
        extents.append((inside, first, count))
        inside += count
    return extents


def _rootless(mode: str, rest: str) -> tuple[list[Extent], list[Extent]]:
    if mode == "keep-id":
        return _keep(rest)
    if mode == "nomap":
        found = [_append([], read_subids(kind, posix.geteuid())) for kind in ("uid", "gid")]
        if not (found[0] and found[1]):
            raise ResourceExhausted(
                "use the user namespace 'nomap': this user has no other ids", hint="give it some in /etc/subuid"
            )
        return found[0], found[1]
    return own_maps()


def own_user(definition: dict[str, Any]) -> str:
    """Who a container with ``keep-id`` runs as where neither flag nor image says it: the caller. Else ""."""
    mode, _, rest = str(definition.get("namespaces", {}).get("user", "")).partition(":")
    if mode != "keep-id":
        return ""
    wanted = _kept_ids(rest)
    return f"{wanted['uid']}:{wanted['gid']}"


def _kept_ids(rest: str) -> dict[str, int]:
    wanted = {"uid": posix.geteuid(), "gid": posix.getegid()}
    for item in rest.split(",") if rest else []:
        key, _, value = item.partition("=")
        if key not in wanted or not value.isdigit():
            raise InvalidArgument(f"use the user namespace 'keep-id:{rest}': {item!r} is not uid=N or gid=N")
        wanted[key] = int(value)
    return wanted


def _keep(rest: str) -> tuple[list[Extent], list[Extent]]:
    """The caller is itself inside: ``keep-id``, or with ``uid=`` and ``gid=`` who it is."""
    wanted = _kept_ids(rest)
    maps = []
    for kind, own in (("uid", posix.geteuid()), ("gid", posix.getegid())):
        others = _append([], read_subids(kind, posix.geteuid()))
        at = wanted[kind]
        below = _cut(others, 0, at)
        above = _cut(others, at, sum(size for _, _, size in others))
        if at and not below:
            # The kernel lets nobody prepare a container in which there is no root.
            raise ResourceExhausted(
                f"use the user namespace 'keep-id': this user has no other {kind}s, of which one would be root inside",
                hint=f"give it some in /etc/sub{kind}, or leave --userns out: then the user itself is root inside",
            )
        maps.append([*below, (at, own, 1), *((inside + 1, outside, size) for inside, outside, size in above)])
    return maps[0], maps[1]


def _cut(extents: list[Extent], first: int, end: int) -> list[Extent]:
    """The parts of a map whose ids inside are from ``first`` up to ``end``."""
    found = []
    for inside, outside, size in extents:
        begin, stop = max(inside, first), min(inside + size, end)
        if begin < stop:
            found.append((begin, outside + begin - inside, stop - begin))
    return found


def _through(wanted: Sequence[Sequence[int]], own: list[Extent]) -> list[Extent]:
    """Maps whose outside is the numbering of the user's own ids, as `podman run --uidmap` has it, made real."""
    found: list[Extent] = []
    for inside, middle, size in wanted:
        parts = _cut(own, middle, middle + size)
        if sum(length for _, _, length in parts) != size:
            raise InvalidArgument(
                f"map {size} ids from {middle} on: this user has {sum(item[2] for item in own)}",
                hint="0 is the user itself, 1 and up are its ranges of /etc/subuid",
            )
        found += [(inside + begin - middle, outside, length) for begin, outside, length in parts]
    return found


def _free_block(places: Places) -> int:
    """The first outside id of a block that no container of this store has."""
    from corral.engine.ledger import read_definition
    from corral.errors import NotFound

    taken: set[int] = set()
    for container_id in names.list_ids(places):
        try:
            modes = read_definition(places, container_id).get("namespaces", {})
        except NotFound:
            continue
        taken.update(outside // BLOCK for _, outside, _ in modes.get("uid_map", []))
    number = (LAST_AUTO - FIRST_AUTO) // BLOCK
    # From a random place on: two creations at once, or two stores, seldom try the same block.
    start = int.from_bytes(posix.urandom(4), "little") % number
    for turn in range(number):
        block = FIRST_AUTO // BLOCK + (start + turn) % number
        if block not in taken:
            return block * BLOCK
    raise ResourceExhausted("find ids for a user namespace: all blocks are taken", hint="remove containers")
