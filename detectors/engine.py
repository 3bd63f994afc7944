"""The cascade: what is said of a text by all stages together, under one generation of patterns."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from detectors.cache import VerdictCache
from detectors.canonical import Canonical, canonicalise
from detectors.lexical import SCORES, Lexical, Match
from detectors.passages import Passage, passages
from detectors.values import Finding, Origin, Segment, Skipped, Verdict
from patterns.schema import Pattern, State
from patterns.taxonomy import is_attack

CACHE_BYTES: Final = 16 * 2**20
"""Verdicts kept per worker: about 40,000, the live texts of some thousand conversations."""

STAGES: Final = ("canonical", "lexical")
"""The stages that every text passes, in order; as in metrics and records."""

DISGUISE_SCORES: Final = {"tags": 0.95, "bidi": 0.6, "invisible": 0.4, "variation": 0.6}
"""What hiding text says by itself, before anybody knows what was hidden. Kinds not named here say too little alone."""

_DISGUISE_THREATS: Final = {
    "tags": "obfuscation.tag_smuggling",
    "bidi": "obfuscation.bidi_control",
    "invisible": "obfuscation.invisible_text",
    "variation": "obfuscation.variation_selector_smuggling",
}


class TextFinding(NamedTuple):
    """A finding in one text, before it is mapped to the segments of a request."""

    detector: str
    pattern: str
    category: str
    score: float
    start: int
    end: int


class TextVerdict(NamedTuple):
    """What the cascade says of one text."""

    findings: tuple[TextFinding, ...]
    skipped: tuple[Skipped, ...]


_NOTHING: Final = TextVerdict((), ())


class Judged(NamedTuple):
    """A verdict with what it cost: nanoseconds by stage (in the order of `STAGES`), and texts found in the cache."""

    verdict: Verdict
    stage_ns: tuple[int, ...]
    cached: int


@dataclass(frozen=True, slots=True)
class Generation:
    """An immutable set of knowledge. A request keeps the one that it began with, and its record names it."""

    number: int
    digest: str
    patterns: tuple[Pattern, ...]
    loaded_at: float


class Engine:
    """Judges texts under one generation. Not thread-safe: one instance for each thread that scans."""

    def __init__(self, generation: Generation, lexical: Lexical) -> None:
        self.generation = generation
        self.cache: VerdictCache[TextVerdict] = VerdictCache(CACHE_BYTES, secrets.token_bytes(32))
        self._lexical = lexical
        self._clean = Verdict((), 0.0, (), generation.number)

    @classmethod
    def load(cls, patterns: Sequence[Pattern], number: int, now: float, cache: Path | None = None) -> Engine:
        """Compile ``patterns`` into a generation.

        Raises:
            PatternError: as `Lexical`.
        """
        live = tuple(pattern for pattern in patterns if pattern.state is State.ACTIVE)
        generation = Generation(number, digest(live), live, now)
        return cls(generation, Lexical(live, cache))

    def twin(self) -> Engine:
        """An engine with the same knowledge and the same cache for another thread."""
        twin = Engine(self.generation, self._lexical.twin())
        twin.cache = self.cache
        return twin

    def judge(self, segments: Sequence[Segment], scope: str) -> Judged:
        """Judge every segment. ``scope`` (a tenant) keeps one caller from learning what another one sent."""
        clock = [0] * len(STAGES)
        found: dict[Finding, None] = {}
        skipped: list[Skipped] = []
        cached = 0
        for passage in passages(segments):
            key = self.cache.key((scope, passage.origin), passage.text)
            verdict = self.cache.get(key)
            if verdict is None:
                verdict = self._judge_text(passage.text, passage.origin, clock)
                self.cache.put(key, verdict)
            else:
                cached += 1
            if verdict.findings:
                _place(passage, verdict.findings, found)
            if verdict.skipped:
                skipped += verdict.skipped
        return Judged(self._verdict(found, skipped), tuple(clock), cached)

    def _verdict(self, found: dict[Finding, None], skipped: list[Skipped]) -> Verdict:
        if not found and not skipped:
            return self._clean
        score = max((finding.score for finding in found if is_attack(finding.category)), default=0.0)
        return Verdict(tuple(found), score, tuple(dict.fromkeys(skipped)), self.generation.number)

    def _judge_text(self, text: str, origin: Origin, clock: list[int]) -> TextVerdict:
        began = time.perf_counter_ns()
        canonical = canonicalise(text)
        canonised = time.perf_counter_ns()
        findings, exhausted = self._match(text, canonical, origin)
        clock[0] += canonised - began
        clock[1] += time.perf_counter_ns() - canonised
        if not findings and not exhausted:
            return _NOTHING
        skipped = (Skipped("lexical", "budget"),) if exhausted else ()
        return TextVerdict(tuple(dict.fromkeys(findings)), skipped)

    def _match(self, text: str, canonical: Canonical, origin: Origin) -> tuple[list[TextFinding], bool]:
        """Match the text as it came and, where it differs, its canonical form."""
        scan = self._lexical.scan(text, origin)
        findings = [_finding("lexical", match, match.start, match.end) for match in scan.matches]
        if canonical.identical:
            return findings, scan.exhausted
        seen = {(finding.pattern, finding.start, finding.end) for finding in findings}
        folded = self._lexical.scan(canonical.text, origin)
        for match in folded.matches:
            start, end = canonical.span(match.start, match.end)
            if (match.pattern.id, start, end) not in seen:
                findings.append(_finding("canonical", match, start, end))
        for kind, count, first in canonical.evidence:
            if kind in DISGUISE_SCORES:
                threat = _DISGUISE_THREATS[kind]
                score = DISGUISE_SCORES[kind]
                findings.append(TextFinding("canonical", f"disguise.{kind}", threat, score, first, first + count))
        return findings, scan.exhausted or folded.exhausted


def digest(patterns: Sequence[Pattern]) -> str:
    """The identity of a set of patterns: SHA-256 over what makes each of them act, in order of their ids."""
    state = hashlib.sha256()
    for pattern in sorted(patterns, key=lambda pattern: pattern.id):
        acting = (
            pattern.id, pattern.kind.value, pattern.body, pattern.category, pattern.severity.value, pattern.check,
            tuple(sorted(pattern.origins)), pattern.rollout,
        )  # fmt: skip
        state.update(repr(acting).encode("utf-8", "surrogatepass"))
    return state.hexdigest()


def _finding(detector: str, match: Match, start: int, end: int) -> TextFinding:
    pattern = match.pattern
    return TextFinding(detector, pattern.id, pattern.category, SCORES[pattern.severity], start, end)


def _place(passage: Passage, findings: Sequence[TextFinding], found: dict[Finding, None]) -> None:
    """Map findings to the segments of the passage; one that crosses a cut becomes one for each side."""
    for finding in findings:
        for span in passage.locate(finding.start, finding.end):
            found[Finding(*finding[:4], span.segment, span.start, span.end)] = None
