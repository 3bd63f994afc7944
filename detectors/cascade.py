"""What all stages together say of one text: canonicalise, decode, match, front stage; then encoder and index.

The first four take microseconds and run where they are called (`Cascade.screen`). What they cannot settle is a list of
windows for the encoder, milliseconds each, which a caller reads wherever it likes, in any order and company; `finish`
puts the answers together. A text is judged in several readings: as it came, with its disguise taken off, and each layer
that was decoded from it. The strongest reading decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from detectors.canonical import Canonical, canonicalise
from detectors.lexical import SCORES, Lexical, Match
from detectors.mentions import around_of, speaks
from detectors.readings import Inner, Span, View, layers, through, views
from detectors.semantic.closer import ALONE, Looked, looked
from detectors.semantic.corrections import NO_CORRECTIONS, Corrections
from detectors.semantic.judge import Reading, SemanticModel
from detectors.semantic.learnt import corrections as corrections_among
from detectors.semantic.learnt import made_ready
from detectors.semantic.legible import legible
from detectors.semantic.prototypes import NO_PROTOTYPES, Prototypes
from detectors.semantic.quotes import quotes
from detectors.semantic.repetition import once
from detectors.stages import CHEAP, DEEP, Asked, Screened, TextFinding, TextVerdict
from detectors.values import WATCHED, WINDOWS, Origin, Skipped
from detectors.weighing import Weighing
from patterns.schema import WATCHING, Pattern, Severity, State, acts_on

EVIDENCE: Final = {Severity.LOW: 0.3, Severity.MEDIUM: 0.8, Severity.HIGH: 1.0, Severity.CRITICAL: 1.2}
"""What a finding adds to the model's own signs, in units that the calibration weighs. The ratios are those of the
logarithms of (share of attacks with such a finding / share of harmless texts with one), over whole public sources."""

_SCORED: Final = {SCORES[severity]: weight for severity, weight in EVIDENCE.items()}

DISGUISES: Final = {
    "tags": ("tag_smuggling", Severity.HIGH),
    "bidi": ("bidi_control", Severity.MEDIUM),
    "variation": ("variation_selector_smuggling", Severity.MEDIUM),
    "invisible": ("invisible_text", Severity.LOW),
    "styled": ("token_smuggling", Severity.LOW),
    "spaced": ("spaced_letters", Severity.LOW),
    "mixed_script": ("homoglyph", Severity.LOW),
    "confusable": ("homoglyph", Severity.LOW),
    "combining": ("zalgo", Severity.LOW),
}
"""What hiding text says by itself, before anybody knows what was hidden. Kinds not named here say too little alone."""

_ORDINARY: Final = ("escape_payload", Severity.LOW)
_CIPHER: Final = ("cipher_payload", Severity.MEDIUM)

_UNTOLD: Final = frozenset(
    {"literals", "form", "soft_breaks", "emphasis", "accents", "joined", "marked", "strings", "wrapped", "numbered"}
)
"""What is no sign by itself: nearly all JSON within JSON has it, and so have programs, addresses, pages and mail."""

LAYERS: Final = {
    "percent": _ORDINARY, "entities": _ORDINARY, "escapes": _ORDINARY, "quoted_printable": _ORDINARY,
    "code_points": ("escape_payload", Severity.MEDIUM), "pieces": ("split_payload", Severity.LOW),
    "calls": ("split_payload", Severity.LOW), "letters": ("split_payload", Severity.LOW),
    "base58": ("base64_payload", Severity.MEDIUM), "uuencode": ("base64_payload", Severity.MEDIUM),
    "base64": ("base64_payload", Severity.LOW), "base32": ("base64_payload", Severity.MEDIUM),
    "base85": ("base64_payload", Severity.MEDIUM), "hex": ("hex_payload", Severity.LOW),
    "binary": ("hex_payload", Severity.MEDIUM), "decimal": ("hex_payload", Severity.MEDIUM),
    "leet": ("leetspeak", Severity.MEDIUM), "unspaced": ("spaced_letters", Severity.LOW),
    "reversed": ("reversed_text", Severity.MEDIUM), "reversed_words": ("reversed_text", Severity.MEDIUM),
    "tags": ("tag_smuggling", Severity.HIGH), "selectors": ("variation_selector_smuggling", Severity.HIGH),
    "zero_width": ("invisible_text", Severity.HIGH),
}  # fmt: skip
"""What it says that a text holds readable text in an encoding, by the outermost one. Those not named are ciphers and
codes (ROT-n, Morse, Braille...), which ordinary texts hold no sentences in."""


class Cascade:
    """The stages of one generation, for one thread at a time.

    Args:
        lexical: the patterns. model: what judges by meaning; None where it is missing or turned off, for which ``absent``
            says what to report.
        decodes: whether encoded text is decoded. deep: whether encoder and index are asked.
        windows: see `WINDOWS`. prototypes, corrections: what was learnt since the model was trained.
    """

    def __init__(
        self, lexical: Lexical, model: SemanticModel | None, absent: tuple[Skipped, ...] = (), *,
        decodes: bool = True, deep: bool = True, windows: int = WINDOWS, prototypes: Prototypes = NO_PROTOTYPES,
        corrections: Corrections = NO_CORRECTIONS,
    ) -> None:  # fmt: skip
        self.lexical, self.model, self.absent = lexical, model, absent
        self.prototypes = prototypes if model is not None and deep else NO_PROTOTYPES
        self.corrections = corrections if model is not None and deep else NO_CORRECTIONS
        self.decodes, self.deep, self.windows = decodes, deep, windows
        ran = [stage for stage in CHEAP if (stage != "decode" or decodes) and (stage != "fast" or model is not None)]
        self._cheap = tuple(ran)
        self._reported = {} if model is None else {origin: model.calibration.reported(origin) for origin in Origin}

    def twin(self) -> Cascade:
        """The same stages for another thread."""
        return self._with(self.lexical.twin(), self.prototypes, self.corrections)

    def overlaid(self, over: Mapping[str, Pattern], known: Cascade | None = None) -> Cascade:
        """The same stages with patterns of the store over those of the packs. ``known`` is what was made so before: what stands
        in it still is taken from there.

        Raises:
            PatternError: an expression that Hyperscan cannot take.
        """
        added = [pattern for pattern in over.values() if pattern.state in WATCHING]
        made = known.prototypes if known is not None else NO_PROTOTYPES
        prototypes = made_ready(added, self.model, made) if self.model is not None else NO_PROTOTYPES
        corrections = corrections_among(added, self.model) if self.model is not None else NO_CORRECTIONS
        lexical = self.lexical.overlaid(added, over.keys(), known.lexical if known is not None else None)
        return self._with(lexical, prototypes, corrections)

    def _with(self, lexical: Lexical, prototypes: Prototypes, corrections: Corrections) -> Cascade:
        return Cascade(lexical, self.model, self.absent, decodes=self.decodes, deep=self.deep, windows=self.windows,
                       prototypes=prototypes, corrections=corrections)  # fmt: skip

    def words(self, text: str, origin: Origin, clock: list[int]) -> TextVerdict:
        """What all stages but the model say: for a text of which the model has read every part."""
        findings, skipped = self._unmodelled(text, origin, clock)[:2]
        return TextVerdict(tuple(dict.fromkeys(findings)), 0.0, tuple(skipped), self._cheap)

    def screen(self, text: str, origin: Origin, clock: list[int]) -> Screened:
        """The cheap stages."""
        findings, skipped, views = self._unmodelled(text, origin, clock)
        began = time.perf_counter_ns()
        evidence = max((_SCORED[f.score] for f in findings if speaks(f)), default=0.0) if findings else 0.0
        settled: Asked | None = None
        asked: list[Asked] = []
        if self.model is not None:
            settled, asked = self._front(self.model, views(), origin, evidence)
        clock[3] += time.perf_counter_ns() - began
        doubt = False
        if self.model is not None and len(asked) > self.windows:
            asked = sorted(asked, key=lambda one: (one.around, one.part, -one.suspicion))
            asked, left = asked[: self.windows], asked[self.windows :]
            doubt = any(one.around for one in left)
            # Parts were read within their windows. Windows that the front stage settled, and that are read for the sake of what
            # was found elsewhere, are settled as far as the encoder does not get.
            windows = [one for one in left if not one.part]
            settled = max((one for one in (settled, *windows) if one and not one.around), key=_suspicion, default=None)
            if any(one.around or one.woken or one.suspicion >= self.model.calibration.sure[origin] for one in windows):
                skipped.append(Skipped("encoder", "budget"))
        told = tuple(dict.fromkeys(findings)) if findings else ()
        return Screened(origin, told, evidence, settled, tuple(asked), tuple(skipped), doubt)

    def _unmodelled(
        self, text: str, origin: Origin, clock: list[int]
    ) -> tuple[list[TextFinding], list[Skipped], Callable[[], list[View]]]:
        """Canonicalise, decode and match: what was found, what was not looked at, and the readings for the model."""
        began = time.perf_counter_ns()
        canonical = canonicalise(text)
        canonised = time.perf_counter_ns()
        inner, cut_off = layers(text, canonical) if self.decodes else ([], False)
        decoded = time.perf_counter_ns()
        legible = self._legible(text, canonical)
        findings, exhausted = self._match(text, canonical, inner, legible, origin)
        matched = time.perf_counter_ns()
        clock[0] += canonised - began
        clock[1] += decoded - canonised
        clock[2] += matched - decoded
        skipped = list(self.absent)
        if cut_off:
            skipped.append(Skipped("decode", "budget"))
        if exhausted:
            skipped.append(Skipped("lexical", "budget"))
        return findings, skipped, lambda: views(text, canonical, inner, legible)

    def finish(self, screened: Screened, readings: Sequence[Reading | None], reason: str = "late") -> TextVerdict:
        """Put the readings of ``screened.asked`` together, in its order; None for one that could not be had in time.

        ``reason`` is that of `Skipped` for those. The front stage's word stands for them, and for what the encoder was given
        and could read nothing of.
        """
        findings = screened.findings
        if self.model is None:
            score = max((finding.score for finding in findings if speaks(finding)), default=0.0)
            return TextVerdict(findings, score, screened.skipped, self._cheap)
        if screened.settled is not None and not screened.asked:
            return self._settled(self.model, screened, screened.settled)
        blind = sum(reading is not None and reading.blind for reading in readings)
        seen = [None if reading is None or reading.blind else reading for reading in readings]
        reported = self._reported[screened.origin]
        weighing = Weighing(self.model, self.prototypes, self.corrections, reported, screened, seen)
        missed = sum(reading is None for reading in seen) - blind
        skipped = screened.skipped
        skipped += (Skipped("encoder", reason),) if missed else ()
        skipped += (Skipped("encoder", "unread"),) if blind else ()
        ran = (*self._cheap, *DEEP) if any(seen) else self._cheap
        return TextVerdict(weighing.findings(), weighing.score, skipped, ran)

    def _settled(self, model: SemanticModel, screened: Screened, window: Asked) -> TextVerdict:
        """The verdict of a text that the front stage settled: nearly all of them, and nothing was read."""
        origin = screened.origin
        judged = model.weigh(None, window.suspicion, screened.evidence, origin, window.setting)
        findings = screened.findings
        if judged.score >= self._reported[origin]:
            pattern = f"model.{origin}"
            findings += (TextFinding(judged.stage, pattern, judged.category, judged.score, window.start, window.end),)
        return TextVerdict(findings, judged.score, screened.skipped, self._cheap)

    def _legible(self, text: str, canonical: Canonical) -> list[View]:
        """What can be read of a text in which much cannot be."""
        if self.model is None:
            return []
        if not canonical.evidence:
            return [View(one.text, one.span) for one in legible(text, self.model.encoder.unreadable)]
        found = legible(canonical.text, self.model.encoder.unreadable)
        return [View(one.text, through(one.span, canonical.span)) for one in found]

    def _match(
        self, text: str, canonical: Canonical, inner: Sequence[Inner], legible: Sequence[View], origin: Origin
    ) -> tuple[list[TextFinding], bool]:
        """Match the text as it came, its canonical form where that differs, what was decoded, and what can be read of it."""
        scan = self.lexical.scan(text, origin)
        exhausted = scan.exhausted
        findings = [_finding("lexical", text, match, match.start, match.end) for match in scan.matches]
        if canonical.identical and not inner and not legible:
            return findings, exhausted
        seen = {(finding.pattern, finding.start, finding.end) for finding in findings}

        def add(detector: str, read: str, span: Span) -> None:
            nonlocal exhausted
            scan = self.lexical.scan(read, origin)
            exhausted |= scan.exhausted
            for match in scan.matches:
                start, end = span(match.start, match.end)
                if (match.pattern.id, start, end) not in seen:
                    seen.add((match.pattern.id, start, end))
                    findings.append(_finding(detector, text, match, start, end))

        if not canonical.identical:
            add("canonical", canonical.text, canonical.span)
        for kind, count, first in canonical.evidence:
            if kind in DISGUISES:
                threat, severity = DISGUISES[kind]
                findings.append(TextFinding("canonical", f"disguise.{kind}", f"obfuscation.{threat}", SCORES[severity],
                                            first, first + count))  # fmt: skip
        for layer, plain, span in inner:
            if telling := [scheme for scheme in layer.scheme.split(">") if scheme not in _UNTOLD]:
                threat, severity = LAYERS.get(telling[0], _CIPHER)
                findings.append(TextFinding("decode", f"layer.{layer.scheme}", f"obfuscation.{threat}", SCORES[severity],
                                            *span(0, len(layer.text))))  # fmt: skip
            add("decode", layer.text, span)
            if not plain.identical:
                add("decode", plain.text, through(plain.span, span))
        for view in legible:
            add("canonical", *view)
        return findings, exhausted

    def _front(
        self, model: SemanticModel, views: Sequence[View], origin: Origin, evidence: float
    ) -> tuple[Asked | None, list[Asked]]:
        """The most suspicious window that the front stage settles, and those that it does not settle."""
        sure = float("-inf") if evidence and self.deep else model.calibration.sure[origin] if self.deep else float("inf")
        settled: Asked | None = None
        asked: list[Asked] = []
        for view in views:
            front = looked(model, view.text, origin, self.deep)
            woken = self._woken(model, view.text, front, sure)
            for at, (start, end, suspicion, part) in enumerate(front):
                window, place = view.text[start:end], part and view.span(part.start, part.end)
                if suspicion >= sure and (told := once(window)) != window:
                    again = looked(model, told, origin, self.deep)
                    window, suspicion = told, max(one.suspicion for one in again)
                    part, place = next((one.part for one in again if one.part), None), view.span(start, end)
                setting = model.setting(window, len(front), origin)
                learnable = part is not None and len(self.prototypes) > 0  # a harmless kind clears what it is part of
                if suspicion >= sure or at in woken or learnable:
                    asked.append(Asked(window, suspicion, *view.span(start, end), suspicion < sure, setting))
                    if self.prototypes.mentions and quotes(window):
                        asked += around_of(model, asked[-1], origin)
                elif settled is None or suspicion > settled.suspicion:
                    settled = Asked("", suspicion, *view.span(start, end), setting=setting)
                if part and place:
                    asked.append(Asked(part.text, part.suspicion, *place, setting=setting + ALONE[origin], part=True))
        return settled, asked

    def _woken(self, model: SemanticModel, text: str, front: Sequence[Looked], sure: float) -> frozenset[int]:
        """The windows that resemble something learnt although the front stage settled them."""
        if not self.prototypes.wakes or all(one.suspicion >= sure for one in front):
            return frozenset()
        suspicion = np.array([one.suspicion - sure for one in front], np.float32)
        found = self.prototypes.woken(model.words(text, [(one.start, one.end) for one in front]), suspicion)
        return frozenset(found.nonzero()[0].tolist())


def _suspicion(window: Asked) -> float:
    return window.suspicion


def _finding(detector: str, text: str, match: Match, start: int, end: int) -> TextFinding:
    pattern = match.pattern
    if pattern.state is not State.ACTIVE and not acts_on(pattern, text):
        detector = WATCHED
    return TextFinding(detector, pattern.id, pattern.category, SCORES[pattern.severity], start, end)

