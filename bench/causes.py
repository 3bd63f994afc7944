"""Why what five labels teach does not reach a member of its family: each that is missed, by the first step that failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from bench.report import table
from bench.school import Bench, Text
from detectors.engine import Engine
from detectors.semantic.judge import KNOWN_HARMLESS
from detectors.semantic.prototypes import LEAST_CLOSENESS, LEAST_QUOTED
from detectors.semantic.quotes import quotes
from gateway.learning.values import Outcome
from patterns.schema import Kind

ATTACKS: Final = ("never read", "far: a sentence nobody labelled", "far: a labelled sentence", "another")
"""The encoder was never asked; its closeness is below the reach of all that was learnt, of a sentence of which no wording was
labelled or of one that was; something else."""

ALARMS: Final = ("nothing learnt", "quotes nothing", *ATTACKS[1:3], "an order around it", "a finding outside the marks")
"""No label led to a kind that passed its trial; the text has no quotation, or is nothing else; as above; what stands around its
quotations is judged as an order; something grave was found outside of them, or something critical."""


def explain(
    bench: Bench, families: Mapping[str, Sequence[Text]], labels: int, outcome: Outcome, figures: dict[str, float]
) -> None:
    """Print how many members of each family are missed after ``labels`` labels, by cause; ``figures`` has them altogether.

    The families are of attacks where ``outcome`` is a false negative, else of false alarms.
    """
    attack = outcome is Outcome.FALSE_NEGATIVE
    rows: list[tuple[object, ...]] = []
    names, total = ATTACKS if attack else ALARMS, Counter[str]()
    for name, texts in families.items():
        wrong = [text for text in texts if bench.stopped(bench.base, text) is not attack]
        if not attack and len(wrong) < 2 * labels:
            continue
        labelled = wrong[:labels]
        unseen = [text for text in (texts if attack else wrong) if text not in labelled]
        engine = bench.taught(bench.learn([(text, outcome) for text in labelled], name))
        said = {text.sentence for text in labelled}
        missed = [text for text in unseen if bench.stopped(engine, text) is not attack]
        found = Counter((_attack if attack else _alarm)(bench, engine, text, text.sentence in said) for text in missed)
        least = LEAST_CLOSENESS if attack else LEAST_QUOTED
        asks = [one.pattern.closeness == least for one in engine.cascade.prototypes]
        total += found + Counter({"members": len(unseen), "missed": len(missed), "kinds": len(asks)})
        total += Counter({"kinds that ask for the least closeness": sum(asks)})
        told = sum(text.sentence in said for text in unseen)
        reached = told - sum(text.sentence in said for text in missed)
        total += Counter({"members of labelled sentences": told, "of these reached": reached})
        rows.append((name, len(said), len(unseen), len(missed), *(found[cause] for cause in names)))
    what = "an attack" if attack else "a false-alarm"
    print(table(f"Members of {what} family that {labels} labels do not reach, by cause; sentences are those labelled",
                ("family", "sentences", "unseen", "missed", *names), rows))  # fmt: skip
    figures |= {f"{what} family: {cause}": float(count) for cause, count in total.items()}


def _attack(bench: Bench, engine: Engine, text: Text, told: bool) -> str:
    asked = engine.cascade.screen(text.text, text.origin, [0] * 4).asked
    if not asked:
        return ATTACKS[0]
    if any(_acting(bench, engine, text, one.text) is Kind.SEMANTIC for one in asked):
        return ATTACKS[3]
    return ATTACKS[2] if told else ATTACKS[1]


def _alarm(bench: Bench, engine: Engine, text: Text, told: bool) -> str:
    if not len(engine.cascade.prototypes):
        return ALARMS[0]
    screened = engine.cascade.screen(text.text, text.origin, [0] * 4)
    windows = tuple(one for one in screened.asked if not one.around)
    if not all(quotes(one.text) for one in windows):
        return ALARMS[1]
    if not all(_acting(bench, engine, text, one.text) is Kind.BENIGN for one in windows):
        return ALARMS[3] if told else ALARMS[2]
    unordered = screened._replace(asked=windows, doubt=False)
    verdict = engine.cascade.finish(unordered, [bench.reading(one.text) for one in windows])
    return ALARMS[4] if verdict.score <= KNOWN_HARMLESS else ALARMS[5]


def _acting(bench: Bench, engine: Engine, text: Text, window: str) -> Kind | None:
    """What kind of learnt exemplar is near enough to act on a window, were it to mention what it quotes."""
    near = engine.cascade.prototypes.near(bench.reading(window).embedding, text.origin, window, lambda: True)
    return near.acting.kind if near.acting else None
