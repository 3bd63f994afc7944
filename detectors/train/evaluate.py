"""The figures of the folds, for people (Markdown, the model card's tables) and for machines."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.figures import auc, bootstrap, recall_at, reliability
from detectors.train import calibrate
from detectors.values import Origin

GROUPS: Final = {
    "all": None,
    "users (attacks, ordinary and hard benign)": ("user",),
    "documents and tool results": ("document", "tool_result"),
    "system prompts and tool definitions": ("system", "tool_definition"),
}

Mask = npt.NDArray[np.bool_]


def figures(texts: calibrate.Texts, made: dict[str, Any]) -> dict[str, Any]:
    """Everything that the model card states, as one mapping that JSON can hold.

    What is added for some origins by a direction among the shipped encoder's embeddings is not in them, since the folds' lie
    elsewhere. An assistant's words are judged by theirs alone, and left out: `detectors.train.replies` has their figures.
    """
    texts = texts.without((Origin.ASSISTANT.value,))
    scores = calibrate.probabilities(texts, made)
    shared = ~np.char.startswith(texts.sources, "own:")
    flagged_texts = calibrate.flagged(texts, scores, made["thresholds"]["balanced"])
    found: dict[str, Any] = {"groups": {}, "sources": [], "own": [], "languages": [], "stages": {}}
    for name, origins in GROUPS.items():
        for part, mask in (("shared", shared), ("own", ~shared)):
            chosen = mask if origins is None else mask & np.isin(texts.origins, origins)
            if _both(texts, chosen):
                found["groups"][f"{name}, {part} sources"] = _group(scores[chosen], texts.labels[chosen])
    for source, kind in sorted(set(zip(texts.sources.tolist(), texts.kinds.tolist(), strict=True))):
        chosen = (texts.sources == source) & (texts.kinds == kind)
        label = int(texts.labels[chosen][0])
        share = float(flagged_texts[chosen].mean())
        right = share if label else 1 - share
        row = {"source": source, "kind": kind, "texts": int(chosen.sum()), "right": right}
        found["own" if source.startswith("own:") else "sources"].append(row)
    for lang in sorted(set(texts.langs.tolist())):
        chosen = (texts.langs == lang) & np.isin(texts.origins, ("user", "document"))
        if _both(texts, chosen) and (texts.labels[chosen] == 1).sum() >= 20:
            part_scores, part_labels = scores[chosen], texts.labels[chosen]
            found["languages"].append({
                "lang": lang, "attacks": int(part_labels.sum()), "auc": auc(part_scores, part_labels),
                "recall": float(flagged_texts[chosen][part_labels == 1].mean()),
                "false_positives": float(flagged_texts[chosen][part_labels == 0].mean()),
            })
    settled = calibrate.settled(texts, made)
    ordinary = (texts.labels == 0) & np.isin(texts.kinds, ("benign", "benign_document", "pii")) & shared
    hard = (texts.labels == 0) & (texts.kinds == "benign_hard")
    found["stages"] = {
        "ordinary_settled_by_front": float(settled[ordinary].mean()),
        "hard_settled_by_front": float(settled[hard].mean()),
        "attacks_lost_in_front": float(settled[(texts.labels == 1) & shared].mean()),
        "front_alone_auc": auc(texts.fast[shared], texts.labels[shared]),
    }
    found["right_at_balanced"] = {
        "thresholds": made["thresholds"]["balanced"], "ordinary": 1 - float(flagged_texts[ordinary].mean()),
        "hard": 1 - float(flagged_texts[hard].mean()),
        "attacks": float(flagged_texts[(texts.labels == 1) & shared].mean()),
    }
    found["reliability"] = reliability(scores[shared], texts.labels[shared])
    return found


def _both(texts: calibrate.Texts, chosen: Mask) -> bool:
    return bool(chosen.any()) and 0 < texts.labels[chosen].sum() < chosen.sum()


def _group(scores: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    return {
        "attacks": int(labels.sum()), "benign": int((labels == 0).sum()),
        "auc": tuple(bootstrap("auc", scores, labels)), "recall_1": tuple(bootstrap("recall", scores, labels, 0.01)),
        "recall_01": tuple(bootstrap("recall", scores, labels, 0.001)), "recall_5": recall_at(scores, labels, 0.05),
    }


def markdown(found: dict[str, Any]) -> str:
    """The figures as Markdown tables."""
    lines = ["| texts | attacks | benign | AUC | recall at 1 % FP | recall at 0.1 % FP |", "|---|---|---|---|---|---|"]
    for name, g in found["groups"].items():
        lines.append(f"| {name} | {g['attacks']} | {g['benign']} | {_show(g['auc'])} | {_show(g['recall_1'])} |"
                     f" {_show(g['recall_01'])} |")
    at, stages = found["right_at_balanced"], found["stages"]
    lines += [
        "", "Thresholds of `balanced`: " + ", ".join(f"{o} {t:.3f}" for o, t in at["thresholds"].items()) + ".",
        f"At them: ordinary benign right {at['ordinary']:.1%},"
        f" hard benign right {at['hard']:.1%}, attacks found {at['attacks']:.1%}.",
        f"The front stage alone settles {stages['ordinary_settled_by_front']:.1%} of ordinary and"
        f" {stages['hard_settled_by_front']:.1%} of hard benign texts, and loses"
        f" {stages['attacks_lost_in_front']:.1%} of attacks; its own AUC is {stages['front_alone_auc']:.3f}.",
        "", "| source | kind | texts | right at `balanced` |", "|---|---|---|---|",
    ]
    lines += [f"| {r['source']} | {r['kind']} | {r['texts']} | {r['right']:.1%} |" for r in found["sources"] + found["own"]]
    lines += ["", "| language | attacks | AUC | recall | false positives |", "|---|---|---|---|---|"]
    lines += [f"| {r['lang']} | {r['attacks']} | {r['auc']:.3f} | {r['recall']:.1%} | {r['false_positives']:.1%} |"
              for r in found["languages"]]
    lines += ["", "| mean score | share of attacks | texts |", "|---|---|---|"]
    lines += [f"| {mean:.2f} | {share:.2f} | {count} |" for mean, share, count in found["reliability"]]
    return "\n".join(lines) + "\n"


def _show(interval: Any) -> str:
    value, low, high = interval
    return f"{value:.3f} ({low:.3f}–{high:.3f})"
