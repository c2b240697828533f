"""Limits as data: one value for one file of one hierarchy, how its read-back must look, and the judge of that.

Owns the vocabulary and the work bench (``Host``) that the v1 and v2 compilers share. Does no I/O.

How a read-back must look (``LimitWrite.expect``) is a tuple, its first item one of:

========================  ============================================================================
``("none",)``             it cannot be read back, or has no stable form
``("exact", text)``       the same text
``("integer", n)``        the number n, in decimal
``("max",)``              the word ``max``
``("bytes", n, unit)``    n bytes, which the kernel rounds down to whole units (pages, huge pages)
``("unlimited",)``        ``max``, or a v1 byte counter at its largest
``("cpus", text)``        the same set of numbers (``0-1`` is ``0,1``)
``("cpu_max", q, p)``     v2 quota (or ``max``) and period
``("line", text)``        one of the lines, its words in any order, perhaps with more words
``("no_line", word)``     no line begins with this word
``("default", n)``        ``default n`` among the lines, or just the number
``("device_list", t)``    the same set of lines
========================  ============================================================================
"""

from __future__ import annotations

from corral.errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.cgroup.layout import Hierarchy, Layout
    from corral.errors import CorralError

    Expect = tuple[str | int, ...]

__all__ = ["Compiled", "Host", "LimitWrite", "judge", "judge_all", "parse_number_set"]

# v1 page counters have no word for "no limit": they show LONG_MAX rounded down to a page. 2^62 is beyond any memory
# and below that for every page size.
_UNLIMITED_FROM = 1 << 62


class LimitWrite:
    """Write ``value`` to ``file`` of the container's group in hierarchy ``hierarchy_index``.

    ``pointer`` is the place in config.json that asked for it, ``why`` says why it stands where it does in the order
    ("" if nothing depends on it), ``expect`` how ``read_file`` must look afterwards (table in the module docstring;
    ``read_file`` is "" when there is nothing to read). ``is_optional``: a missing file is no error. Of the writes
    that share a non-empty ``one_of``, at least one must have found its file: the kernels differ in its name.
    """

    __slots__ = (
        "controller",
        "expect",
        "file",
        "hierarchy_index",
        "is_optional",
        "one_of",
        "pointer",
        "read_file",
        "value",
        "why",
    )

    def __init__(
        self,
        hierarchy_index: int,
        controller: str,
        file: str,
        value: str,
        *,
        pointer: str,
        expect: Expect = ("none",),
        why: str = "",
        is_optional: bool = False,
        one_of: str = "",
        read_file: str | None = None,
    ) -> None:
        self.hierarchy_index = hierarchy_index
        self.controller = controller
        self.file = file
        self.value = value
        self.pointer = pointer
        self.expect = expect
        self.why = why
        self.is_optional = is_optional or bool(one_of)
        self.one_of = one_of
        self.read_file = (file if read_file is None else read_file) if expect[0] != "none" else ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LimitWrite):
            return NotImplemented
        return self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def key(self) -> tuple[object, ...]:
        """All that the kernel will see and be asked."""
        return (self.hierarchy_index, self.file, self.value, self.pointer, self.expect, self.is_optional, self.one_of)

    def __repr__(self) -> str:
        return f"LimitWrite({self.hierarchy_index}, {self.file!r} <- {self.value!r}, {self.pointer})"


class Compiled:
    """What the compilers return: ordered ``writes``, ``problems`` that forbid a start, and ``warnings``.

    A warning is ``(pointer, text)``: something asked for that has no effect and never had on any kernel of today.
    ``controllers`` are those that the writes need, per hierarchy index (v2: to be enabled in the ancestors).
    """

    __slots__ = ("problems", "warnings", "writes")

    def __init__(self) -> None:
        self.writes: list[LimitWrite] = []
        self.problems: list[CorralError] = []
        self.warnings: list[tuple[str, str]] = []

    @property
    def controllers(self) -> dict[int, list[str]]:
        needed: dict[int, list[str]] = {}
        for write in self.writes:
            names = needed.setdefault(write.hierarchy_index, [])
            if write.controller and write.controller not in names:
                names.append(write.controller)
        return needed

    def raise_problems(self) -> None:
        """Raise the first problem, if any; callers that show all of them read ``problems``."""
        if self.problems:
            raise self.problems[0]


class Host:
    """What the section compilers work with: the layout, the page size, and where results go."""

    __slots__ = ("layout", "out", "page_size", "pids_zero_is_limit", "pointer")

    def __init__(self, layout: Layout, pointer: str, page_size: int, *, pids_zero_is_limit: bool) -> None:
        self.layout = layout
        self.pointer = pointer
        self.page_size = page_size
        self.pids_zero_is_limit = pids_zero_is_limit
        self.out = Compiled()

    def refuse(self, pointer: str, cause: str, hint: str = "") -> None:
        """Record that the value at ``pointer`` is impossible anywhere."""
        self.out.problems.append(
            InvalidArgument(f"compile limit {pointer}: {cause}", hint=hint, pointer=pointer, phase="cgroup")
        )

    def lack(self, pointer: str, cause: str, hint: str = "") -> None:
        """Record that this host cannot do what ``pointer`` asks for."""
        self.out.problems.append(
            Unsupported(f"compile limit {pointer}: {cause}", hint=hint, pointer=pointer, phase="cgroup")
        )

    def warn(self, pointer: str, text: str) -> None:
        """Record that what ``pointer`` asks for has no effect."""
        self.out.warnings.append((pointer, text))

    def carrier(self, controller: str, pointer: str) -> Hierarchy | None:
        """The hierarchy of ``controller``; records the problem if there is none."""
        hierarchy = self.layout.hierarchy_for(controller)
        if hierarchy is None:
            self.lack(
                pointer,
                f"this host has no {controller!r} cgroup controller (layout {self.layout.mode})",
                hint=f"mount or enable the {controller} controller, or drop the limit",
            )
        return hierarchy


