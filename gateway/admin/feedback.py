"""Labels: what people and applications say of decisions and texts."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway.admin.access import require, require_all
from gateway.admin.audit import detail
from gateway.admin.queries import checked_cursor
from gateway.keys import EVERY_TENANT, Permission, Principal, role_of
from gateway.learning.intake import Given
from gateway.learning.retraction import retract
from gateway.learning.values import MAX_NOTE, MAX_TEXT, Refused
from gateway.services import Services

HEARD_SECONDS: Final = 1.0
"""How long the answer to one label waits until it is part of its case, so that who asks next sees it."""

MAX_BULK_BYTES: Final = 32 * 2**20
"""Bytes of one bulk upload; a larger file is sent in parts."""

MAX_BULK: Final = 20_000
"""Labels of one bulk upload."""

BULK_SECONDS: Final = 20.0
"""How long one bulk upload may be read: whoever sent it waits for the answer, a minute as a rule."""

AT_A_TIME: Final = 100
"""Rows of a bulk upload between two turns of the event loop: those that are refused take no turn by themselves."""

MAX_FAULTS: Final = 100
"""Faults told of one bulk upload; the rest are counted."""


Row = dict[str, Any]


class FeedbackIn(BaseModel):
    """One label. ``decision_id`` or ``text``, or both where retention did not keep the decision's text."""

    model_config = ConfigDict(extra="forbid")

    label: Literal["attack", "benign"]
    decision_id: str = Field("", max_length=64)
    text: str = Field("", max_length=MAX_TEXT)
    category: str = Field("", max_length=100, description="`category.subcategory`")
    note: str = Field("", max_length=MAX_NOTE)
    origin: str = Field("user", max_length=40, description="who said it, where there is no decision to tell")


class Retraction(BaseModel):
    """Whose words are taken back, from when on, and why."""

    model_config = ConfigDict(extra="forbid")

    by: str = Field(min_length=1, max_length=64, description="as labels name him: a key's id, or `@` and its owner")
    since: float = Field(0.0, ge=0, allow_inf_nan=False, description="UNIX seconds")
    reason: str = Field(min_length=1, max_length=MAX_NOTE)


def routes(app: FastAPI, services: Services) -> None:
    labeller = Depends(require(services, Permission.LABEL))
    reader = Depends(require(services, Permission.READ_DECISIONS))
    keeper = Depends(require_all(services, Permission.MANAGE_KEYS))
    caller = Depends(require(services, Permission.DATA_PLANE))

    @app.post("/admin/v1/feedback", tags=["feedback"], status_code=202)
    async def label(given: FeedbackIn, principal: Principal = labeller) -> dict[str, str]:
        """Say that a decision, or a text, was an attack or harmless. Saying it again changes nothing."""
        return {"id": await take(services, principal, given)}

    @app.post("/v1/feedback", tags=["feedback"], status_code=202)
    async def label_from_app(given: FeedbackIn, principal: Principal = caller) -> dict[str, str]:
        """The same from an application, whose word weighs a fifth of an analyst's."""
        return {"id": await take(services, principal, given)}

    @app.post("/admin/v1/feedback/bulk", tags=["feedback"], status_code=202)
    async def label_many(request: Request, principal: Principal = labeller) -> dict[str, Any]:
        """Many labels: JSON lines, or CSV with a header (``content-type: text/csv``), with the fields of one label.

        What is wrong is told by line; the rest is taken, up to the line that ``next`` names, if it does: there to go on with
        another upload, after ``wait`` seconds.
        """
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BULK_BYTES:
                raise HTTPException(413, f"the upload: at most {MAX_BULK_BYTES} bytes; send it in parts")
        is_csv = request.headers.get("content-type", "").startswith("text/csv")
        rows = _csv(bytes(body)) if is_csv else _lines(bytes(body))
        ids: list[str] = []
        faults: list[dict[str, Any]] = []
        wrong, ends = 0, time.monotonic() + BULK_SECONDS
        for count, (number, row) in enumerate(rows):
            if count == MAX_BULK or time.monotonic() > ends:
                return _taken(ids, wrong, faults, number, 0)
            if not count % AT_A_TIME:
                await asyncio.sleep(0)
            if row is None:
                continue
            try:
                if isinstance(row, str):
                    raise Refused(422, row)
                given = Given(**_fields(row))
                ids.append(await services.learning.intake.take(principal, role_of(principal), given, time.time()))
            except Refused as error:
                if error.wait:
                    return _taken(ids, wrong, faults, number, error.wait)
                wrong += 1
                if len(faults) < MAX_FAULTS:
                    faults.append({"line": number, "error": str(error)})
        return _taken(ids, wrong, faults, None, 0)

    @app.post("/admin/v1/feedback/retract", tags=["feedback"], dependencies=[keeper])
    async def take_back(wanted: Retraction, request: Request) -> dict[str, Any]:
        """Take back all that somebody said, as when his key was stolen: revoke it first. ``withdrawn`` names proposals that go
        with it, ``standing`` those that are watched or act by his words, too: reject them, or let them be."""
        book = services.learning.book
        done = await retract(book, wanted.by, wanted.since, time.time())
        if not any(done):
            why = f"by: {wanted.by} said nothing since then; labels name people by a key's id, or by @ and its owner"
            raise HTTPException(404, why)
        detail(request, by=wanted.by, since=wanted.since, reason=wanted.reason, labels=done.labels)
        return done._asdict()

    @app.get("/admin/v1/feedback", tags=["feedback"])
    async def list_labels(
        principal: Principal = reader,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    ) -> dict[str, Any]:
        """Labels, newest first, each with what became of its case. A key of one tenant sees those that its own keys gave, and a
        page of them may hold fewer than ``limit``."""
        book = services.learning.book
        found = await book.labels(limit, checked_cursor(cursor))
        more = len(found) == limit and await book.labels(1, found[-1].id)
        keys = await services.state.keys()
        own = {key.person for key in keys} - {key.person for key in keys if not principal.sees(key.tenant)}
        shown = []
        for one in found:
            if one.by not in own and not principal.sees(EVERY_TENANT):
                continue
            case = await book.case(one.case)
            if case is not None and not principal.sees(case.trajectory.tenant):
                case = None  # another tenant's callers sent the same text first: what became of it is theirs
            shown.append({
                **one._asdict(), "label": one.said, "outcome": case.outcome if case else None,
                "decision_id": case.trajectory.decision or None if case else None,
                "proposal": case.proposal or None if case else None, "lesson": case.lesson if case else "",
            })  # fmt: skip
        return {"feedback": shown, "next": found[-1].id if more else None}


