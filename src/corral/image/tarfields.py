"""The fields of tar archives: numbers, text, checksums, PAX records. Bounded, and strict where readers could differ."""

from __future__ import annotations

from corral.errors import InvalidArgument

MAX_SIZE = 1 << 60

_BLANK_SUM = 8 * 32


def show(name: bytes) -> str:
    """A name for a message: quoted, bounded, whatever bytes it has."""
    return ascii(name[:200].decode("utf-8", "surrogateescape")).replace("\\udc", "\\x")


def broken(what: str) -> InvalidArgument:
    """The error for an archive in which ``what``."""
    return InvalidArgument(f"read the tar archive: {what}", hint="the archive is damaged, or not made by a tar program")


def check_sum(block: bytes, field: bytes) -> None:
    """Raise InvalidArgument unless the header's sum of bytes, as signed or unsigned ones, is as it says."""
    stated = number(field, "checksum")
    total = sum(block) - sum(block[148:156]) + _BLANK_SUM
    if (
        total != stated
        and total - 256 * sum(1 for i, b in enumerate(block) if b > 127 and not 148 <= i < 156) != stated
    ):
        raise broken("a header's checksum is wrong")


def signed(field: bytes, what: str) -> int:
    """A number: octal, or in base 256 if the first bit is set."""
    if field[0] & 0x80:
        value = (
            int.from_bytes(field, "big", signed=True)
            if field[0] == 0xFF
            else int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
        )
        if abs(value) > MAX_SIZE:
            raise broken(f"the {what} of an entry is out of range")
        return value
    text = field.strip(b" \0")
    text = text.partition(b"\0")[0]
    if not text:
        return 0
    if text.strip(b"01234567"):
        raise broken(f"the {what} of an entry is {ascii(text)[1:]}, not an octal number")
    return int(text, 8)


def number(field: bytes, what: str) -> int:
    """A number of a header that cannot be negative. Raises: InvalidArgument."""
    value = signed(field, what)
    if value < 0:
        raise broken(f"the {what} of an entry is negative")
    return value


def decimal(text: bytes, what: str) -> int:
    """A number of a PAX record. Raises: InvalidArgument."""
    if not text.isdigit() or len(text) > 19 or int(text) > MAX_SIZE:
        raise broken(f"the {what} of an entry is {show(text)}, not a number of its range")
    return int(text)


def text_value(value: bytes, what: str) -> bytes:
    """A path of a PAX record. Raises: InvalidArgument."""
    if b"\0" in value:
        raise broken(f"the {what} of an entry has a zero byte in it")
    return value


def time_ns(value: bytes) -> int:
    """Seconds with any number of decimals, cut at nanoseconds, as an integer."""
    whole, _, fraction = value.partition(b".")
    sign = -1 if whole.startswith(b"-") else 1
    seconds = decimal(whole.removeprefix(b"-") or b"0", "mtime")
    if fraction and not fraction.isdigit():
        raise broken(f"the mtime of an entry is {show(value)}, not a number")
    return sign * (seconds * 1_000_000_000 + int((fraction[:9] + b"000000000")[:9]))


def parse_pax(text: bytes) -> list[tuple[bytes, bytes]]:
    """The records of a PAX header, in order. Raises: InvalidArgument."""
    records = []
    at = 0
    while at < len(text):
        space = text.find(b" ", at, at + 20)
        length = decimal(text[at:space], "length of a PAX record") if space > 0 else 0
        record = text[space + 1 : at + length]
        if at + length > len(text) or not record.endswith(b"\n") or b"=" not in record:
            raise broken("a PAX record is malformed")
        key, _, value = record[:-1].partition(b"=")
        if not key:
            raise broken("a PAX record has no key")
        records.append((key, value))
        at += length
    return records
