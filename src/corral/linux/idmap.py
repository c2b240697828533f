"""Ids in user namespaces: subordinate id files, maps, and their arithmetic. Writing a map is the executor's.

A mapping is ``(container_id, host_id, size)``, as a line of /proc/PID/uid_map.

Source: user_namespaces(7), subuid(5), newuidmap(1).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Mapping = tuple[int, int, int]
    IdRange = tuple[int, int]  # first id, count

# Ids are 32 bits wide, and the last one, (uid_t)-1, means "none".
ID_LIMIT = 0xFFFFFFFF


def host_id(mappings: Iterable[Mapping], container_id: int) -> int | None:
    """The id outside for ``container_id``, None if it is not mapped."""
    for inside, outside, size in mappings:
        if inside <= container_id < inside + size:
            return outside + container_id - inside
    return None


def container_id(mappings: Iterable[Mapping], host_id: int) -> int | None:
    """The id inside for ``host_id``, None if it is not mapped."""
    for inside, outside, size in mappings:
        if outside <= host_id < outside + size:
            return inside + host_id - outside
    return None


def format_map(mappings: Iterable[Mapping]) -> str:
    """The text for /proc/PID/uid_map or gid_map, which must go into *one* write."""
    return "".join(f"{inside} {outside} {size}\n" for inside, outside, size in mappings)


def parse_map(text: str) -> list[Mapping]:
    """Mappings of a uid_map or gid_map file. Raises: ValueError."""
    mappings = []
    for line in text.splitlines():
        inside, outside, size = line.split()
        mappings.append((int(inside), int(outside), int(size)))
    return mappings


def read_map(kind: str, pid: int | str = "self", *, proc: str = "/proc") -> list[Mapping]:
    """The map of ``pid``'s user namespace as the reader's own namespace sees it. ``kind``: ``uid`` or ``gid``."""
    with open(f"{proc}/{pid}/{kind}_map", encoding="utf-8") as file:
        return parse_map(file.read())


def is_initial_map(mappings: Sequence[Mapping]) -> bool:
    """Whether all ids map to themselves: so in the initial user namespace (and in a full copy, which is as good)."""
    return list(mappings) == [(0, 0, ID_LIMIT)]


def parse_subids(text: str, owners: Iterable[str]) -> list[IdRange]:
    """Ranges of subordinate ids that any of ``owners`` (user name, decimal uid) holds, in file order.

    Malformed lines are skipped, as shadow's own tools do.
    """
    wanted = frozenset(owners)
    ranges = []
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) != 3 or fields[0] not in wanted:
            continue
        if not (fields[1].isdecimal() and fields[2].isdecimal()):
            continue
        first, count = int(fields[1]), int(fields[2])
        if count > 0 and first + count <= ID_LIMIT:
            ranges.append((first, count))
    return ranges


def owner_names(uid: int) -> tuple[str, ...]:
    """What a user may be called in subuid and subgid: the number, and the login name if there is one."""
    import pwd

    try:
        return (str(uid), pwd.getpwuid(uid).pw_name)
    except KeyError:
        return (str(uid),)


def read_subids(kind: str, uid: int, *, etc: str = "/etc") -> list[IdRange]:
    """Subordinate ranges of the user ``uid``: ``kind`` is ``uid`` or ``gid``. A missing file holds none."""
    try:
        with open(f"{etc}/sub{kind}", encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except FileNotFoundError:
        return []
    return parse_subids(text, owner_names(uid))


def needs_helper(mappings: Sequence[Mapping], *, own_id: int, has_capability: bool) -> bool:
    """Whether the set-uid helpers newuidmap/newgidmap must write the map, since the kernel would refuse it from us.

    ``own_id``: the caller's effective uid or gid. ``has_capability``: CAP_SETUID (CAP_SETGID) in the parent namespace.
    Without it the kernel takes one line of one id, the writer's own (for gids: only once setgroups is denied).
    """
    if has_capability:
        return False
    return not (len(mappings) == 1 and mappings[0][1] == own_id and mappings[0][2] == 1)


def first_unavailable(mappings: Iterable[Mapping], ranges: Iterable[IdRange], *, own_id: int) -> Mapping | None:
    """The first mapping whose host ids newuidmap would refuse: outside ``ranges`` and not the single ``own_id``."""
    merged: list[list[int]] = []
    for first, count in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], first + count)
        else:
            merged.append([first, first + count])
    for mapping in mappings:
        _, outside, size = mapping
        if outside == own_id and size == 1:
            continue
        if not any(start <= outside and outside + size <= end for start, end in merged):
            return mapping
    return None
