"""Makes proposals from cases: groups texts of one kind, builds the pattern that would have helped, and tries it.

Synchronous and slow (the encoder, Hyperscan): the service runs it on a thread. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from detectors.semantic.judge import SemanticModel
from detectors.semantic.learnt import backgrounds, views
from detectors.semantic.prototypes import (
    LEAST_CLOSENESS,
    LEAST_QUOTED,
    PREFIX,
    Background,
    Prototype,
    PrototypeError,
    Unread,
    Views,
    bar,
    build,
    read,
    write,
)
from detectors.values import Origin
from gateway.learning import evidence, rehearsal, trial
from gateway.learning.evidence import ATTACKS, Labelled, fair_share, spoken
from gateway.learning.grouping import kinds
from gateway.learning.mining import Ordinary, mine
from gateway.learning.reflection import Facts, together
from gateway.learning.trial import Corpus
from gateway.learning.values import LEARNT, Case, Outcome, Proposal, ProposalKind, Trial
from patterns import packs
from patterns.schema import MAX_BODY, Kind, Pattern, PatternError, Severity, State, read_pattern
from patterns.similar import Similar

MOST_EXAMPLES: Final = 16
"""Texts that one prototype is made of. More of one kind change its direction by less than the last one did."""

MOST_CASES: Final = 400
"""Unanswered cases looked at together: a flood of labels must not make a pass take minutes."""

MOST_EMBEDDINGS: Final = 40_000
"""Embeddings kept of labelled texts, twice as many as cases are remembered; reading them again takes a second or two."""

DEFAULT_CATEGORY: Final = "prompt_injection.task_hijack"
"""The category of an attack whose labellers named none."""

_LOWER: Final = {Severity.CRITICAL: Severity.HIGH, Severity.HIGH: Severity.MEDIUM, Severity.MEDIUM: Severity.LOW}

Floats = npt.NDArray[np.float32]


EXAMPLE_BYTES: Final = 12_000
"""Of a text as JSON that a pattern carries as it is; of longer ones their views. Sixteen fit into an entry."""


class Group(NamedTuple):
    """Cases of one kind with their views."""

    cases: tuple[Case, ...]
    vectors: Floats


class Teacher:
    """What a worker needs to make and try proposals. ``model`` None leaves what needs no embedding."""

    def __init__(self, model: SemanticModel | None) -> None:
        self.model = model
        self._standing: tuple[Pattern, ...] = ()
        self._similar = Similar({})
        self._embeddings: dict[str, tuple[Floats, bool]] = {}

    # Texts

    def views(self, text: str) -> str:
        """A text's views for a case; empty without a model, and of a text that the encoder cannot read."""
        try:
            return write(views(self.model, text), backgrounds(self.model).model) if self.model else ""
        except Unread:
            return ""

    def facts(
        self, case: Case, seen: Views | None, siblings: int, preset: str = "balanced", learnt: Sequence[Prototype] = ()
    ) -> Facts:
        """What `reflection.reflect` wants to know. ``preset`` is the one that serves, ``learnt`` what is matched already."""
        if self.model is None or seen is None:
            return Facts(siblings=siblings, unread=self.model is not None and bool(case.text) and not case.views)
        near = tuple(
            (one.exemplar.id, one.exemplar.category, round(one.similarity, 3))
            for one in self.model.index.nearest(seen.embedding, 8)
        )
        origin = Origin(case.trajectory.origin)
        score = self.model.judge([(case.text, origin)])[0].score if case.text else case.trajectory.score
        vectors, quoting = seen.embedding[None], np.array([seen.quotes])
        pardons = tuple(one.pattern.id for one in learnt
                        if one.pattern.kind is Kind.BENIGN and one.reached(vectors, quoting).any())  # fmt: skip
        return Facts(score, self.model.calibration.thresholds[preset][origin], near, siblings, pardons=pardons)

    def read(self, case: Case) -> Views | None:
        """A case's views; None where it has none of this model."""
        if self.model is None or not case.views:
            return None
        try:
            return read(case.views, self._views, backgrounds(self.model).model, case.id)
        except PrototypeError:
            return None

    # Groups

    def labelled(self, cases: Sequence[Case]) -> Labelled:
        """The cases whose embeddings are known, with them."""
        if len(self._embeddings) > MOST_EMBEDDINGS:
            self._embeddings.clear()  # most of them are of cases that are not remembered any more
        for case in cases:
            if case.id not in self._embeddings and (views := self.read(case)) is not None:  # a case's views never change
                self._embeddings[case.id] = views.embedding, views.quotes
        seen = [(case, *self._embeddings[case.id]) for case in cases if case.id in self._embeddings]
        if not seen:
            return evidence.NOTHING
        known, vectors, quoting = zip(*seen, strict=True)
        return Labelled(known, np.array(vectors), np.array(quoting))

    def groups(self, cases: Sequence[Case]) -> list[Group]:
        """Cases of one kind together: those that a prototype of one of them would find among the others."""
        seen, vectors, _ = self.labelled(fair_share(cases, MOST_CASES))
        if not seen:
            return []
        parts = kinds(vectors, self._background(_kind(seen[0])))
        return [Group(tuple(seen[at] for at in part), vectors[part]) for part in parts]

    def concerns(self, group: Group, news: Labelled, standing: Sequence[Prototype]) -> bool:
        """Whether who labelled some of ``news`` has a word on what answers a group."""
        if not news.cases:
            return False
        kind = _kind(group.cases[0])
        if kind is Kind.BENIGN and news.taught(group.vectors, standing, trial.PARDON_REACH, ()):
            return True
        background, examples = self._background(kind), group.vectors[:MOST_EXAMPLES]
        closeness = background.kinship(examples, news.vectors)
        if kind is Kind.BENIGN:
            closeness = np.maximum(closeness, background.closeness(examples, news.vectors))
        reach = np.where(news.quoting & (kind is Kind.BENIGN), LEAST_QUOTED, trial.PARDON_REACH)
        return bool((closeness >= reach).any())

    # Proposals

    def propose(
        self, id: str, group: Group, now: float, labelled: Labelled = evidence.NOTHING, standing: Sequence[Prototype] = ()
    ) -> list[Proposal]:
        """The proposals that answer a group: a prototype, and a lexical pattern where the texts share words.

        Args:
            id: for the first one; ids of others are derived from it.
            labelled: all that was labelled: who labelled texts of this kind has a word on it.
            standing: the learnt exemplars that are matched already.
        """
        kind = _kind(group.cases[0])
        made, ready = self._prototype(id, group, kind, now, standing)
        near = labelled.akin(ready)
        if kind is Kind.BENIGN:
            speakers = {one.by for case in group.cases for one in case.labels}
            taught = labelled.taught(group.vectors, standing, trial.PARDON_REACH, speakers)
            freed = [case for case in labelled.matched(ready) if case.outcome in ATTACKS]  # in doubt nothing is pardoned
            near = [*taught, *near, *freed, *labelled.within(ready, trial.PARDON_REACH, speakers)]
        proposals = [_spoken(made, near, group)]
        if kind is Kind.SEMANTIC and (mined := self._lexical(id + "-lexical", group, now)) is not None:
            proposals.append(_spoken(mined, near, group))
        return proposals

    def narrow(self, id: str, pattern: Pattern, precision: float, now: float) -> Proposal:
        """Let a pattern that is mostly wrong weigh less; one that weighs little already is retired."""
        lower = _LOWER.get(pattern.severity)
        narrowed = pattern.severity in (Severity.CRITICAL, Severity.HIGH) and lower is not None
        kind = ProposalKind.NARROW if narrowed else ProposalKind.RETIRE
        after = replace(pattern, severity=lower) if narrowed and lower else replace(pattern, state=State.RETIRED)
        said = f"its matches are now {lower.value}" if narrowed and lower else "it is retired"
        return Proposal(
            id=id, kind=kind, pattern=after, at=now, since=now, author="engine", trial=trial.without(pattern, self.corpus),
            reflection=f"Of the labelled matches of {pattern.id} only {precision:.0%} were attacks.",
            expected=f"{said}: what it stopped alone passes, flagged where another stage sees something",
        )  # fmt: skip

    def retire(self, id: str, pattern: Pattern, author: str, reason: str, now: float) -> Proposal:
        """A person's wish to retire a pattern. What it finds among known attacks is told, and left to the approvers."""
        found = trial.without(pattern, self.corpus) if pattern.kind.lexical else Trial()
        return Proposal(
            id=id, kind=ProposalKind.RETIRE, pattern=replace(pattern, state=State.RETIRED), at=now, since=now, author=author,
            trial=found._replace(against=()), reflection=reason,
            expected=f"{found.lost} of {found.hostile} known attacks are found by it, {found.false_alarms} "
                     f"harmless texts are stopped by it",
        )  # fmt: skip

    def by_hand(
        self, id: str, pattern: Pattern, author: str, reason: str, now: float, standing: tuple[Pattern, ...] = ()
    ) -> Proposal:
        """A pattern that a person proposes, tried like all others, beside what is like it of those that stand.

        Raises:
            PatternError: Hyperscan cannot take it. PrototypeError: the encoder cannot read it, or it is an embedding of
                another model.
        """
        return Proposal(
            id=id, kind=ProposalKind.MANUAL, pattern=pattern, at=now, since=now, author=author, trial=self.test(pattern),
            reflection=reason, nearest=self._alike(pattern, standing),
        )  # fmt: skip

    def _alike(self, pattern: Pattern, standing: tuple[Pattern, ...]) -> tuple[tuple[str, str, float], ...]:
        """What stands that is like a pattern by its words, and by its meaning where it is an exemplar."""
        if self._standing is not standing:
            self._similar = Similar({one.id: one.body for one in standing})
            self._standing = standing
        categories = {one.id: one.category for one in standing}
        found = [(id, categories[id], similarity) for id, similarity in self._similar.near(pattern.body, without=pattern.id)]
        if not pattern.kind.lexical and self.model is not None:
            seen = read(pattern.body, self._views, backgrounds(self.model).model, pattern.id)
            found += [
                (one.exemplar.id, one.exemplar.category, round(one.similarity, 3))
                for one in self.model.index.nearest(seen.embedding, 3)
            ]
        return tuple(sorted(found, key=lambda one: (-one[2], one[0]))[:5])

    def test(self, pattern: Pattern) -> Trial:
        """Try a pattern of any kind that people write.

        Raises:
            PatternError: Hyperscan cannot take it, or it is none that people write.
            PrototypeError: the encoder cannot read it, or it is an embedding of another model.
        """
        if pattern.kind.corrects:
            raise PatternError(f"kind: {pattern.kind.value}: labels lead to it, nobody writes one; a policy's rules move bars")
        if pattern.kind.lexical:
            return rehearsal.lexical(pattern, self.corpus)
        if self.model is None:
            return Trial(against=("no model is loaded, so an exemplar cannot be tried",))
        ready = self._ready(pattern)
        known = backgrounds(self.model)
        texts = (pattern.body, *pattern.hits)
        examples = np.array([read(one, self._views, known.model, pattern.id).embedding for one in texts])
        return trial.prototype(ready, examples, self._background(pattern.kind), self.corpus)

    def calibrated(self, pattern: Pattern) -> Pattern:
        """An exemplar with the closeness that its background allows, where it has none."""
        if pattern.kind.lexical or pattern.kind.corrects or pattern.closeness is not None or self.model is None:
            return pattern
        return replace(pattern, closeness=self._bar(self._ready(replace(pattern, closeness=1.0)), ()))

    @cached_property
    def corpus(self) -> Corpus:
        """Our own exemplar packs: ten thousand texts, half of them harmless."""
        harmless, hostile = (tuple(packs.exemplars(name).values()) for name in ("benign", "attacks"))
        return Corpus(harmless, hostile)

    @cached_property
    def _ordinary(self) -> Ordinary:
        return Ordinary(self.corpus.harmless)

    def _prototype(
        self, id: str, group: Group, kind: Kind, now: float, standing: Sequence[Prototype]
    ) -> tuple[Proposal, Prototype]:
        assert self.model is not None, "groups come from embeddings"
        examples = group.vectors[:MOST_EXAMPLES]
        cases = group.cases[:MOST_EXAMPLES]
        background = self._background(kind)
        bodies = [_example(case) for case in cases]
        category = _category(cases)
        pattern = Pattern(
            id=f"{LEARNT}{'attack' if kind is Kind.SEMANTIC else 'benign'}.{id[-12:]}", kind=kind, body=bodies[0],
            category=category, severity=Severity.HIGH, reach=None, origins=_origins(cases, kind),
            closeness=1.0, hits=tuple(bodies[1:]),
            provenance=f"learnt from {len(cases)} labelled texts",
        )  # fmt: skip
        ready = self._ready(pattern)
        pattern = replace(pattern, closeness=self._bar(ready, standing))
        ready = ready._replace(pattern=pattern)
        nearest = tuple(
            (one.exemplar.id, one.exemplar.category, round(one.similarity, 3))
            for one in self.model.index.nearest(examples.mean(axis=0), 5)
        )
        attack = kind is Kind.SEMANTIC
        found = trial.prototype(ready, examples, background, self.corpus, standing)
        verb = "stopped" if attack else "let through where they quote" if ready.quoting else "let through"
        proposal = Proposal(
            id=id, kind=ProposalKind.EXEMPLAR if attack else ProposalKind.BENIGN, pattern=pattern, at=now, since=now,
            author="engine", cases=tuple(case.id for case in group.cases), nearest=nearest, trial=found,
            reflection=together([case.lesson for case in cases]),
            expected=f"texts of the kind of {f'these {len(cases)}' if len(cases) > 1 else 'this one'} are {verb}; " + (
                f"each is found by what the others teach in {found.caught} of {found.own} cases" if len(cases) >= 3
                else "they are too few to be tried on each other"
            ),
        )  # fmt: skip
        return proposal, ready

    def _lexical(self, id: str, group: Group, now: float) -> Proposal | None:
        texts = [case.text for case in group.cases if case.text]
        mined = mine(texts, self._ordinary)
        if mined is None:
            return None
        raw: dict[str, Any] = {
            "id": f"{LEARNT}words.{id.removesuffix('-lexical')[-12:]}", "kind": "regex", "body": mined.body,
            "category": _category(group.cases), "severity": "high", "hits": list(mined.hits[:MOST_EXAMPLES]),
            "misses": list(mined.misses), "origins": sorted(_origins(group.cases, Kind.REGEX)),
            "provenance": f"mined from {len(texts)} labelled texts",
        }  # fmt: skip
        try:
            pattern = read_pattern(raw, "mined")
            found = trial.lexical(pattern, self.corpus)
        except PatternError:
            return None  # too long a reach, or too large for Hyperscan: the prototype answers the group
        return Proposal(
            id=id, kind=ProposalKind.LEXICAL, pattern=pattern, at=now, since=now, author="engine",
            cases=tuple(case.id for case in group.cases), trial=found,
            reflection=f"{len(mined.hits)} of {len(texts)} texts of one kind share these words in this order, which none of "
                       f"{len(self.corpus.harmless)} harmless texts does.",
            expected=f"texts with these words are stopped, without the encoder; finds {len(mined.hits)} of {len(texts)}",
        )  # fmt: skip

    def _views(self, text: str) -> Views:
        assert self.model is not None
        return views(self.model, text)

    def _ready(self, pattern: Pattern) -> Prototype:
        assert self.model is not None
        return build(pattern, self._views, backgrounds(self.model))

    def _bar(self, ready: Prototype, standing: Sequence[Prototype]) -> float:
        """The closeness that a prototype asks for, within what is left for it beside those that stand."""
        background = self._background(ready.pattern.kind)
        closeness = ready.closeness(background.vectors, background.quoting)
        share, least = (trial.CALIBRATED_QUOTED, LEAST_QUOTED) if ready.quoting else (trial.CALIBRATED, LEAST_CLOSENESS)
        return bar(closeness, share, *trial.left(ready.pattern.kind, standing, background), least)

    def _background(self, kind: Kind) -> Background:
        assert self.model is not None
        known = backgrounds(self.model)
        return known.harmless if kind is Kind.SEMANTIC else known.hostile


