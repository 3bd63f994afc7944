"""Learning: families of attacks and false alarms that the shipped model never saw, a few labels each, and what they teach.

Everything runs as in the gateway (quorum, groups, proposals, trials, demotion, prototypes, the cascade, ``balanced``) but for
people. Labels are those of four analysts in turn; where a fifth of them is hostile, they are a fifth analyst's. A proposal that
passes its trial is approved by somebody who does not look at it, or acts by ``learning.automatic``, which asks that two people
labelled alike. Windows are encoded once, since what was learnt does not change their embeddings.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from bench import five_labels
from bench.causes import explain
from bench.five_labels import LABELS
from bench.machine import machine, versions
from bench.report import Goal, finish, table
from bench.school import HONEST, Bench, Said, School, Text
from detectors.semantic.learnt import views
from detectors.train.exemplars import own_pools
from detectors.train.generate import Example, Generator
from detectors.train.grammar import Grammar
from detectors.values import Origin
from gateway.learning.promotion import Rules
from gateway.learning.tuner import Tuner
from gateway.learning.tuning import Tuning
from gateway.learning.values import Outcome, Proposal
from patterns.schema import Kind, Pattern

NAME: Final = "learning"
HELP: Final = "held-out families: what five labels teach, ten weeks of it, and hostile labels"
FAMILIES: Final = Path(__file__).parent / "families"
SETS: Final = ("later", "third", "fourth")
"""Families that nothing was chosen on when they were written, by the beginning of their sections' names."""

TUNING: Final = "tuning"
"""Those that constants may be chosen on, the attacks with harmless twins about the same things: no other figure is of them."""

MEMBERS: Final = 60
OUTSIDE: Final = {
    "reviewer_note", "ranking_bias", "bank_details", "calendar_plant", "changelog_plant", "survey_plant", "delivery_manifest",
    "lab_result_plant", "smart_home_plant", "recipe_card_plant", "job_advert_plant", "podcast_plant", "minutes_plant",
}  # fmt: skip
"""Attack families that are planted in documents; all others are said by users."""

HOSTILE: Final = "eve"

