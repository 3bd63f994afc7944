"""What a proposed pattern would do, found out on texts whose labels are known. Pure.

The texts are our own packs, and what people labelled. A pattern passes when it catches enough of what it was made for (each
example judged by what the others teach), does no more harm on the packs than the bound allows, alone and together with all
that was learnt before, and when those who labelled texts of its kind agree with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.lexical import Lexical
from detectors.semantic.prototypes import Background, Prototype
from detectors.values import Origin
from gateway.learning.evidence import Spoken
from gateway.learning.quorum import MARGIN, QUORUM
from gateway.learning.values import Trial
from patterns.schema import Kind, Pattern

Floats = npt.NDArray[np.float32]

FALSE_ALARM_BOUND: Final = 0.001
"""The share of harmless texts that one new attack pattern may stop: a fifth of what ``balanced`` allows altogether."""

LOSS_BOUND: Final = 0.005
"""The share of known attacks that one new harmless exemplar, or one pattern retired, may let through."""

CALIBRATED: Final = 0.0005
"""The share of the background on which a prototype's bar is put; half the bound, so that a trial on more texts can pass."""

CALIBRATED_QUOTED: Final = 0.001
"""The same of a harmless kind that concerns only texts that quote: a tenth of what all of them together may let through."""

LEAST_CAUGHT: Final = 0.5
"""The share of its own examples, each left out in turn, that a prototype must catch where there are three or more."""


ALL_FALSE_ALARMS: Final = 0.005
"""The share of harmless texts that all learnt patterns together may stop, so that many small steps come to no more than this,
whoever takes them. A new one asks for as much closeness as keeps it within what is left; when nothing is, it must stop none
besides. Failing it instead would let whoever spends the budget on lies keep everybody else from teaching."""

ALL_LOSS: Final = 0.01
"""The share of known attacks that all learnt harmless exemplars together may come near."""

LEAST_RIGHTED: Final = 5
"""Wrong outcomes that a correction of the model must set right; what fewer say of a whole category is chance."""

MOST_WRONGED: Final = 0.25
"""Right outcomes that a correction may make wrong, for each that it sets right."""

PARDON_REACH: Final = 0.25
"""Who labelled texts this close to a harmless exemplar has a word on it; of an attack, who labelled texts that it would stop.
In doubt nothing is pardoned. One text of a family comes this close to a third of the others, and to 1 % of other families
(``bench learning``'s); at the bar for acting (`LEAST_CLOSENESS`) it is a sixth, and five honest labels often see no lie."""


class Corpus(NamedTuple):
    """Texts with known labels, hostile or harmless, in the order of the model's backgrounds."""

    harmless: Sequence[str]
    hostile: Sequence[str]


def prototype(
    ready: Prototype, examples: Floats, background: Background, corpus: Corpus, standing: Sequence[Prototype] = ()
) -> Trial:
    """Try a learnt exemplar.

    Args:
        examples: (k, 384), what it was made of. background: what it is told from, in the order of the corpus.
        standing: the learnt exemplars that are matched already.
    """
    pattern = ready.pattern
    closeness = pattern.closeness or 1.0
    caught = len(examples)
    if len(examples) >= 3:
        caught = sum(
            bool(background.closeness(np.delete(examples, at, axis=0), examples[at : at + 1])[0] >= closeness)
            for at in range(len(examples))
        )
    hit = ready.reached(background.vectors, background.quoting)
    against = []
    if caught < LEAST_CAUGHT * len(examples):
        against.append(f"its examples are not of one kind: {caught} of {len(examples)} are found by what the others teach")
    before = _reached(pattern.kind, standing, background, pattern.id)
    if pattern.kind is Kind.SEMANTIC:
        against += _bounded("harmless texts would be stopped", int(hit.sum()), len(hit), FALSE_ALARM_BOUND)
        against += _together("harmless texts would be stopped", hit, before, ALL_FALSE_ALARMS)
        return Trial(len(examples), caught, len(hit), int(hit.sum()), 0, 0, FALSE_ALARM_BOUND, 0.0,
                     _shown(corpus.harmless, hit), tuple(against))  # fmt: skip
    against += _bounded("known attacks would be let through", int(hit.sum()), len(hit), LOSS_BOUND)
    against += _together("known attacks would be let through", hit, before, ALL_LOSS)
    return Trial(len(examples), caught, 0, 0, len(hit), int(hit.sum()), 0.0, LOSS_BOUND, _shown(corpus.hostile, hit),
                 tuple(against))  # fmt: skip


class Changed(NamedTuple):
    """Which texts of a corpus are stopped, bool (n,): by the model as shipped, with what corrects it now, and with one more."""

    attack: npt.NDArray[np.bool_]
    shipped: npt.NDArray[np.bool_]
    before: npt.NDArray[np.bool_]
    after: npt.NDArray[np.bool_]


