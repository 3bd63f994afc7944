"""What the control plane's documentation says of refusals, which every call can meet, beside what each call says of itself."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_SAID: Final = {"type": "string", "description": "what is wrong, and what is wanted"}
_PLACES: Final = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["loc", "msg", "type"],
        "properties": {
            "loc": {"type": "array", "items": {"type": ["string", "integer"]}, "description": "the field, outermost first"},
            "msg": {"type": "string"},
            "type": {"type": "string"},
        },
    },
}
PROBLEM: Final = {"type": "object", "required": ["detail"], "properties": {"detail": {"anyOf": [_SAID, _PLACES]}}}

_BODY: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}

REFUSALS: Final = {
    "400": "two keys in one request",
    "401": "no key, or one that is not known, was revoked or has expired",
    "403": "the key lacks the permission, or the request comes from a page of another site",
    "404": "there is nothing of this name",
    "413": "the body is too large",
    "421": "without keys the control plane answers only to a loopback address",
    "422": "a field is missing, wrong or not known",
    "429": "too many; try again later",
    "503": "the state or the audit log does not answer",
}
"""By status. One that only some calls can give is told of these alone: 404 where the path names something, 413 where there is a
body, 429 where the sender has a rate."""


def describe(app: FastAPI) -> None:
    """Have the documentation of ``app`` tell of refusals."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = PROBLEM
            for path, calls in schema["paths"].items():
                for method, call in calls.items():
                    if "health" not in call.get("tags", ()):
                        call["responses"] |= {status: _refusal(status) for status in _refusals(path, method)}
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI documents it


def _refusals(path: str, method: str) -> list[str]:
    absent = set()
    if "{" not in path and not path.endswith(("/rollback", "/feedback", "/retract")):
        absent.add("404")
    if method == "get":
        absent.add("413")
    rated = ("feedback", "session", "playground", "exemplars", "patterns/test", "retire")
    if not any(name in path for name in rated) and (method, path) != ("post", "/admin/v1/patterns"):
        absent.add("429")
    return [status for status in REFUSALS if status not in absent]


def _refusal(status: str) -> dict[str, Any]:
    return {"description": REFUSALS[status], "content": _BODY}