def judge(write: LimitWrite, text: str) -> str | None:
    """Why ``text``, read back after ``write``, is not what was asked for; None if it is.

    Rounding that the kernel documents is agreed to; any other difference is not.
    """
    kind = write.expect[0]
    if kind == "none":
        return None
    test = _JUDGES[str(kind)]
    if test(write.expect, text):
        return None
    shown = " ".join(text.split())
    return f"asked for {_asked(write)}, the kernel has {shown[:120]!r}"


def judge_all(writes: Sequence[LimitWrite], texts: Sequence[str | None]) -> list[tuple[LimitWrite, str]]:
    """Judge each write by its read-back (None: its file was missing); returns those refused with the reason.

    ``texts[i]`` belongs to ``writes[i]``, read when all writes were done. For a write without ``read_file`` any
    text, also "", says that the file was there.
    """
    refused = []
    met = {write.one_of for write, text in zip(writes, texts, strict=True) if write.one_of and text is not None}
    told = set()
    for write, text in zip(writes, texts, strict=True):
        if text is not None:
            reason = judge(write, text)
            if reason is not None:
                refused.append((write, reason))
        elif write.one_of and write.one_of not in met and write.one_of not in told:
            told.add(write.one_of)
            names = " nor ".join(repr(w.file) for w in writes if w.one_of == write.one_of)
            refused.append((write, f"this kernel has neither {names}" if " nor " in names else f"no file {names}"))
        elif not write.is_optional:
            refused.append((write, f"no file {write.file!r}"))
    return refused


def _asked(write: LimitWrite) -> str:
    kind = write.expect[0]
    if kind == "no_line":
        return f"no entry for {write.expect[1]!r}"
    return repr(write.value)


def _number(text: str) -> int | None:
    text = text.strip()
    digits = text[1:] if text.startswith("-") else text
    return int(text) if digits.isdecimal() and digits.isascii() else None


def _is_exact(expect: Expect, text: str) -> bool:
    return text.strip() == expect[1]


def _is_integer(expect: Expect, text: str) -> bool:
    return _number(text) == expect[1]


def _is_max(_: Expect, text: str) -> bool:
    return text.strip() == "max"


def _is_unlimited(_: Expect, text: str) -> bool:
    number = _number(text)
    return text.strip() == "max" or (number is not None and number >= _UNLIMITED_FROM)


def _is_bytes(expect: Expect, text: str) -> bool:
    asked, unit = int(expect[1]), int(expect[2])
    if asked >= _UNLIMITED_FROM:
        return _is_unlimited(expect, text)
    return _number(text) == asked - asked % unit


def _is_same_cpus(expect: Expect, text: str) -> bool:
    try:
        return parse_number_set(text) == parse_number_set(str(expect[1]))
    except ValueError:
        return False


def _is_cpu_max(expect: Expect, text: str) -> bool:
    return text.split() == [str(expect[1]), str(expect[2])]


def _has_line(expect: Expect, text: str) -> bool:
    first, *wanted = str(expect[1]).split()
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == first:
            return all(word in words for word in wanted)
    return False


def _has_no_line(expect: Expect, text: str) -> bool:
    return not any(line.split()[:1] == [expect[1]] for line in text.splitlines())


def _is_default(expect: Expect, text: str) -> bool:
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["default"]:
            return words[1:] == [str(expect[1])]
    return _is_integer(expect, text)


def _is_same_lines(expect: Expect, text: str) -> bool:
    return set(text.split("\n")) - {""} == set(str(expect[1]).split("\n")) - {""}


_JUDGES: dict[str, Callable[[Expect, str], bool]] = {
    "exact": _is_exact,
    "integer": _is_integer,
    "max": _is_max,
    "unlimited": _is_unlimited,
    "bytes": _is_bytes,
    "cpus": _is_same_cpus,
    "cpu_max": _is_cpu_max,
    "line": _has_line,
    "no_line": _has_no_line,
    "default": _is_default,
    "device_list": _is_same_lines,
}


def parse_number_set(text: str) -> frozenset[int]:
    """The numbers of a kernel list such as ``0-2,7``. Raises ValueError for anything else.

    Source: Documentation/core-api/kernel-api, bitmap_parselist. Its ``a-b:used/group`` form, which nobody writes by
    hand, is not read.
    """
    numbers: set[int] = set()
    for part in text.strip().split(","):
        part = part.strip()
        if not part:
            continue
        low, dash, high = part.partition("-")
        if not (low.isdecimal() and low.isascii()) or (dash and not (high.isdecimal() and high.isascii())):
            raise ValueError(f"{part!r} is neither a number nor a range")
        first, last = int(low), int(high) if dash else int(low)
        if last < first or last > 1 << 16:
            raise ValueError(f"{part!r} is not an ascending range of small numbers")
        numbers.update(range(first, last + 1))
    return frozenset(numbers)
