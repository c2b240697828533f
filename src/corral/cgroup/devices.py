"""Device rules: ``linux.resources.devices`` and the defaults, as v1 writes or as a list for the v2 program. Pure.

The meaning is the same for both: nothing is allowed, then the config's rules in order, then the default devices that
every container may use (so a config cannot take /dev/null away; runc's order). The last rule that matches an access
decides. v1 cannot express every such list: a narrow denial inside a wide permission is refused there.

Source: runtime-spec config-linux.md#allowed-device-list; Documentation/admin-guide/cgroup-v1/devices.rst.
"""

from __future__ import annotations

from corral.cgroup.writes import LimitWrite
from corral.errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from corral.cgroup.layout import Hierarchy, Layout
    from corral.errors import CorralError

    Key = tuple[str, int, int]
    RawRule = tuple[bool, str, int, int, str]

__all__ = ["CompiledDevices", "DeviceRule", "allowed_devices", "compile_devices", "device_rules"]

ANY = -1
_ALL = "rwm"
_NUMBER_MAX = (1 << 32) - 1

# Allowed in every container: making any node (which gives no access to it), the devices that the default /dev has,
# the console, terminals. Source: runtime-spec config-linux.md#default-devices, and runc's list.
_DEFAULTS = (
    ("c", ANY, ANY, "m"),
    ("b", ANY, ANY, "m"),
    ("c", 1, 3, _ALL),  # /dev/null
    ("c", 1, 8, _ALL),  # /dev/random
    ("c", 1, 7, _ALL),  # /dev/full
    ("c", 5, 0, _ALL),  # /dev/tty
    ("c", 1, 5, _ALL),  # /dev/zero
    ("c", 1, 9, _ALL),  # /dev/urandom
    ("c", 136, ANY, _ALL),  # /dev/pts/*
    ("c", 5, 2, _ALL),  # /dev/ptmx
    ("c", 5, 1, _ALL),  # /dev/console
)


class DeviceRule:
    """Allow or deny ``access`` (letters of "rwm") to devices of ``type`` (``a``, ``b``, ``c``); -1 is any number.

    A rule of type ``a`` has no numbers and all of "rwm": it resets the list to its own answer.
    """

    __slots__ = ("access", "is_allowed", "major", "minor", "pointer", "type")

    def __init__(self, is_allowed: bool, key: Key, access: str, *, pointer: str) -> None:
        self.is_allowed = is_allowed
        self.type, self.major, self.minor = key
        self.access = access
        self.pointer = pointer

    @property
    def raw(self) -> RawRule:
        """The tuple (allow, type, major, minor, access) that the BPF assembler takes."""
        return (self.is_allowed, self.type, self.major, self.minor, self.access)

    def __repr__(self) -> str:
        return f"DeviceRule({'allow' if self.is_allowed else 'deny'} {_line(_key(self), self.access)})"


class CompiledDevices:
    """``writes`` for a v1 devices hierarchy, or ``bpf_rules`` for a program on the v2 hierarchy ``bpf_hierarchy``.

    ``bpf_hierarchy`` is None when v1 does it. ``is_allow_all``: there is nothing to deny, so no program is needed.
    """

    __slots__ = ("bpf_hierarchy", "bpf_rules", "is_allow_all", "problems", "writes")

    def __init__(self) -> None:
        self.writes: list[LimitWrite] = []
        self.problems: list[CorralError] = []
        self.bpf_hierarchy: int | None = None
        self.bpf_rules: list[RawRule] = []
        self.is_allow_all = False


