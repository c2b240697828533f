"""JSON text to values and back, cheaply enough for the cold path.

Owns the two directions, ``loads`` and ``dumps``, on the C scanner and encoder inside CPython. Importing the standard
``json`` package costs about as much CPU as the rest of a cold ``create`` (it pulls in ``re``), hence the private
module; where that is missing or has changed, the standard package does the same work. Knows nothing of OCI.

Source: RFC 8259; runtime-spec config.md (the configuration is UTF-8 JSON).
"""

from __future__ import annotations

from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    Scanner = Callable[[str, int], tuple[object, int]]
    Encoder = Callable[[object], str]

_WHITESPACE = " \t\n\r"
_FIX_HINT = "the file must hold exactly one JSON value, encoded as UTF-8"


class _UnknownConstant(ValueError):
    """NaN, Infinity or -Infinity, which Python's scanner would take and JSON does not know."""


def loads(data: bytes, name: str = "json") -> object:
    """Parse one JSON document, called ``name`` in messages: its path, if it is a file.

    Of duplicate keys the last one counts, as in Go. Whole numbers of any size become ``int``.

    Raises: InvalidArgument, whose message names line, column (both from 1, counted in characters) and cause, for
    anything that is not exactly one JSON value in UTF-8: a byte order mark, NaN, trailing data, half a surrogate pair,
    nesting deeper than the interpreter's stack.
    """
    if data[:3] == b"\xef\xbb\xbf":
        raise InvalidArgument(f"parse {name}: line 1 column 1: byte order mark", hint="save the file without a BOM")
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError as exc:
        before = str(data[: exc.start], "utf-8")
        _refuse(before, len(before), f"invalid UTF-8 ({exc.reason})", name, exc)
    start = len(text) - len(text.lstrip(_WHITESPACE))
    try:
        value, end = _scan_or_explain(text, start)
    except StopIteration as exc:
        # The scanner stops at the first character that begins no value, or at the end of the text.
        at = exc.value if isinstance(exc.value, int) else start
        _refuse(text, at, "value expected" if at < len(text) else "unexpected end of data", name, exc)
    except RecursionError as exc:
        raise InvalidArgument(f"parse {name}: nested too deeply", hint="no OCI document nests this deeply") from exc
    except _UnknownConstant as exc:
        _refuse(text, _find_constant(text, str(exc)), f"{exc} is not JSON", name, exc)
    except ValueError as exc:
        # A JSONDecodeError carries its position. Any other ValueError is Python's limit on the digits of a number.
        message = str(getattr(exc, "msg", "number too long"))
        at = getattr(exc, "pos", start)
        message = message.removesuffix(" at").removesuffix(" starting")
        _refuse(text, at, message[:1].lower() + message[1:], name, exc)
    rest = text[end:]
    if rest.strip(_WHITESPACE):
        _refuse(text, len(text) - len(rest.lstrip(_WHITESPACE)), "trailing data after the value", name)
    if "\\ud" in text or "\\uD" in text:
        _refuse_lone_surrogates(text, name)
    return value


def _scan_or_explain(text: str, start: int) -> tuple[object, int]:
    try:
        return _scan(text, start)
    except SystemError:
        # The C scanner takes its exception from json.decoder, and up to 3.11 only if somebody imported that already.
        import json.decoder  # noqa: F401 -- for its effect on sys.modules

        return _scan(text, start)