def _taken(ids: list[str], wrong: int, faults: list[dict[str, Any]], line: int | None, wait: int) -> dict[str, Any]:
    return {"taken": len(ids), "wrong": wrong, "ids": ids, "faults": faults, "next": line, "wait": wait}


async def take(services: Services, principal: Principal, given: FeedbackIn) -> str:
    """Take one label.

    Raises:
        HTTPException: it is refused.
    """
    await services.recorder.flush()
    try:
        id = await services.learning.intake.take(principal, role_of(principal), Given(**given.model_dump()), time.time())
    except Refused as error:
        raise HTTPException(error.status, str(error), {"retry-after": str(error.wait)} if error.wait else None) from None
    await asyncio.wait([services.learning.inbox.nudge()], timeout=HEARD_SECONDS)
    return id


def _fields(row: dict[str, Any]) -> dict[str, str]:
    if unknown := sorted(row.keys() - set(Given._fields)):
        raise Refused(422, f"unknown field {str(unknown[0])[:40]!r}; known: {', '.join(Given._fields)}")
    if wrong := [name for name, value in row.items() if not isinstance(value, str)]:
        raise Refused(422, f"{wrong[0]}: wanted a text")
    if not row.get("label"):
        raise Refused(422, "label: is missing; wanted attack or benign")
    return {name: value for name, value in row.items() if value}


_BOM: Final = b"\xef\xbb\xbf"
"""What some programs begin a file in UTF-8 with."""


def _lines(body: bytes) -> Iterator[tuple[int, Row | str | None]]:
    """Each line as it is asked for; None where it is empty."""
    for number, line in enumerate(io.BytesIO(body.removeprefix(_BOM)), 1):
        if not line.strip():
            yield number, None
            continue
        try:
            row = orjson.loads(line)
            yield number, row if isinstance(row, dict) else "wanted a JSON object"
        except orjson.JSONDecodeError as error:
            yield number, f"not valid JSON: {error.msg}"


def _csv(body: bytes) -> Iterator[tuple[int, Row | str | None]]:
    """Each row as it is asked for, with the line that it begins on; None where it is empty. What is no CSV ends it: nobody can
    tell where the next row begins.

    Raises:
        HTTPException: it has no header that names fields of a label.
    """
    try:
        rows = csv.reader(io.StringIO(body.removeprefix(_BOM).decode(), newline=""), strict=True)
        header = next(rows, [])
    except UnicodeDecodeError:
        raise HTTPException(422, "the upload: not UTF-8") from None
    except csv.Error as error:
        raise HTTPException(422, f"the upload: not CSV: {error}") from None
    known = ", ".join(Given._fields)
    if unknown := [name for name in header if name not in Given._fields]:
        raise HTTPException(422, f"the upload: unknown column {unknown[0][:40]!r}; known, with commas between them: {known}")
    if len(set(header)) < len(header) or not header:
        raise HTTPException(422, f"the upload: wanted a first line that names columns, each once; known: {known}")
    number = rows.line_num + 1
    try:
        for row in rows:
            whole = dict(zip(header, row, strict=False)) or None
            yield number, whole if len(row) <= len(header) else "more values than the header names"
            number = rows.line_num + 1
    except csv.Error as error:
        yield number, f"not CSV: {error}; the rest was not read"
