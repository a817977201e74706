"""The OpenAPI document of the control plane. Pure."""

from __future__ import annotations

from typing import Any

from .wire import MAX_COUNT, MAX_WAIT

Json = dict[str, Any]

_DESCRIPTION = """\
Configures, watches and resumes the failpoints of one running process.

Percent-encode the name in a path, including any `/`: the failpoint `a/wait` is at `/v1/failpoints/a%2Fwait`. One name
collides with the path of this document: the failpoint `openapi.json` is at `/v1/failpoints/openapi%2Ejson`.

Every error is `{"msg": "…"}`, for a person to read. Requests from web pages are refused, but for those of its own page
at `/`, and so are bodies larger than 1 MiB.
"""


def openapi_document(*, secured: bool) -> Json:
    """Return the OpenAPI 3.1 document. `secured` is whether the control plane requires a token."""
    named = "/v1/failpoints/{name}"
    configure = {"requestBody": _BODY}
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "failpoints", "version": "1", "description": _DESCRIPTION},
        "paths": {
            "/v1/failpoints": {
                "get": _operation(
                    "statuses",
                    "List everything that is configured, or also what is only declared",
                    _STATUSES,
                    errors=_STATUSES_ERRORS,
                    parameters=[_DECLARED],
                ),
                "put": _operation(
                    "configure", "Configure failpoints: all entries or, on any error, none", _NULL, **configure
                ),
                "post": _operation("configure_by_post", "Same as PUT", _NULL, **configure),
                "delete": _operation(
                    "reset", "Remove all configurations and wake all waiters", _NULL, errors=_RESET_ERRORS
                ),
            },
            "/v1/failpoints/openapi.json": {
                "get": _operation("openapi", "Return this document", _json("The document", {"type": "object"})),
            },
            named: {
                "parameters": [_NAME_IN_PATH, _HANDLE],
                "get": _operation("status", "Return the status of one failpoint", _STATUS, errors=_NAME_ERRORS),
                "delete": _operation(
                    "remove",
                    "Remove a failpoint, or one of its configurations, and wake the waiters",
                    _NULL,
                    errors=_NAME_ERRORS | {"413": _LARGE},
                ),
            },
            f"{named}/resume": {
                "parameters": [_NAME_IN_PATH, _HANDLE],
                "post": _operation(
                    "resume",
                    "Wake the present waiters; later visits wait again",
                    _RESUMED,
                    errors=_NAME_ERRORS
                    | _MEDIA_TYPE_ERRORS
                    | {"413": _error("The context is too much work, or a body is larger than 1 MiB")},
                    parameters=[_TASKS, _WAITER_CONTEXT],
                ),
            },
            f"{named}/wait": {
                "parameters": [_NAME_IN_PATH, _HANDLE],
                "get": _operation(
                    "wait",
                    "Wait until the failpoint has been hit, or has tasks paused at it",
                    _STATUS,
                    errors=_NAME_ERRORS | {"408": _json("The timeout expired first", _ref("TimedOut")), "413": _LARGE},
                    parameters=[_WAIT_QUERY],
                ),
            },
        },
        "components": {"schemas": _SCHEMAS},
    }
    for path in document["paths"].values():
        for method in path.keys() - {"parameters"}:
            path[method]["responses"] |= _REFUSALS_WITH_TOKEN if secured else _REFUSALS_WITHOUT_TOKEN
    if secured:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _operation(name: str, summary: str, answer: Json, *, errors: Json | None = None, **more: Any) -> Json:
    errors = _BODY_ERRORS if "requestBody" in more else errors or {}
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
_SCALAR: Json = {"type": ["string", "number", "boolean", "null"]}
_NAME: Json = {
    "type": "string",
    "format": "failpoint-name",
    "minLength": 1,
    "description": "Printable, without white space, '=', ';', '[' or ']'",
}
_CONTEXT: Json = {
    "type": "object",
    "description": "The context of a visit; values that JSON does not have are shown as text",
    "additionalProperties": _SCALAR,
}
_AT_LEAST_ONE: Json = {"type": "integer", "minimum": 1, "maximum": MAX_COUNT}
_TIMEOUT: Json = {
    "type": "number",
    "minimum": 0,
    "maximum": MAX_WAIT,
    "default": 10,
    "description": "In seconds; may have a decimal fraction or an exponent",
}

_HANDLE_TEXT: Json = {"type": "string", "minLength": 1, "maxLength": 100}
_MATCHERS: Json = {
    "type": "object",
    "description": "Conditions on the context of a visit, by key",
    "additionalProperties": {
        "anyOf": [
            {
                "type": "string",
                "format": "regex",
                "description": "Must match the whole text of the value, in linear time",
            },
            {"type": ["number", "boolean", "null"], "description": "Must equal the value"},
        ]
    },
}

