"""Names in the query of a call of the control plane: one that the call does not know, or that stands there twice, is refused.

FastAPI lets such names pass. A filter with a slip in its name would then show everything, as if nothing else were there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from fastapi import HTTPException, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError

from gateway.records.decisions import is_id
from gateway.serving.credentials import QUERY_FIELD

CREDENTIAL: Final = QUERY_FIELD.decode()
"""What any call may have in its query: the key that opens it, where its client puts it there."""


def check_query(request: Request) -> None:
    """Refuse what the call that ``request`` is routed to takes no account of.

    Raises:
        RequestValidationError: a name is unknown, or given more than once; each is told.
    """
    known = sorted(set(_names(request.scope["route"].dependant)))
    wanted = f"wanted {', '.join(known)}" if known else "this call takes none"
    faults: list[dict[str, Any]] = []
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name != CREDENTIAL and name not in known:
            faults.append(_fault(name, f"there is no such field; {wanted}", "unknown_parameter"))
        elif count > 1:
            faults.append(_fault(name, f"it is given {count} times; wanted once", "repeated"))
    if faults:
        raise RequestValidationError(faults)


def checked_cursor(cursor: str | None) -> str | None:
    """Return ``cursor`` if a page may have given it: the id that it ended with.

    Raises:
        HTTPException: none did.
    """
    if cursor is not None and not is_id(cursor):
        raise HTTPException(422, "cursor: wanted the one that the page before gave")
    return cursor


def _fault(name: str, message: str, kind: str) -> dict[str, Any]:
    return {"loc": ("query", name), "msg": message, "type": kind}


def _names(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for one in dependant.dependencies:
        yield from _names(one)
