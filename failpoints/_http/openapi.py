"""The OpenAPI document of the control plane. Pure."""

from __future__ import annotations

from typing import Any

from .wire import LONGEST_WAIT, MOST

Json = dict[str, Any]

_DESCRIPTION = """\
Configures, watches and resumes the failpoints of one running process.

A name in a path is percent-encoded, and is taken as it was sent: the failpoint `a/wait` is at
`/v1/failpoints/a%2Fwait`. The path of this document hides one name: the failpoint `openapi.json` is at
`/v1/failpoints/openapi%2Ejson`.

Every error is `{"msg": "…"}`, for a person to read. Requests that a web page makes are refused, and none may be larger
than 1 MiB.
"""


def openapi_document(*, secured: bool) -> Json:
    """What the control plane answers to, in OpenAPI 3.1; `secured` is whether it asks for a token."""
    named = "/v1/failpoints/{name}"
    configure = {"requestBody": _BODY}
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "failpoints", "version": "1", "description": _DESCRIPTION},
        "paths": {
            "/v1/failpoints": {
                "get": _operation("statuses", "To see everything that is configured", _STATUSES),
                "put": _operation("configure", "To configure: all entries or, on any error, none", _NULL, **configure),
                "post": _operation("configure_by_post", "Does what PUT does", _NULL, **configure),
                "delete": _operation("reset", "To remove everything, waking everyone who waits", _NULL),
            },
            "/v1/failpoints/openapi.json": {
                "get": _operation("openapi", "To read this document", _json("The document", {"type": "object"})),
            },
            named: {
                "parameters": [_NAME_IN_PATH],
                "get": _operation("status", "To see one failpoint", _STATUS, errors=_OF_NAMES),
                "delete": _operation("remove", "To remove one, waking who waits there", _NULL, errors=_OF_NAMES),
            },
            f"{named}/resume": {
                "parameters": [_NAME_IN_PATH],
                "post": _operation(
                    "resume", "To wake who waits, and hold the next ones", _RESUMED, errors=_OF_NAMES | _OF_TYPE
                ),
            },
            f"{named}/wait": {
                "parameters": [_NAME_IN_PATH],
                "get": _operation(
                    "wait",
                    "To be answered once it has been hit so often, or so many wait at it now",
                    _STATUS,
                    errors=_OF_NAMES | {"408": _json("It did not come to it in time", _ref("TimedOut")), "413": _LARGE},
                    parameters=[_ASKED],
                ),
            },
        },
        "components": {"schemas": _SCHEMAS},
    }
    for path in document["paths"].values():
        for method in path.keys() - {"parameters"}:
            path[method]["responses"] |= _REFUSED_WITH_A_TOKEN if secured else _REFUSED_WITHOUT
    if secured:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _operation(name: str, summary: str, answer: Json, *, errors: Json | None = None, **more: Any) -> Json:
    errors = _OF_BODIES if "requestBody" in more else errors or {}
    return {"operationId": name, "summary": summary, **more, "responses": {"200": answer, **errors}}


def _json(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}


def _error(description: str) -> Json:
    return _json(description, _ref("Error"))


def _object(description: str, properties: Json, *optional: str) -> Json:
    required = [key for key in properties if key not in optional]
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


# schemas

_COUNT: Json = {"type": "integer", "minimum": 0}
_TEXT: Json = {"type": "string"}
_PLAIN: Json = {"type": ["string", "number", "boolean", "null"]}
_NAME: Json = {
    "type": "string",
    "format": "failpoint-name",
    "minLength": 1,
    "description": "Printable, without white space, '=' or ';'",
}
_CONTEXT: Json = {
    "type": "object",
    "description": "What a site said about itself; what JSON has not is shown as text",
    "additionalProperties": _PLAIN,
}
_AT_LEAST_ONE: Json = {"type": "integer", "minimum": 1, "maximum": MOST}
_TIMEOUT: Json = {
    "type": "number",
    "minimum": 0,
    "maximum": LONGEST_WAIT,
    "default": 10,
    "description": "In seconds; a decimal fraction, or an exponent, is fine",
}

