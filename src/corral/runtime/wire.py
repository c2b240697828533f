"""The bytes of a plan, and back. The layout is that of native/executor/plan.h, all numbers little endian."""

from __future__ import annotations

import _struct as struct

from corral.errors import InvalidArgument
from corral.runtime.plan import Plan
from corral.runtime.steps import STEPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.runtime.plan import Argument

MAGIC = 0x504C5243
VERSION = 1
_HEADER = struct.Struct("<IHHIIII")
_STEP = struct.Struct("<HBBI")
_U64 = (1 << 64) - 1
# As in native/executor/plan.h.
MAX_STEPS = 4096
MAX_BYTES = 16 << 20


class _Data:
    """The data area: chunks, each ended by a NUL. ``texts``: string -> its word, offset and length in one.

    Each distinct string is stored once. The first chunk is the empty one.
    """

    __slots__ = ("chunks", "length", "texts")

    def __init__(self) -> None:
        self.chunks: list[bytes] = [b""]
        self.texts: dict[str, int] = {"": 0}
        self.length = 1

    def put(self, value: bytes) -> int:
        """The word for a blob."""
        if not value:
            return 0
        offset = self.length
        self.chunks.append(value)
        self.length = offset + len(value) + 1
        return offset | len(value) << 32

    def put_text(self, text: str, what: str) -> int:
        """The word for a string that is not stored yet."""
        word = self.texts[text] = self.put(_bytes(text, what))
        return word


def _bytes(text: str, what: str) -> bytes:
    value = text.encode("utf-8", "surrogateescape")
    if b"\0" in value:
        raise InvalidArgument(f"encode {what}: {text!r} holds a NUL character")
    return value


def _put_other(data: _Data, kind: str, value: str | bytes | Sequence[str], op: str) -> int:
    """The word for a vector or a blob."""
    if kind == "v":
        assert not isinstance(value, bytes)
        return data.put(b"".join(_bytes(item, op) + b"\0" for item in value))
    return data.put(value if isinstance(value, bytes) else b"")


def encode(plan: Plan) -> bytes:
    """The plan as the executor reads it. Raises: InvalidArgument for a NUL character, or more than it takes."""
    if len(plan.steps) > MAX_STEPS:
        raise InvalidArgument(
            f"encode the plan: it has {len(plan.steps)} steps, the executor takes at most {MAX_STEPS}",
            hint="ask for fewer mounts, devices, masked paths or hooks",
        )
    data = _Data()
    # A step's head has the size of an argument, so all steps together are one row of 64-bit words.
    words: list[int] = []
    append, texts, put_text = words.append, data.texts, data.put_text
    for step in plan.steps:
        op = step.op
        number, signature, _ = STEPS[op]
        word = texts.get(step.pointer)
        pointer = put_text(step.pointer, "pointer") if word is None else word
        append(number | step.actor << 16 | step.flags << 24 | (pointer & 0xFFFFFFFF) << 32)
        for kind, value in zip(signature, step.args, strict=True):
            if isinstance(value, int):
                append(value & _U64)
            elif kind == "s" and isinstance(value, str):
                word = texts.get(value)
                append(put_text(value, op) if word is None else word)
            else:
                append(_put_other(data, kind, value, op))
    steps = struct.pack(f"<{len(words)}Q", *words)
    header = _HEADER.pack(
        MAGIC, VERSION, 0, _HEADER.size + len(steps) + data.length, len(plan.steps), len(steps), data.length
    )
    encoded = header + steps + b"\0".join(data.chunks) + b"\0"
    if len(encoded) > MAX_BYTES:
        raise InvalidArgument(f"encode the plan: it has {len(encoded)} bytes, the executor takes at most {MAX_BYTES}")
    return encoded


def decode(raw: bytes) -> Plan:
    """The plan back from its bytes (for ``explain`` and tests; integers come back unsigned).

    Raises: InvalidArgument when the bytes are not a plan of this version.
    """
    from struct import error

    try:
        return _decode(raw)
    except (error, IndexError, KeyError, ValueError) as exc:
        raise InvalidArgument("decode plan: it is damaged, or was written by another version") from exc


def _decode(raw: bytes) -> Plan:
    magic, version, _, total, n_steps, steps_len, data_len = _HEADER.unpack_from(raw)
    if magic != MAGIC or version != VERSION or total != len(raw) or _HEADER.size + steps_len + data_len != total:
        raise ValueError("header")
    names = {number: name for name, (number, _, _) in STEPS.items()}
    data = raw[_HEADER.size + steps_len :]
    at = _HEADER.size
    plan = Plan()
    for _ in range(n_steps):
        number, actor, flags, pointer = _STEP.unpack_from(raw, at)
        op = names[number]
        signature = STEPS[op][1]
        at += _STEP.size
        words = struct.unpack_from(f"<{len(signature)}Q", raw, at)
        at += 8 * len(signature)
        args = tuple(_value(data, kind, word) for kind, word in zip(signature, words, strict=True))
        plan.add(actor, op, *args, pointer=_text(data[pointer : data.index(b"\0", pointer)]), flags=flags)
    return plan


def _value(data: bytes, kind: str, word: int) -> Argument:
    if kind == "i":
        return word
    offset, length = word & 0xFFFFFFFF, word >> 32
    raw = data[offset : offset + length]
    if len(raw) != length:
        raise ValueError("argument")
    if kind == "b":
        return raw
    if kind == "s":
        return _text(raw)
    return tuple(_text(item) for item in raw.split(b"\0")[:-1])


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
