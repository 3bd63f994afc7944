"""How long what was labelled is kept: a text as long as retention lets texts live, all else for `Retention.label_seconds`.

What a pattern was made of that is watched or acts stays as long as it does: it is the evidence for it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final, NamedTuple

from gateway.learning.book import Book
from gateway.learning.stages import OUT
from gateway.learning.values import OPEN, Case, Stage
from gateway.records.decisions import first_id

EXPIRE_SECONDS: Final = 3600.0
"""How often what is kept too long is looked for: all cases are read for it."""

_SETTLED: Final = frozenset({Stage.REJECTED, Stage.FAILED, Stage.DEMOTED})


class Expired(NamedTuple):
    """What was removed: cases, texts of cases that stay, listed labels, and proposals that came to nothing."""

    cases: int = 0
    texts: int = 0
    labels: int = 0
    proposals: int = 0


def left(case: Case, now: float, text_seconds: float, label_seconds: float, evidence: Collection[str]) -> Case | None:
    """What is left of a case: itself, itself without its text, or None. Pure.

    Args:
        now: UNIX seconds. evidence: ids of cases that stay however old they are.
    """
    latest = max((label.at for label in case.labels), default=case.at)
    if now - latest > label_seconds and case.id not in evidence:
        return None
    return replace(case, text="") if case.text and now - latest > text_seconds else case


async def expire(book: Book, now: float, text_seconds: float, label_seconds: float) -> Expired:
    """Remove what is kept too long.

    Raises:
        StateUnavailable: the state does not answer; what is left is removed the next time.
    """
    evidence: set[str] = set()
    proposals = 0
    async for proposal in book.all_proposals():
        if proposal.stage in OUT or proposal.stage in OPEN:
            evidence.update(proposal.cases)
        elif proposal.stage in _SETTLED and now - proposal.since > label_seconds:
            proposals += await book.remove_proposal(proposal.id)
    cases = texts = 0
    async for case in book.cases():
        if (kept := left(case, now, text_seconds, label_seconds, evidence)) is case:
            continue
        if kept is None:
            cases += await book.remove_case(case.id)
        else:
            texts += await book.change_case(case.id, lambda old: old and replace(old, text="")) is not None
    labels = await book.remove_labels(first_id(now - label_seconds))
    return Expired(cases, texts, labels, proposals)