def compile_devices(
    entries: Sequence[Mapping[str, Any]],
    layout: Layout,
    *,
    pointer: str = "linux.resources.devices",
    current: str | None = None,
) -> CompiledDevices:
    """The rules of a container whose config has ``entries``, for this host.

    ``current`` is the text of devices.list for a group in use (update, v1): then only the differences are written,
    so that nothing which stays allowed is denied for a moment.
    """
    out = CompiledDevices()
    rules, out.problems = device_rules(entries, pointer=pointer)
    v1 = layout.hierarchy_for("devices")
    unified = layout.unified
    if v1 is not None:
        table = _Table()
        for rule in rules:
            problem = table.apply(rule)
            if problem is not None:
                out.problems.append(problem)
        out.is_allow_all = table.is_allow_all
        if not out.problems:
            out.writes = table.writes(v1, pointer, current)
    elif unified is not None:
        out.bpf_hierarchy = unified.index
        out.bpf_rules = [rule.raw for rule in rules]
        last_reset = max(at for at, rule in enumerate(rules) if rule.type == "a")
        out.is_allow_all = rules[last_reset].is_allowed and all(rule.is_allowed for rule in rules[last_reset:])
    else:
        out.problems.append(
            Unsupported(
                f"compile device rules {pointer}: this host has neither a 'devices' cgroup controller nor cgroup v2 "
                f"(layout {layout.mode})",
                pointer=pointer,
                phase="cgroup",
            )
        )
    return out


def device_rules(
    entries: Sequence[Mapping[str, Any]], *, pointer: str = "linux.resources.devices"
) -> tuple[list[DeviceRule], list[CorralError]]:
    """All rules in the order that decides: deny everything, the config's, the defaults; and what is wrong with them.

    An entry of type ``a`` with numbers or without all of "rwm" means block and character devices alike, and becomes
    one rule for each: v1 itself would take such an entry for "everything".
    """
    rules = [DeviceRule(False, ("a", ANY, ANY), _ALL, pointer=pointer)]
    problems: list[CorralError] = []
    for at, entry in enumerate(entries):
        place = f"{pointer}[{at}]"
        rule, cause = _parse(entry, place)
        if rule is None:
            problems.append(InvalidArgument(f"compile device rule {place}: {cause}", pointer=place, phase="cgroup"))
        elif rule.type == "a" and (rule.major, rule.minor, rule.access) != (ANY, ANY, _ALL):
            rules.extend(
                DeviceRule(rule.is_allowed, (kind, rule.major, rule.minor), rule.access, pointer=place)
                for kind in ("b", "c")
            )
        else:
            rules.append(rule)
    default = f"{pointer} (default devices)"
    rules.extend(
        DeviceRule(True, (kind, major, minor), access, pointer=default) for kind, major, minor, access in _DEFAULTS
    )
    return rules, problems


def allowed_devices(
    entries: Sequence[Mapping[str, Any]], *, pointer: str = "linux.resources.devices"
) -> dict[Key, str] | None:
    """At least what the rules allow, as (type, major, minor) to access with -1 for "any"; None for every device.

    For list makers without denials (systemd): a narrow denial inside a wide permission is left out here.
    """
    table = _Table()
    for rule in device_rules(entries, pointer=pointer)[0]:
        table.apply(rule)
    return None if table.is_default_allow else table.merged()


def _parse(entry: Mapping[str, Any], place: str) -> tuple[DeviceRule | None, str]:
    kind = entry.get("type") or "a"
    if kind not in ("a", "b", "c"):
        return None, f"type {kind!r} is none of 'a', 'b', 'c'"
    access = entry.get("access", "")
    if not access:
        return None, "access is empty: give letters of 'rwm'"
    if set(access) - set(_ALL):
        return None, f"access {access!r} has letters other than 'rwm'"
    numbers = []
    for name in ("major", "minor"):
        number = entry.get(name, ANY)
        if not ANY <= number <= _NUMBER_MAX:
            return None, f"{name} {number} is not a device number"
        numbers.append(number)
    return DeviceRule(bool(entry.get("allow")), (kind, *numbers), _letters(access), pointer=place), ""


