"""Taking back all that somebody said: his key was stolen, or he lied. What others said of the same texts is counted anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from gateway.learning.book import Book, Listed
from gateway.learning.quorum import judged
from gateway.learning.stages import OUT, TAKES_AWAY
from gateway.learning.values import REWRITTEN, Case, Label, Proposal, Stage
from gateway.state.base import MAX_PAGE

WHY = "what its author said was taken back"


class Retracted(NamedTuple):
    """What came of it: labels that are gone, ids of proposals that are withdrawn with them, and ids of those that are watched
    or act though his labels are among what they were made from, or he wrote them: somebody has to look at these."""

    labels: int
    withdrawn: tuple[str, ...]
    standing: tuple[str, ...]


async def retract(book: Book, by: str, since: float, now: float) -> Retracted:
    """Take back what ``by`` said from ``since`` on (UNIX seconds), as labellers are named in lists.

    Raises:
        StateUnavailable: the state does not answer. Said again, it goes on: what lists his labels goes last.
    """
    listed = {label.id: label.case for label in await _listed(book) if label.by == by and label.at >= since}
    touched = set(listed.values())
    matched: set[str] = set()  # the patterns that his labels spoke of
    for id in touched:
        if (case := await book.case(id)) is not None:
            matched.update(pattern for _, pattern, _, _ in case.trajectory.stages)
        await book.change_case(id, _without(by, since))
    withdrawn, standing = [], []
    async for proposal in book.all_proposals():
        wrote = proposal.author == by and proposal.at >= since
        # That a pattern is mostly wrong answers no cases: it follows from all that were labelled of its matches.
        counted = proposal.author == "engine" and proposal.kind in TAKES_AWAY and proposal.pattern.id in matched
        if not wrote and not counted and touched.isdisjoint(proposal.cases):
            continue
        if proposal.stage in OUT:
            standing.append(proposal.id)
        elif proposal.stage in REWRITTEN:
            withdrawn.append(proposal.id)
            if wrote:
                await book.change_proposal(proposal.id, _rejected(now))
            else:  # what is left of its cases is answered anew
                await book.remove_proposal(proposal.id)
    for id in listed:
        await book.remove_label(id)
    await book.mark_anew()
    return Retracted(len(listed), tuple(withdrawn), tuple(standing))


async def _listed(book: Book) -> list[Listed]:
    found, before = list[Listed](), None
    while page := await book.labels(MAX_PAGE, before):
        found += page
        before = page[-1].id
    return found


def _his(label: Label, by: str, since: float) -> bool:
    return label.by == by and label.at >= since


def _without(by: str, since: float) -> Callable[[Case | None], Case | None]:
    def change(case: Case | None) -> Case | None:
        if case is None:
            return None
        left = tuple(label for label in case.labels if not _his(label, by, since))
        return judged(replace(case, labels=left)) if len(left) < len(case.labels) else None

    return change


def _rejected(now: float) -> Callable[[Proposal | None], Proposal | None]:
    def change(proposal: Proposal | None) -> Proposal | None:
        if proposal is None or proposal.stage not in REWRITTEN:
            return None
        return replace(proposal, stage=Stage.REJECTED, since=now, reason=WHY)

    return change
