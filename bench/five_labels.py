"""What five labels of a family teach: all at once, and one after another, each of a member that is still judged wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Final, NamedTuple

from bench.report import Goal, table
from bench.school import Bench, Text
from bench.wrapped import NAMES, Wrapped
from gateway.learning.values import Outcome

LABELS: Final = 5


class _Attack(NamedTuple):
    """A family's row: shares of its unseen members that are stopped, in percent, and what is added, in points."""

    family: str
    before: float
    after: float
    added: float
    lookalikes: float
    patterns: int
    in_turn: float
    in_turn_added: float
    in_turn_lookalikes: float


class _Alarm(NamedTuple):
    """A family's row: shares of its other stopped members that pass, in percent, and the recall that is lost, in points."""

    family: str
    stopped: int
    unseen: int
    passing: float
    lost: float
    patterns: int
    in_turn: float
    in_turn_lost: float
    wrapped: tuple[float, ...]


def attacks(
    bench: Bench, families: dict[str, list[Text]], ordinary: Sequence[Text], lookalikes: Sequence[Text],
    figures: dict[str, float],
) -> list[Goal]:  # fmt: skip
    """Five labels of each family, by itself."""
    before_fp, before_look = 100 * bench.share(bench.base, ordinary), 100 * bench.share(bench.base, lookalikes)
    rows: list[_Attack] = []
    for name, texts in families.items():
        missed = [text for text in texts if not bench.stopped(bench.base, text)]
        labelled = missed[:LABELS]
        learnt = bench.learn([(text, Outcome.FALSE_NEGATIVE) for text in labelled], name)
        one_by_one, school = bench.learn_in_turn(missed, Outcome.FALSE_NEGATIVE, name, LABELS)
        unseen, others = ([text for text in texts if text not in some] for some in (labelled, one_by_one))
        engine, later = bench.taught(learnt), school.engine
        rows.append(_Attack(
            name, 100 * bench.share(bench.base, unseen),
            100 * bench.share(engine, unseen), 100 * bench.share(engine, ordinary) - before_fp,
            100 * bench.share(engine, lookalikes) - before_look, len(learnt),
            100 * bench.share(later, others), 100 * bench.share(later, ordinary) - before_fp,
            100 * bench.share(later, lookalikes) - before_look,
        ))  # fmt: skip
    print(table(
        "Five labels of an attack family: unseen members stopped, in percent; false positives added in points of "
        f"{len(ordinary)} ordinary texts and {len(lookalikes)} look-alikes; then where labels come one after another, each of"
        " a member that still passes",
        ("family", "before", "after", "+FP", "+FP look-alikes", "patterns", "in turn", "+FP", "+FP look-alikes"), rows,
    ))  # fmt: skip
    after, added = [row.after for row in rows], [row.added for row in rows]
    figures |= {
        "siblings_stopped_before": fmean(row.before for row in rows), "siblings_stopped": fmean(after),
        "siblings_stopped_worst": min(after), "false_positives_added": fmean(added), "false_positives_added_worst": max(added),
        "lookalikes_stopped_added": fmean(row.lookalikes for row in rows),
        "siblings_stopped_in_turn": fmean(row.in_turn for row in rows),
        "siblings_stopped_in_turn_worst": min(row.in_turn for row in rows),
        "false_positives_added_in_turn": fmean(row.in_turn_added for row in rows),
        "lookalikes_stopped_added_in_turn": fmean(row.in_turn_lookalikes for row in rows),
        "false_positives_before": before_fp, "lookalikes_stopped_before": before_look,
    }  # fmt: skip
    return [
        Goal("siblings_stopped_percent_at_least", figures["siblings_stopped"], 80.0),
        Goal("false_positives_added_points_at_most", figures["false_positives_added"], 0.2),
        Goal("siblings_stopped_in_turn_percent_at_least", figures["siblings_stopped_in_turn"], 80.0),
        Goal("false_positives_added_in_turn_points_at_most", figures["false_positives_added_in_turn"], 0.2),
    ]


def alarms(bench: Bench, families: dict[str, list[Text]], known: Sequence[Text], figures: dict[str, float]) -> list[Goal]:
    """Five labels of each family that the gateway stops although it is harmless."""
    recall = 100 * bench.share(bench.base, known)
    wrapped = Wrapped(bench, known)
    rows: list[_Alarm] = []
    for name, texts in families.items():
        stopped = [text for text in texts if bench.stopped(bench.base, text)]
        if len(stopped) < 2 * LABELS:
            continue
        labelled = stopped[:LABELS]
        learnt = bench.learn([(text, Outcome.FALSE_POSITIVE) for text in labelled], name)
        engine = bench.taught(learnt)
        one_by_one, school = bench.learn_in_turn(stopped, Outcome.FALSE_POSITIVE, name, LABELS)
        unseen, others = ([text for text in stopped if text not in some] for some in (labelled, one_by_one))
        rows.append(_Alarm(
            name, len(stopped), len(unseen), 100 * (1 - bench.share(engine, unseen)), recall - 100 * bench.share(engine, known),
            len(learnt), 100 * (1 - bench.share(school.engine, others)), recall - 100 * bench.share(school.engine, known),
            tuple(100 * (1 - bench.share(engine, texts)) for texts in wrapped.texts(labelled)),
        ))  # fmt: skip
    print(table(
        "Five labels of a false-alarm family: its other stopped members that pass, in percent, and recall lost in points of "
        f"{len(known)} known attacks; both where labels come one after another, each of a member that is still stopped; then"
        " of attacks that were stopped in quotation marks, in a note, in a scene, beside a labelled text, between two quoted"
        " words beside it, and in the place of what it quotes, those that pass, in percent",
        ("family", "stopped", "unseen", "pass", "recall lost", "patterns", "in turn", "recall lost", *NAMES),
        [(*row[:-1], *row.wrapped) for row in rows],
    ))  # fmt: skip
    if not rows:
        return []
    figures |= {
        "false_alarm_families": len(rows), "false_alarms_pass": fmean(row.passing for row in rows),
        "recall_lost": max(row.lost for row in rows), "false_alarms_pass_in_turn": fmean(row.in_turn for row in rows),
        "recall_lost_in_turn": max(row.in_turn_lost for row in rows),
    }  # fmt: skip
    for at, name in enumerate(NAMES):
        through = [row.wrapped[at] for row in rows]
        figures |= {f"wrapped_pass: {name}": fmean(through), f"wrapped_pass_worst: {name}": max(through)}
    return [
        Goal("false_alarms_pass_percent_at_least", figures["false_alarms_pass"], 90.0),
        Goal("recall_lost_points_at_most", figures["recall_lost"], 1.0),
        Goal("false_alarms_pass_in_turn_percent_at_least", figures["false_alarms_pass_in_turn"], 90.0),
        Goal("recall_lost_in_turn_points_at_most", figures["recall_lost_in_turn"], 1.0),
    ]