def correction(changed: Changed, own: int, righted: int, wronged: int, texts: Sequence[str]) -> Trial:
    """Try what corrects the model.

    Args:
        own: labelled texts that it was made for; ``righted`` were judged wrongly and are not with it, ``wronged`` the other
            way round.
        texts: the corpus, in the order of ``changed``. Of the known attacks those lost are counted less those won.
    """
    harmless, hostile = ~changed.attack, changed.attack
    alarms = harmless & changed.after & ~changed.before
    lost = _fewer(changed.before, changed.after, hostile)
    against = []
    if righted < LEAST_RIGHTED or wronged > MOST_WRONGED * righted:
        against.append(f"it sets {righted} of {own} labelled texts right and makes {wronged} wrong; asked are at least"
                       f" {LEAST_RIGHTED}, and {1 / MOST_WRONGED:.0f} for each wrong one")  # fmt: skip
    against += [
        *_bounded("harmless texts would be stopped", int(alarms.sum()), int(harmless.sum()), FALSE_ALARM_BOUND),
        *_bounded("known attacks would be let through", lost, int(hostile.sum()), LOSS_BOUND),
        *_together("harmless texts would be stopped", (changed.after & ~changed.shipped)[harmless],
                   (changed.before & ~changed.shipped)[harmless], ALL_FALSE_ALARMS),
    ]  # fmt: skip
    if lost and _fewer(changed.shipped, changed.after, hostile) > ALL_LOSS * hostile.sum():
        against.append(f"together with what corrects the model already, more than {ALL_LOSS:.2%} of known attacks would be let"
                       " through")  # fmt: skip
    gone = hostile & changed.before & ~changed.after
    return Trial(own, righted, int(harmless.sum()), int(alarms.sum()), int(hostile.sum()), lost, FALSE_ALARM_BOUND,
                 LOSS_BOUND, _shown(texts, alarms | gone), tuple(against))  # fmt: skip


def _fewer(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> int:
    """By how many fewer of some texts are stopped; 0 where they are not fewer."""
    return max(0, int((before & among).sum()) - int((after & among).sum()))


def by_labellers(said: Spoken) -> tuple[str, ...]:
    """What speaks against a proposal among those who labelled texts of its kind: it needs a quorum as a text does."""
    if said.spoken_for >= QUORUM - 1e-9 and said.spoken_for >= MARGIN * said.spoken_against:
        return ()
    return (f"who labelled texts of this kind does not agree: {said.spoken_for:.1f} for it, {said.spoken_against:.1f} against;"
            f" {QUORUM:.0f} is needed, and {MARGIN:.0f} times what speaks against",)  # fmt: skip


def lexical(pattern: Pattern, corpus: Corpus) -> Trial:
    """Try a lexical pattern on its own hits and misses and on the corpus.

    Raises:
        PatternError: Hyperscan cannot take it.
    """
    scanner = Lexical([pattern])
    origin = Origin(sorted(pattern.origins)[0]) if pattern.origins else Origin.USER

    def finds(text: str) -> bool:
        return bool(scanner.scan(text, origin).matches)

    caught = sum(map(finds, pattern.hits))
    wrong = [text for text in pattern.misses if finds(text)]
    alarms = [text for text in corpus.harmless if finds(text)]
    against = []
    if caught < len(pattern.hits):
        against.append(f"it finds {caught} of its {len(pattern.hits)} hits")
    if wrong:
        against.append(f"it finds {len(wrong)} of its {len(pattern.misses)} misses")
    against += _bounded("harmless texts would be stopped", len(alarms), len(corpus.harmless), FALSE_ALARM_BOUND)
    return Trial(len(pattern.hits), caught, len(corpus.harmless), len(alarms), 0, 0, FALSE_ALARM_BOUND, 0.0,
                 tuple(text[:200] for text in (*wrong, *alarms)[:5]), tuple(against))  # fmt: skip


def without(pattern: Pattern, corpus: Corpus) -> Trial:
    """What retiring or narrowing a lexical pattern would cost: the known attacks that it finds.

    An upper bound: other stages may find them as well.
    """
    scanner = Lexical([pattern])
    origin = Origin(sorted(pattern.origins)[0]) if pattern.origins else Origin.USER
    lost = [text for text in corpus.hostile if scanner.scan(text, origin).matches]
    kept = [text for text in corpus.harmless if scanner.scan(text, origin).matches]
    against = _bounded("known attacks are found by it", len(lost), len(corpus.hostile), LOSS_BOUND)
    return Trial(0, 0, len(corpus.harmless), len(kept), len(corpus.hostile), len(lost), 0.0, LOSS_BOUND,
                 tuple(text[:200] for text in lost[:5]), tuple(against))  # fmt: skip


def _bounded(what: str, count: int, of: int, bound: float) -> list[str]:
    if count <= bound * of:
        return []
    return [f"{count} of {of} {what} ({count / of:.2%}); the bound is {bound:.2%}"]


def left(kind: Kind, standing: Sequence[Prototype], background: Background) -> tuple[npt.NDArray[np.bool_], int]:
    """Which texts of a background (n,) the learnt exemplars of a kind reach already, and how many more they may reach."""
    reached = _reached(kind, standing, background)
    bound = ALL_FALSE_ALARMS if kind is Kind.SEMANTIC else ALL_LOSS
    return reached, max(0, int(bound * len(reached)) - int(reached.sum()))


def _reached(
    kind: Kind, standing: Sequence[Prototype], background: Background, but: str = ""
) -> npt.NDArray[np.bool_]:
    """Which texts the learnt exemplars of a kind come near, the one with the id ``but`` aside."""
    found = np.zeros(len(background.vectors), np.bool_)
    for one in standing:
        if one.pattern.kind is kind and one.pattern.id != but:
            found |= one.reached(background.vectors, background.quoting)
    return found


def _together(what: str, hit: npt.NDArray[np.bool_], before: npt.NDArray[np.bool_], bound: float) -> list[str]:
    both = int((hit | before).sum())
    if both <= bound * len(hit) or both == int(before.sum()):
        return []
    return [f"together with what was learnt before, {both} of {len(hit)} {what}; the bound is {bound:.2%}"]


def _shown(texts: Sequence[str], hit: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(texts[at][:200] for at in np.flatnonzero(hit[: len(texts)])[:5].tolist())