SEED: Final = 424_242
"""Of the ordinary texts: another than that of the shipped exemplars, which trials are held on."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ordinary", type=int, default=1500, help="harmless texts to count false positives on")
    parser.add_argument("--liars", type=int, default=5, help="draws of hostile labels (default: 5)")
    parser.add_argument("--cache", type=Path, default=Path("var"), help="a folder with compiled patterns")
    parser.add_argument("--causes", choices=("first", *SETS, TUNING), help="say only why members of these are not reached")
    parser.add_argument("--five-labels", action="store_true", help="say only what five labels teach")
    parser.add_argument("--plot", type=Path, help="draw the ten weeks into this file (PNG)")
    parser.add_argument("--json", type=Path, help="write the last line there too")


def run(arguments: argparse.Namespace) -> int:
    bench = Bench(arguments.cache)
    figures: dict[str, float] = {}
    if arguments.causes:
        for kind, outcome in (("attack", Outcome.FALSE_NEGATIVE), ("benign", Outcome.FALSE_POSITIVE)):
            explain(bench, _families(f"{arguments.causes}_{kind}.".removeprefix("first_")), LABELS, outcome, figures)
        finish(NAME, machine(), versions(), figures, [], arguments.json)
        return 0
    attacks, alarms = _families("attack."), _families("benign.")
    ordinary = _ordinary(arguments.ordinary)
    lookalikes = [text for texts in alarms.values() for text in texts]
    known = _known_attacks(600)
    goals: list[Goal] = []
    goals += five_labels.attacks(bench, attacks, ordinary, lookalikes, figures)
    goals += five_labels.alarms(bench, alarms, known, figures)
    liars = 0 if arguments.five_labels else arguments.liars
    if liars:
        goals += _weeks(bench, attacks, ordinary, figures, arguments.plot, liars)
    for name in SETS:
        goals += _unseen(bench, name, ordinary, known, liars, figures)
    if liars:
        goals += _times(bench, attacks, alarms, figures)
        _corrections(bench, attacks, alarms, ordinary, known, arguments.cache, figures)
    finish(NAME, machine(), versions(), figures, goals, arguments.json)
    return 0 if all(goal.met for goal in goals) else 1


def _unseen(
    bench: Bench, which: str, ordinary: Sequence[Text], known: Sequence[Text], liars: int, figures: dict[str, float]
) -> list[Goal]:
    """The same on families that were written when all that learns stood, and that nothing was chosen on."""
    attacks, alarms = _families(f"{which}_attack."), _families(f"{which}_benign.")
    found: dict[str, float] = {}
    lookalikes = [text for texts in alarms.values() for text in texts]
    print(f"\nFamilies that nothing was chosen on: {which}\n")
    goals = five_labels.attacks(bench, attacks, ordinary, lookalikes, found) + five_labels.alarms(bench, alarms, known, found)
    if liars:
        goals += _weeks(bench, attacks, ordinary, found, None, liars)
    figures |= {f"{which}: {name}": value for name, value in found.items()}
    return [goal._replace(name=f"{which}_{goal.name}") for goal in goals]


def _weeks(
    bench: Bench, attacks: dict[str, list[Text]], ordinary: Sequence[Text], figures: dict[str, float], plot: Path | None,
    liars: int,
) -> list[Goal]:  # fmt: skip
    """Ten weeks, each with a new attack family, honest labellers alone and with a fifth of the labels hostile.

    What a liar chooses to lie about decides much of the damage, so it is drawn ``liars`` times, and the worst is told. One who
    has a new name each week is never known for his lies before.
    """
    unseen = [text for texts in attacks.values() for text in texts[LABELS * 4 :]]
    lies = [text for text in _ordinary(len(ordinary), SEED + 1) if text not in ordinary]
    before = bench.share(bench.base, unseen), bench.share(bench.base, ordinary)
    curves: dict[str, list[tuple[float, float]]] = {}
    for kind, rules in (("approved unread", None), ("automatic", Rules(automatic=True))):
        honest = _ten_weeks(bench, attacks, unseen, ordinary, rules, [], 0)
        hostile = [_ten_weeks(bench, attacks, unseen, ordinary, rules, lies, SEED + at) for at in range(liars)]
        curves[kind] = [before, *honest]
        curves[f"{kind}, a fifth hostile"] = [before, *(_middle(week) for week in zip(*hostile, strict=True))]
        name = "automatic" if rules else "hostile"
        lost = [100 * (honest[-1][0] - one[-1][0]) for one in hostile]
        added = [100 * (one[-1][1] - honest[-1][1]) for one in hostile]
        if rules is None:
            renamed = [_ten_weeks(bench, attacks, unseen, ordinary, None, lies, SEED + at, True) for at in range(liars)]
            points = [100 * (honest[-1][0] - one[-1][0]) for one in renamed]
            figures |= {"renamed_recall_lost": _mean(points), "renamed_recall_lost_worst": max(points)}
        for what, points in (("recall_lost", lost), ("false_positives_added", added)):
            figures |= {f"{name}_{what}": _mean(points), f"{name}_{what}_worst": max(points)}
    together = enumerate(zip(*curves.values(), strict=True))
    rows = [(week, *(100 * value for pair in pairs for value in pair)) for week, pairs in together]
    print(table("Ten weeks, one new family each: members never labelled that are stopped, and false positives, in percent; with"
                f" hostile labels the mean of {liars} draws of them",
                ("week", *(f"{what}, {kind}" for kind in curves for what in ("stopped", "FP"))), rows))  # fmt: skip
    unread, unread_fp = curves["approved unread"][-1]
    automatic, automatic_fp = curves["automatic"][-1]
    figures |= {
        "ten_weeks_stopped": 100 * unread, "ten_weeks_false_positives_added": 100 * (unread_fp - before[1]),
        "automatic_stopped": 100 * automatic, "automatic_false_positives": 100 * (automatic_fp - before[1]),
    }  # fmt: skip
    if plot is not None:
        _draw(curves, plot)
    return [
        Goal(f"{name}_points_at_most", figures[name], 2.0)
        for name in ("ten_weeks_false_positives_added", "hostile_recall_lost", "hostile_recall_lost_worst",
                     "hostile_false_positives_added_worst", "automatic_recall_lost_worst",
                     "automatic_false_positives_added_worst")
    ]  # fmt: skip


def _ten_weeks(
    bench: Bench, attacks: dict[str, list[Text]], unseen: Sequence[Text], ordinary: Sequence[Text], rules: Rules | None,
    lies: Sequence[Text], seed: int, renamed: bool = False,
) -> list[tuple[float, float]]:  # fmt: skip
    """After each week, the shares of ``unseen`` and of ``ordinary`` that are stopped. Without ``lies`` nobody is hostile."""
    school, rng = School(bench, rules), random.Random(seed)
    curve = []
    for week, (name, texts) in enumerate(attacks.items()):
        passing = [text for text in texts[: LABELS * 2] if not bench.stopped(school.engine, text)]
        labels = [Said(text, Outcome.FALSE_NEGATIVE, HONEST[at % len(HONEST)]) for at, text in enumerate(passing)]
        if lies:
            targets = texts[LABELS * 2 : LABELS * 4]
            stopped = [text for text in targets if bench.stopped(school.engine, text)]
            by = f"{HOSTILE}{week}" if renamed else HOSTILE
            labels += _hostile(max(2, len(labels) // 4), lies, stopped or targets, by, rng)
            rng.shuffle(labels)
        school.week(labels, f"week{week}-{name}")
        curve.append((bench.share(school.engine, unseen), bench.share(school.engine, ordinary)))
    return curve


def _middle(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The mean of both."""
    return _mean([recall for recall, _ in pairs]), _mean([alarms for _, alarms in pairs])


