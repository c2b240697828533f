"""The OpenAPI document of the service, made from the calls. Source: OpenAPI Specification 3.1."""

from __future__ import annotations

from corral import __version__
from corral.serve.calls import calls
from corral.serve.problems import STATUS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.serve.calls import Call, Parameter

__all__ = ["document"]

_JSON_TYPES = {
    "str": "string",
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "dict": "object",
    "list": "array",
    "None": "null",
}
# Path, what it is, and its query parameters.
_READS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("/v1/containers", "the containers of the store", {"all": "boolean", "filter": "string"}),
    ("/v1/containers/{id}", "all about one container", {"effective": "boolean", "size": "boolean"}),
    (
        "/v1/containers/{id}/logs",
        "what it wrote, one JSON line an entry",
        {"follow": "boolean", "tail": "integer", "since_ns": "integer"},
    ),
    ("/v1/containers/{id}/wait", "its end, when it has come", {"timeout_s": "number"}),
    ("/v1/events", "events, one JSON line each, for ever with follow", {"after": "integer", "follow": "boolean"}),
    ("/v1/stats", "samples of all that live, one JSON line each round", {"interval_s": "number", "follow": "boolean"}),
    ("/v1/info", "the host and the store", {}),
    ("/metrics", "metrics in Prometheus' text format", {}),
    ("/healthz", "200 while the service answers", {}),
    ("/readyz", "200 while it takes calls, 503 once it is about to end", {}),
)


def document() -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, Any] = {f"/v1/{verb}": {"post": _operation(call)} for verb, call in calls().items()}
    for path, summary, query in _READS:
        parameters = [
            {"name": name, "in": "query", "required": False, "schema": {"type": kind}} for name, kind in query.items()
        ]
        if "{id}" in path:
            parameters.insert(0, {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}})
        read = {"summary": summary, "parameters": parameters, "responses": _responses()}
        paths[path] = {"get": read}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Corral", "version": __version__, "description": "Containers that cannot get lost."},
        "paths": paths,
        "components": {"schemas": {"Error": _error_schema()}},
    }


def _operation(call: Call) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _schema(parameter) for name, parameter in call.parameters.items()},
        "additionalProperties": False,
    }
    required = [name for name, parameter in call.parameters.items() if parameter.is_required]
    if required:
        schema["required"] = required
    return {
        "operationId": call.verb,
        "summary": call.summary,
        "description": call.text,
        "requestBody": {"content": {"application/json": {"schema": schema}}},
        "responses": _responses(),
    }


def _schema(parameter: Parameter) -> dict[str, Any]:
    kinds = [_JSON_TYPES[kind] for kind in parameter.kinds]
    found: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if parameter.items:
        found["items"] = {"type": _JSON_TYPES[parameter.items]}
    if not parameter.is_required:
        found["default"] = parameter.default
    return found


def _responses() -> dict[str, Any]:
    error = {"$ref": "#/components/schemas/Error"}
    return {
        "200": {"description": "done", "content": {"application/json": {}}},
        "default": {"description": "not done", "content": {"application/json": {"schema": error}}},
    }


def _error_schema() -> dict[str, Any]:
    texts = ("message", "hint", "pointer", "path", "phase")
    inner = {
        "type": "object",
        "required": ["kind", "message"],
        "properties": {
            "kind": {"enum": sorted(STATUS)},
            **{name: {"type": "string"} for name in texts},
            "errno": {"type": "integer"},
        },
    }
    return {"type": "object", "required": ["error"], "properties": {"error": inner}}