_SCHEMAS: Json = {
    "Entry": _object(
        "One failpoint to configure",
        {
            "name": _NAME,
            "actions": {
                "type": "string",
                "format": "failpoint-actions",
                "description": "Terms joined by ->, each [percent%][count*]action[(argument)]",
                "examples": ["pause", "2*off->return(42)", "25%sleep(1.5s)"],
            },
            "context_matchers": _MATCHERS | {"type": ["object", "null"]},
            "handle": _HANDLE_TEXT
            | {
                "type": ["string", "null"],
                "description": "Names this configuration: ?handle= in other requests selects it. Once it is removed,"
                " what it replaced is in force again",
            },
        },
        "context_matchers",
        "handle",
    ),
    "Status": _object(
        "A snapshot of one failpoint; counts are sums over its configurations",
        {
            "name": _NAME,
            "actions": _TEXT | {"description": "The actions as configured"},
            "matchers": _CONTEXT | {"description": "Conditions on the context of a visit"},
            "hits": _COUNT | {"description": "Number of visits whose context matched"},
            "misses": _COUNT | {"description": "Number of visits whose context did not match"},
            "last_miss": {"anyOf": [_CONTEXT, {"type": "null"}]},
            "last_mismatch": {
                "type": ["string", "null"],
                "description": "Why the context of the last miss did not match",
            },
            "triggers": _COUNT | {"description": "Number of actions that ran"},
            "waiting": {
                "type": "array",
                "description": "Tasks and threads that are paused or sleeping there now",
                "items": _object(
                    "A task or a thread",
                    {"name": _TEXT, "context": _CONTEXT, "since": {"type": "string", "format": "date-time"}},
                ),
            },
            "sites": {"type": "array", "description": "Places in the code, each as file:line", "items": _TEXT},
            "configurations": {
                "type": "array",
                "description": "Each configuration of the failpoint, the newest first; empty in these themselves",
                "items": _ref("Status"),
            },
            "strays": {
                "type": "array",
                "description": "Visits in threads that the registry of this control plane does not reach",
                "items": _object(
                    "The visits in one thread",
                    {
                        "thread": _TEXT,
                        "context": _CONTEXT | {"description": "The context of the first of them"},
                        "count": _COUNT,
                        "since": {"type": "string", "format": "date-time"},
                    },
                ),
            },
        },
    ),
    "Error": _object("What is wrong, and what was expected", {"msg": _TEXT}),
    "TimedOut": _object("The status when the timeout expired", {"msg": _TEXT, "status": _ref("Status")}),
    "Resumed": _object("Number of tasks and threads that were woken", {"resumed": _COUNT}),
}

# requests

_BODY: Json = {
    "required": True,
    "content": {"application/json": {"schema": {"type": "array", "items": _ref("Entry")}}},
}
_NAME_IN_PATH: Json = {"name": "name", "in": "path", "required": True, "schema": _NAME}
_DECLARED: Json = {
    "name": "declared",
    "in": "query",
    "description": "With 1, each failpoint that an imported module declares is listed too, configured or not. One that"
    " is not configured has no actions, and its counts are zero",
    "schema": {"type": "integer", "enum": [0, 1], "default": 0},
}
_HANDLE: Json = {
    "name": "handle",
    "in": "query",
    "description": "Selects the configuration that was given this handle; all configurations if left out",
    "schema": _HANDLE_TEXT,
}
_TASKS: Json = {
    "name": "tasks",
    "in": "query",
    "description": "How many tasks and threads to wake at most, those that have waited longest; all if left out",
    "schema": _AT_LEAST_ONE,
}
_WAITER_CONTEXT: Json = {
    "name": "context",
    "in": "query",
    "description": "Matchers, as JSON: only visits that they match are woken",
    "content": {"application/json": {"schema": _MATCHERS}},
}
# A single object parameter, because separate parameters cannot express that hits and paused exclude each other.
_WAIT_QUERY: Json = {
    "name": "condition",
    "in": "query",
    "style": "form",
    "explode": True,
    "description": "Written as ?hits=1&timeout=10 or ?paused=1; the default is hits=1. Give each key at most once",
    "schema": {
        "type": "object",
        "oneOf": [
            _object("Wait for this number of hits", {"hits": _AT_LEAST_ONE, "timeout": _TIMEOUT}, "hits", "timeout"),
            _object(
                "Wait until this number of tasks is paused", {"paused": _AT_LEAST_ONE, "timeout": _TIMEOUT}, "timeout"
            ),
        ],
    },
}

# answers

_NULL = _json("Done", {"type": "null"})
_STATUS = _json("A snapshot of the failpoint", _ref("Status"))
_STATUSES_ERRORS: Json = {
    "400": _error("The query is invalid"),
    "413": _error("There are too many statuses for one answer"),
}
_STATUSES = _json("The failpoints, ordered by name", {"type": "array", "items": _ref("Status")})
_RESUMED = _json("The waiters were woken", _ref("Resumed"))
_LARGE = _error("The body is larger than 1 MiB, or configures more than one request may")
_MEDIA_TYPE_ERRORS: Json = {"415": _error("The body is not application/json, or has a Content-Encoding")}
_BODY_ERRORS: Json = {
    "400": _error("The body is not a JSON array of valid entries"),
    "409": _error("A handle is in use"),
    "413": _LARGE,
    **_MEDIA_TYPE_ERRORS,
}
_NAME_ERRORS: Json = {
    "400": _error("The name or the query is invalid, or there is a body that would be ignored"),
    "404": _error("The failpoint is not configured"),
}
_RESET_ERRORS: Json = {"400": _error("There is a body or a query"), "413": _LARGE}
_FAILED: Json = {"500": _error("The control plane failed; the log of the process has the traceback")}
_REFUSALS_WITHOUT_TOKEN: Json = {
    "403": _error("The request comes from a web page, through a proxy, or over a connection that is not loopback"),
    "421": _error("The Host header does not name this server"),
    **_FAILED,
}
_REFUSALS_WITH_TOKEN: Json = {
    "401": _error("The token is missing or wrong")
    | {"headers": {"WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}}},
    "403": _error("The request comes from a web page"),
    **_FAILED,
}
