"""The verbs as calls over HTTP: which there are, what they take, and a check of what a client sends.

Made from the engine's table and the functions' own signatures, so that a verb is described once. What cannot travel
as JSON (descriptors, callables, iterators) is not offered here; ``streams`` has the forms of those that flow.
"""

from __future__ import annotations

import inspect

from corral.engine.verbs import VERBS, find
from corral.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Call", "calls", "find_call"]

# Verbs that hand over descriptors or iterate; they have streams, or work on the client's side.
_LOCAL = frozenset({"cp", "cp_from_tar", "cp_to_tar", "exec", "export", "logs", "due"})
_SECONDS_MAX = 1e9
_CALLABLES = frozenset({"before_release", "attach", "is_wanted"})
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "dict": (dict,),
    "list": (list,),
}


class Parameter:
    """One named value that a call takes. ``kinds``: the names of its JSON types; ``items``: of a list's items."""

    __slots__ = ("default", "is_required", "items", "kinds", "name")

    def __init__(self, parameter: inspect.Parameter) -> None:
        self.name = parameter.name
        self.is_required = parameter.default is inspect.Parameter.empty
        self.default = None if self.is_required else parameter.default
        words = [word.strip() for word in str(parameter.annotation).strip("'\"").split("|")]
        self.kinds = tuple(word.partition("[")[0] for word in words)
        lists = [word for word in words if word.startswith("list[")]
        self.items = lists[0][5:-1] if lists else ""

    def check(self, verb: str, value: object) -> None:
        """Raises: InvalidArgument."""
        for kind in self.kinds:
            if kind == "None" and value is None:
                return
            # In JSON true is no number, as in Python it is.
            if isinstance(value, _TYPES.get(kind, ())) and (kind == "bool" or not isinstance(value, bool)):
                if kind == "float" and not self._is_time(value):
                    raise InvalidArgument(
                        f"call {verb}: {self.name!r} is no number of seconds", hint=f"at most {_SECONDS_MAX:g}"
                    )
                if kind == "list" and not all(isinstance(item, _TYPES[self.items]) for item in value):  # type: ignore[attr-defined]
                    break
                return
        wanted = " or ".join(f"{kind} of {self.items}" if kind == "list" else kind for kind in self.kinds)
        raise InvalidArgument(f"call {verb}: {self.name!r} is {type(value).__name__}", hint=f"it has to be {wanted}")

    @staticmethod
    def _is_time(value: object) -> bool:
        # What is more than that, or not a number at all as NaN is, no clock can add.
        return isinstance(value, int | float) and abs(value) <= _SECONDS_MAX


class Call:
    """One verb: ``function``, its parameters by name in order, and the first line of what it says of itself."""

    __slots__ = ("function", "parameters", "summary", "text", "verb")

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.function: Callable[..., Any] = find(verb)
        signature = inspect.signature(self.function)
        self.parameters = {
            name: Parameter(parameter)
            for name, parameter in list(signature.parameters.items())[1:]
            if name not in _CALLABLES
        }
        self.text = inspect.getdoc(self.function) or ""
        self.summary = self.text.partition("\n")[0]

    def arguments(self, body: object) -> dict[str, Any]:
        """The keyword arguments from a request's body: an object of names, or ``args`` for the first ones by position.

        Raises: InvalidArgument.
        """
        if not isinstance(body, dict):
            raise InvalidArgument(f"call {self.verb}: the body is no JSON object")
        given = dict(body)
        positional = given.pop("args", [])
        if not isinstance(positional, list) or len(positional) > len(self.parameters):
            raise InvalidArgument(f"call {self.verb}: 'args' is no list of at most {len(self.parameters)} values")
        for name, value in zip(self.parameters, positional, strict=False):
            if name in given:
                raise InvalidArgument(f"call {self.verb}: {name!r} is given twice")
            given[name] = value
        for name, value in given.items():
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise InvalidArgument(f"call {self.verb}: no parameter {name!r}", hint=f"it takes {known}")
            self.parameters[name].check(self.verb, value)
        missing = [name for name, parameter in self.parameters.items() if parameter.is_required and name not in given]
        if missing:
            raise InvalidArgument(f"call {self.verb}: {missing[0]!r} is missing")
        return given


_calls: dict[str, Call] = {}


def calls() -> dict[str, Call]:
    """All calls by verb. Imports every verb, so that no request waits for it."""
    if not _calls:
        _calls.update({verb: Call(verb) for verb in VERBS if verb not in _LOCAL})
    return _calls


def find_call(verb: str) -> Call:
    """The call of a verb. Raises: NotFound."""
    try:
        return calls()[verb]
    except KeyError:
        raise NotFound(f"call {verb!r}: no such verb", hint="/openapi.json lists them") from None