def dumps(obj: object, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """Render ``obj`` as ASCII JSON, on one line without spaces, or indented by ``indent`` spaces a level.

    Raises: ValueError for NaN and infinities, TypeError for what JSON cannot say, RecursionError for cycles.
    """
    encode = _encode_sorted if sort_keys else _encode
    if indent is None:
        return encode(obj)
    parts: list[str] = []
    _write_indented(obj, "\n", " " * indent, sort_keys, parts)
    return "".join(parts)


def _write_indented(value: object, newline: str, step: str, sort_keys: bool, parts: list[str]) -> None:
    # The C encoder knows no indentation; containers are laid out here and leaves are left to it.
    inner = newline + step
    if isinstance(value, dict) and value:
        separator = "{" + inner
        for key, member in sorted(value.items()) if sort_keys else value.items():
            # Encoding {key: 0} makes the encoder turn the key into a string the way it always does.
            parts.append(separator + _encode({key: 0})[1:-2] + " ")
            _write_indented(member, inner, step, sort_keys, parts)
            separator = "," + inner
        parts.append(newline + "}")
    elif isinstance(value, (list, tuple)) and value:
        separator = "[" + inner
        for item in value:
            parts.append(separator)
            _write_indented(item, inner, step, sort_keys, parts)
            separator = "," + inner
        parts.append(newline + "]")
    else:
        parts.append(_encode(value))


def _refuse(text: str, at: int, cause: str, name: str, exc: Exception | None = None) -> NoReturn:
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    raise InvalidArgument(f"parse {name}: line {line} column {column}: {cause}", hint=_FIX_HINT) from exc


def _find_constant(text: str, name: str) -> int:
    """Where the bare word ``name`` stands outside of strings (error path only)."""
    at = 0
    while at < len(text):
        if text[at] == '"':
            at = _end_of_string(text, at)
        elif text.startswith(name, at):
            return at
        else:
            at += 1
    return 0


def _end_of_string(text: str, at: int) -> int:
    at += 1
    while at < len(text) and text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return at + 1


def _refuse_lone_surrogates(text: str, name: str) -> None:
    # Half a pair cannot be encoded as UTF-8, so it could never reach the kernel: say where it stands.
    at = text.find("\\")
    while at >= 0:
        if text[at + 1] != "u":
            at = text.find("\\", at + 2)
            continue
        code = int(text[at + 2 : at + 6], 16)
        if 0xD800 <= code < 0xDC00 and text[at + 6 : at + 8] == "\\u" and 0xDC00 <= _hex(text, at + 8) < 0xE000:
            at = text.find("\\", at + 12)
            continue
        if 0xD800 <= code < 0xE000:
            _refuse(text, at, f"half a surrogate pair ({text[at : at + 6]})", name)
        at = text.find("\\", at + 6)


def _hex(text: str, at: int) -> int:
    return int(text[at : at + 4], 16)


def _parse_constant(name: str) -> NoReturn:
    raise _UnknownConstant(name)


class _ScannerContext:
    """What CPython's ``make_scanner`` reads its settings from."""

    __slots__ = ("memo", "object_hook", "object_pairs_hook", "parse_constant", "parse_float", "parse_int", "strict")

    def __init__(self) -> None:
        self.strict = True
        self.object_hook = None
        self.object_pairs_hook = None
        self.parse_float = float
        self.parse_int = int
        self.parse_constant = _parse_constant
        self.memo: dict[str, str] = {}


def _fast_scanner() -> Scanner:
    """The C scanner. Raises ImportError, AttributeError or TypeError where CPython has none like it."""
    import _json

    scan: Scanner = _json.make_scanner(_ScannerContext())  # type: ignore[arg-type]
    return scan


def _fast_encoder(sort_keys: bool) -> Encoder:
    """The C encoder, compact, ASCII, without NaN. Raises as ``_fast_scanner`` does."""
    import _json

    def refuse(value: object) -> NoReturn:
        raise TypeError(f"{type(value).__name__} is not a JSON value")

    make = _json.make_encoder
    # markers, default, encoder, indent, key separator, item separator, sort_keys, skipkeys, allow_nan
    chunks = make(None, refuse, _json.encode_basestring_ascii, None, ":", ",", sort_keys, False, False)

    def encode(value: object) -> str:
        return "".join(chunks(value, 0))

    return encode


def _slow_scanner() -> Scanner:
    import json

    decoder = json.JSONDecoder(parse_constant=_parse_constant)
    scan: Scanner = decoder.scan_once  # type: ignore[attr-defined]
    return scan


def _slow_encoder(sort_keys: bool) -> Encoder:
    import json

    encoder = json.JSONEncoder(allow_nan=False, separators=(",", ":"), sort_keys=sort_keys, check_circular=False)
    return encoder.encode


def _make_codec() -> tuple[Scanner, Encoder, Encoder]:
    """The fast pair if this interpreter has it and it works, else the standard package's."""
    try:
        codec = (_fast_scanner(), _fast_encoder(False), _fast_encoder(True))
        probe: object = codec[0]('{"a":[1,null]}', 0)
        if probe == ({"a": [1, None]}, 14) and codec[1]({"a": [1, None]}) == '{"a":[1,null]}':
            return codec
    except (ImportError, AttributeError, TypeError):
        pass  # a private interface: it may go away, and then the public one serves
    return _slow_scanner(), _slow_encoder(False), _slow_encoder(True)


_scan, _encode, _encode_sorted = _make_codec()