def _spoken(proposal: Proposal, near: Sequence[Case], group: Group) -> Proposal:
    """The proposal with what labellers say of texts of its kind, its own among them."""
    own = {case.id: case for case in group.cases}
    said = spoken(proposal.pattern, ({case.id: case for case in near} | own).values(), own)
    found = proposal.trial or Trial()
    return replace(
        proposal, supporters=said.supporters, spoken_for=said.spoken_for, spoken_against=said.spoken_against,
        trial=found._replace(against=(*found.against, *trial.by_labellers(said))),
    )  # fmt: skip


def _kind(case: Case) -> Kind:
    return Kind.SEMANTIC if case.outcome is Outcome.FALSE_NEGATIVE else Kind.BENIGN


def _category(cases: Sequence[Case]) -> str:
    named = [case.category for case in cases if case.category]
    found = [stage[2] for case in cases for stage in case.trajectory.stages if "." in stage[2]]
    for names in (named, found):
        if names:
            return max(sorted(set(names)), key=names.count)
    return DEFAULT_CATEGORY


def _origins(cases: Sequence[Case], kind: Kind) -> frozenset[str]:
    """Where the pattern applies: what a user may say can be an attack in a document, so the two are kept apart."""
    outside = {Origin.DOCUMENT, Origin.TOOL_RESULT}
    origins = {Origin(case.trajectory.origin) for case in cases}
    if origins & outside:
        origins |= outside
    return frozenset(origin.value for origin in origins)


def _example(case: Case) -> str:
    """What a prototype is made of: the text, or its views where it is not kept, too long, or written to be taken for views."""
    fits = 0 < len(case.text) <= MAX_BODY and len(orjson.dumps(case.text)) <= EXAMPLE_BYTES
    return case.text if fits and not case.text.startswith(PREFIX) else case.views