_SCHEMAS: Json = {
    "Entry": _object(
        "What to configure",
        {
            "name": _NAME,
            "actions": {
                "type": "string",
                "format": "failpoint-actions",
                "description": "Terms joined by ->, each [percent%][count*]action[(argument)]",
                "examples": ["pause", "2*off->return(42)", "25%sleep(1.5s)"],
            },
            "context_matchers": {
                "type": ["object", "null"],
                "description": "What the context of a visit must hold, key by key",
                "additionalProperties": {
                    "anyOf": [
                        {"type": "string", "format": "regex", "description": "Matches the whole text of the value"},
                        {"type": ["number", "boolean", "null"], "description": "Is equal to the value"},
                    ]
                },
            },
        },
        "context_matchers",
    ),
    "Status": _object(
        "One failpoint at one moment; counts are since it was configured",
        {
            "name": _NAME,
            "actions": _TEXT | {"description": "As they were configured"},
            "matchers": _CONTEXT | {"description": "What the context of a visit must hold"},
            "hits": _COUNT | {"description": "How often a site was reached with a context that matched"},
            "misses": _COUNT | {"description": "How often with one that did not"},
            "last_miss": {"anyOf": [_CONTEXT, {"type": "null"}]},
            "last_mismatch": {"type": ["string", "null"], "description": "Why the last miss was one"},
            "triggers": _COUNT | {"description": "How often an action ran"},
            "waiting": {
                "type": "array",
                "description": "Who waits there now",
                "items": _object(
                    "A task or a thread",
                    {"name": _TEXT, "context": _CONTEXT, "since": {"type": "string", "format": "date-time"}},
                ),
            },
            "sites": {"type": "array", "description": "The places in the code, each file:line", "items": _TEXT},
        },
    ),
    "Error": _object("What is wrong, and what was expected", {"msg": _TEXT}),
    "TimedOut": _object("What is known of it", {"msg": _TEXT, "status": _ref("Status")}),
    "Resumed": _object("How many went on", {"resumed": _COUNT}),
}

# requests

_BODY: Json = {
    "required": True,
    "content": {"application/json": {"schema": {"type": "array", "items": _ref("Entry")}}},
}
_NAME_IN_PATH: Json = {"name": "name", "in": "path", "required": True, "schema": _NAME}
# One parameter of several keys: that hits and paused exclude each other cannot be said of two.
_ASKED: Json = {
    "name": "asked",
    "in": "query",
    "style": "form",
    "explode": True,
    "description": "Written as ?hits=1&timeout=10, or ?paused=1; nothing is hits=1. Each is given once at most",
    "schema": {
        "type": "object",
        "oneOf": [
            _object("So many hits", {"hits": _AT_LEAST_ONE, "timeout": _TIMEOUT}, "hits", "timeout"),
            _object("So many who wait now", {"paused": _AT_LEAST_ONE, "timeout": _TIMEOUT}, "timeout"),
        ],
    },
}

# answers

_NULL = _json("Done", {"type": "null"})
_STATUS = _json("The failpoint at this moment", _ref("Status"))
_STATUSES = _json("What is configured, by name", {"type": "array", "items": _ref("Status")})
_RESUMED = _json("Who waited goes on", _ref("Resumed"))
_LARGE = _error("The body is larger than 1 MiB")
_OF_TYPE: Json = {"415": _error("The body is not application/json, or is encoded")}
_OF_BODIES: Json = {"400": _error("The body is no JSON, or no list of entries"), "413": _LARGE, **_OF_TYPE}
_OF_NAMES: Json = {
    "400": _error("The name, or the query, cannot be one"),
    "404": _error("Nothing is configured under this name"),
}
_FAILED: Json = {"500": _error("The control plane failed; the log of the process says why")}
_REFUSED_WITHOUT: Json = {
    "403": _error("A web page asks, or an end of the connection is not loopback, or a proxy is between"),
    "421": _error("The Host is not this server"),
    **_FAILED,
}
_REFUSED_WITH_A_TOKEN: Json = {
    "401": _error("The token is missing, or another")
    | {"headers": {"WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}}},
    "403": _error("A web page asks"),
    **_FAILED,
}