class _Table:
    """A devices group as v1 keeps it: a default answer, and exceptions by (type, major, minor)."""

    __slots__ = ("exceptions", "is_default_allow")

    def __init__(self) -> None:
        self.is_default_allow = False
        self.exceptions: dict[Key, str] = {}

    @property
    def is_allow_all(self) -> bool:
        return self.is_default_allow and not self.exceptions

    def apply(self, rule: DeviceRule) -> CorralError | None:
        key = _key(rule)
        if rule.type == "a":
            self.is_default_allow, self.exceptions = rule.is_allowed, {}
        elif rule.is_allowed != self.is_default_allow:
            self.exceptions[key] = _letters(self.exceptions.get(key, "") + rule.access)
        else:
            return self._restore_default(rule, key)
        return None

    def _restore_default(self, rule: DeviceRule, key: Key) -> CorralError | None:
        """Take ``rule.access`` out of the exceptions that lie within ``key``; those that reach beyond are a hole."""
        for other, access in list(self.exceptions.items()):
            shared = set(access) & set(rule.access)
            if not shared or not _overlap(key, other):
                continue
            if not _covers(key, other):
                word = "deny" if self.is_default_allow else "allow"
                return Unsupported(
                    f"compile device rule {rule.pointer}: '{_line(key, rule.access)}' would cut a hole into the "
                    f"earlier rule '{word} {_line(other, access)}', which cgroup v1 cannot do",
                    hint="list the devices of the wider rule one by one",
                    pointer=rule.pointer,
                    phase="cgroup",
                )
            left = _letters("".join(set(access) - set(rule.access)))
            if left:
                self.exceptions[other] = left
            else:
                del self.exceptions[other]
        return None

    def merged(self) -> dict[Key, str]:
        """The exceptions as v1 must have them.

        v1 wants one entry that covers all of an access. So each gets what the wider ones add, and where two cross
        (``1:*`` and ``*:3``) the crossing gets an entry of its own.
        """
        keys = set(self.exceptions)
        rows = [key for key in keys if key[1] != ANY and key[2] == ANY]
        columns = [key for key in keys if key[1] == ANY and key[2] != ANY]
        keys.update((row[0], row[1], column[2]) for row in rows for column in columns if row[0] == column[0])
        return {
            key: _letters("".join(access for other, access in self.exceptions.items() if _covers(other, key)))
            for key in sorted(keys)
        }

    def writes(self, hierarchy: Hierarchy, pointer: str, current: str | None) -> list[LimitWrite]:
        wanted = self.merged()
        have = _parse_list(current) if current is not None and not self.is_default_allow else None
        listing = "a *:* rwm"
        if not self.is_default_allow:
            listing = "\n".join(_line(key, access) for key, access in wanted.items())
        steps: list[tuple[str, str]] = []
        reset, except_file = (
            ("devices.allow", "devices.deny") if self.is_default_allow else ("devices.deny", "devices.allow")
        )
        if have is None:
            steps.append((reset, "a"))
            have = {}
        for key in sorted(have):
            dropped = set(have[key]) - set(wanted.get(key, ""))
            if dropped:
                steps.append((reset, _line(key, _letters("".join(dropped)))))
        for key, access in wanted.items():
            gained = set(access) - set(have.get(key, ""))
            if gained:
                steps.append((except_file, _line(key, _letters("".join(gained)))))
        return [
            LimitWrite(
                hierarchy.index,
                "devices",
                file,
                value,
                pointer=pointer,
                # Only the whole list says whether the rules stand: judged once, after the last write.
                expect=("device_list", listing) if at == len(steps) - 1 else ("none",),
                read_file="devices.list",
                why="the reset comes first, it clears the list" if at == 0 and value == "a" else "",
            )
            for at, (file, value) in enumerate(steps)
        ]


def _parse_list(text: str) -> dict[Key, str] | None:
    """devices.list as exceptions to "deny"; None when the group allows by default (its exceptions are not shown)."""
    exceptions: dict[Key, str] = {}
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        if len(words) != 4 or words[0] not in ("b", "c"):
            return None
        major, minor = (ANY if word == "*" else int(word) for word in words[1:3])
        exceptions[(words[0], major, minor)] = words[3]
    return exceptions


def _key(rule: DeviceRule) -> Key:
    return (rule.type, rule.major, rule.minor)


def _covers(wide: Key, narrow: Key) -> bool:
    return wide[0] == narrow[0] and wide[1] in (ANY, narrow[1]) and wide[2] in (ANY, narrow[2])


def _overlap(one: Key, other: Key) -> bool:
    return one[0] == other[0] and all(a == b or ANY in (a, b) for a, b in zip(one[1:], other[1:], strict=True))


def _letters(access: str) -> str:
    return "".join(letter for letter in _ALL if letter in access)


def _line(key: Key, access: str) -> str:
    kind, major, minor = key
    return f"{kind} {'*' if major == ANY else major}:{'*' if minor == ANY else minor} {access}"