def _hostile(count: int, harmless: Sequence[Text], attacks: Sequence[Text], by: str, rng: random.Random) -> list[Said]:
    """What a hostile analyst says: half of it that harmless texts are attacks, half that this week's attacks are harmless."""
    lies = [Said(rng.choice(harmless), Outcome.FALSE_NEGATIVE, by) for _ in range(count - count // 2)]
    return lies + [Said(rng.choice(attacks), Outcome.FALSE_POSITIVE, by) for _ in range(count // 2)]


def _times(
    bench: Bench, attacks: dict[str, list[Text]], alarms: dict[str, list[Text]], figures: dict[str, float]
) -> list[Goal]:  # fmt: skip
    """How long from labels to a generation that acts, people's time aside, by kind of proposal; `_corrections` has two more."""
    stopped = [text for text in alarms["awareness_quiz"] if bench.stopped(bench.base, text)][:LABELS]
    standing = next(one for one in bench.base.generation.patterns if one.kind is Kind.REGEX)
    written = replace(standing, id="own.written", body=standing.body + " ?")
    ways: dict[str, Callable[[], dict[str, Pattern]]] = {
        "exemplar": lambda: bench.learn([(text, Outcome.FALSE_NEGATIVE) for text in attacks["game_show"][:LABELS]], "timed"),
        "benign exemplar": lambda: bench.learn([(text, Outcome.FALSE_POSITIVE) for text in stopped], "timed"),
        "exemplar and lexical pattern": lambda: bench.learn(_sharing(bench, attacks), "timed"),
        "narrowed pattern": lambda: _one(bench.teacher.narrow("1", standing, 0.1, 0.0)),
        "retired pattern": lambda: _one(bench.teacher.retire("1", standing, "ada", "", 0.0)),
        "written by hand": lambda: _one(bench.teacher.by_hand("1", written, "ada", "", 0.0, bench.base.generation.patterns)),
    }
    rows: list[tuple[object, ...]] = []
    for kind, make in ways.items():
        began = time.perf_counter()
        made = make()
        proposed = time.perf_counter() - began
        began = time.perf_counter()
        bench.taught(made)
        rows.append((kind, len(made), proposed, 1000 * (time.perf_counter() - began)))
        figures |= {f"{kind}: proposal_seconds": proposed, f"{kind}: acting_ms": float(str(rows[-1][3]))}
    print(table("From labels to acting: groups, proposals and trials, in s; then a generation, in ms",
                ("kind", "patterns", "proposal, s", "acting, ms"), rows))  # fmt: skip
    return [Goal("exemplar_acting_ms_at_most", figures["exemplar: acting_ms"], 2000.0)]


def _one(proposal: Proposal) -> dict[str, Pattern]:
    return {proposal.pattern.id: proposal.pattern}


def _sharing(bench: Bench, attacks: dict[str, list[Text]]) -> list[tuple[Text, Outcome]]:
    """Labelled texts of one family with words that a lexical pattern can be mined from: those most like its first."""
    for texts in attacks.values():
        vectors = np.array([views(bench.model, text.text).embedding for text in texts])
        nearest = np.argsort(-(vectors @ vectors[0]))[:LABELS]
        chosen = [(texts[at], Outcome.FALSE_NEGATIVE) for at in nearest.tolist()]
        if any(one.kind.lexical for one in bench.learn(chosen, "sought").values()):
            return chosen
    raise AssertionError("no family shares words")


def _corrections(
    bench: Bench, attacks: dict[str, list[Text]], alarms: dict[str, list[Text]], ordinary: Sequence[Text],
    known: Sequence[Text], cache: Path, figures: dict[str, float],
) -> None:  # fmt: skip
    """What corrects the model: asked for by labels of all families of users' texts, and what it does to members never shown."""
    sides = [
        ({name: texts for name, texts in families.items() if texts[0].origin is Origin.USER}, attack)
        for families, attack in ((attacks, True), (alarms, False))
    ]
    labelled = [bench.case(text, attack, at) for families, attack in sides for texts in families.values()
                for at, text in enumerate(texts[: MEMBERS // 3])]  # fmt: skip
    unseen = {attack: [text for texts in families.values() for text in texts[MEMBERS // 3 :]] for families, attack in sides}
    tuner = Tuner(bench.teacher, cache / "cache")
    began = time.perf_counter()
    while not tuner.advance():
        pass
    reading = time.perf_counter() - began
    groups = {"attacks unseen": unseen[True], "false alarms unseen": unseen[False], "ordinary": ordinary,
              "known attacks": known}  # fmt: skip
    before = {name: 100 * bench.share(bench.base, texts) for name, texts in groups.items()}
    rows: list[tuple[object, ...]] = [("none", "", float("nan"), float("nan"), *before.values())]
    for work in Tuning(labelled, bench.teacher.labelled(labelled), (), frozenset()).work(tuner.bars("balanced")):
        began = time.perf_counter()
        made = work(tuner, "0" * 32, 0.0, ())
        proposed = time.perf_counter() - began
        assert made.trial is not None
        began = time.perf_counter()
        engine = bench.taught({made.pattern.id: made.pattern})
        acting = time.perf_counter() - began
        after = {name: 100 * bench.share(engine, texts) for name, texts in groups.items()}
        name = made.kind.value
        if made.pattern.kind is Kind.THRESHOLD:
            name += f" {made.pattern.body} {made.pattern.category}"
        rows.append((name, "passed" if made.trial.passed else "failed", proposed, 1000 * acting, *after.values()))
        for what, stopped in after.items():
            figures[f"{name}: {what} stopped"] = stopped
        figures |= {f"{name}: proposal_seconds": proposed, f"{name}: acting_ms": 1000 * acting}
    print(table(f"Corrections of the model that {len(labelled)} labelled texts ask for: stopped with each alone, in percent;"
                f" the corpora were read in {reading:.0f} s",
                ("correction", "trial", "proposal, s", "acting, ms", *groups), rows))  # fmt: skip
    figures |= {f"without corrections: {name} stopped": stopped for name, stopped in before.items()}


def _families(prefix: str) -> dict[str, list[Text]]:
    grammar = Grammar(FAMILIES)
    found: dict[str, list[Text]] = {}
    for section in grammar.sections:
        if section.startswith(prefix):
            name = section.removeprefix(prefix)
            rng = random.Random(section)
            texts: dict[str, str] = {}
            while len(texts) < MEMBERS:
                drawn = random.Random()
                drawn.setstate(rng.getstate())
                text = grammar.text(section, rng)
                texts.setdefault(text, drawn.choice(grammar.sections[section]))
            origin = Origin.DOCUMENT if name in OUTSIDE else Origin.USER
            found[name] = [Text(text, origin, sentence) for text, sentence in texts.items()]
    return found


def _ordinary(count: int, seed: int = SEED) -> list[Text]:
    """Harmless texts of the training grammar under another seed: twins of attacks, documents, orders, system prompts."""
    plan = {"twin": count // 3, "foreign_twin": count // 6, "document": count // 4, "order": count // 4}
    return [Text(one.text, Origin.USER) for one in _draw_own(plan, seed) if max(one.labels) < 1.0]


def _known_attacks(count: int) -> list[Text]:
    return [Text(one.text, Origin.USER) for one in _draw_own({"attack": count}, SEED) if max(one.labels) == 1.0]


def _draw_own(plan: dict[str, int], seed: int) -> list[Example]:
    grammar = Grammar()
    return list(Generator(grammar, own_pools(grammar, seed), seed, held_out=None).draw(plan))


def _draw(curves: dict[str, list[tuple[float, float]]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 5))
    for name, curve in curves.items():
        above.plot([100 * recall for recall, _ in curve], marker="o", label=name)
        below.plot([100 * alarms for _, alarms in curve], marker="o", label=name)
    above.set_ylabel("unseen members stopped, %")
    below.set_ylabel("false positives, %")
    below.set_xlabel("week")
    above.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
