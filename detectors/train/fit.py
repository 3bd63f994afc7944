"""Fine-tune the encoder: a loss per origin's head, a contrastive one on the embedding, one on the category."""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from detectors.train import vocabulary
from detectors.train.generate import Example
from detectors.train.model import ATTACKS, Encoder

MAX_TOKENS: Final = 128
"""Tokens in a window at most; serving cuts a window again where it has more."""

FROZEN: Final = 1
DECAY: Final = 0.85
WARM_UP: Final = 0.06
SMOOTHING: Final = 0.02
"""Labels are 0.02 and 0.98: some are wrong."""

TAUGHT: Final = 0.5
"""Share of a target that a teacher says, where there is one; the rest is the label."""

STEADY: Final = 16
"""Steady windows added to each step: the encoder is to go on saying of them what it said before."""

SAME: Final = 3.0
"""What one minus the cosine of a steady window's embeddings, before and now, counts for."""

CONTRAST: Final = 0.15
CATEGORY: Final = 0.15
TEMPERATURE: Final = 0.1
SAVE_EVERY_S: Final = 300.0
SHOW_EVERY: Final = 25
KINDS: Final = {"direct_injection": "prompt_injection", "indirect_injection": "prompt_injection"}
MASK: Final = 103
"""The vocabulary's mark for a word left out; marks come before all words."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What encoders trained on the same windows differ in.

    Attributes:
        rate: highest step of the layer next to the heads.
        batch: windows in a step.
        lost_words: share of words left out at random, so that no single one decides.
        perturb: how far, per word, vectors are pushed to where they mislead most (Miyato et al. 2017); 0 is not at all.
        heads: highest step of the heads.
    """

    rate: float = 7e-5
    batch: int = 48
    lost_words: float = 0.0
    perturb: float = 0.0
    heads: float = 1e-3


PLAIN: Final = Recipe()


def tokenizer() -> Tokenizer:
    """The tokenizer that ships, cut at `MAX_TOKENS`, without padding."""
    made = Tokenizer.from_str(vocabulary.tokenizer_json())
    made.enable_truncation(MAX_TOKENS)
    made.no_padding()
    return made


@dataclass(frozen=True, slots=True)
class Corpus:
    """Training windows as tensors: ``ids`` (windows, MAX_TOKENS) with zeros behind ``lengths`` (windows,), ``labels``
    (windows, origins) as in `Example` and ``targets``, what the heads are to say; ``weights`` and ``categories``
    (windows,), the latter -100 where there is none."""

    ids: Tensor
    lengths: Tensor
    labels: Tensor
    targets: Tensor
    weights: Tensor
    categories: Tensor

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Corpus:
        """Cut examples to tokens; the targets are their labels, less `SMOOTHING`."""
        encodings = tokenizer().encode_batch([example.text for example in examples])
        ids = torch.zeros(len(examples), MAX_TOKENS, dtype=torch.int32)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = torch.tensor(encoding.ids, dtype=torch.int32)
        labels = torch.tensor([e.labels for e in examples])
        return cls(ids, (ids != 0).sum(1), labels, smoothed(labels), torch.tensor([e.weight for e in examples]),
                   torch.tensor([_category(e) for e in examples]))

    def taught(self, said: Tensor) -> Corpus:
        """The same windows with targets half way to what a teacher says, probabilities (windows, origins)."""
        return replace(self, targets=(1 - TAUGHT) * smoothed(self.labels) + TAUGHT * said)

    def to(self, device: torch.device) -> Corpus:
        """The same on a device."""
        return Corpus(*(getattr(self, field.name).to(device) for field in fields(self)))


def smoothed(labels: Tensor) -> Tensor:
    """Labels as targets; unknown ones count for nothing, whatever they become."""
    return labels.clamp(min=0) * (1 - 2 * SMOOTHING) + SMOOTHING


def fit(
    corpus: Corpus, seed: int, minutes: float, checkpoint: Path, start: Encoder | None = None, passes: int = 1,
    recipe: Recipe = PLAIN, steady: Corpus | None = None,
) -> Encoder:
    """Train for ``passes`` over the windows or for ``minutes``, whichever ends first, and return the encoder.

    Training begins at ``start``, or at the base model with fresh heads. Of the windows ``steady`` the encoder is to go on
    saying what ``start`` says (Li and Hoiem 2016, Learning without Forgetting); their labels count for nothing.

    The rate follows time or data, whichever is further, so that it has come down when training ends. A run that was
    stopped goes on from ``checkpoint``, written every five minutes and removed at the end.
    """
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = (start or Encoder.from_base()).to(device)
    groups = _groups(encoder, recipe)
    base = [group["lr"] for group in groups]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    corpus = corpus.to(device)
    batches = _batches(corpus.lengths.tolist(), random.Random(seed), passes, recipe.batch)
    # What it says now, before a checkpoint takes the place of its weights.
    aside = None if steady is None else _steadied(encoder, steady.to(device), seed, len(batches))
    first, spent = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        encoder.load_state_dict(saved["encoder"])
        optimiser.load_state_dict(saved["optimiser"])
        first, spent = saved["step"], saved["spent"]
    encoder.train()
    trained = [parameter for group in groups for parameter in group["params"]]
    began = saved_at = time.monotonic()
    for step in range(first, len(batches)):
        now = time.monotonic()
        elapsed = spent + now - began
        done = max(step / len(batches), elapsed / (minutes * 60))
        if done >= 1:
            break
        for group, rate in zip(optimiser.param_groups, base, strict=True):
            group["lr"] = rate * min(done / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * done)) + 1e-7
        loss = _hardened(encoder, _batch(corpus, batches[step], recipe.lost_words), recipe.perturb)
        if aside:
            loss = loss + aside(encoder, step)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step % SHOW_EVERY == 0:
            print(f"step {step}/{len(batches)}  {done:5.1%}  {elapsed / 60:5.1f} min  loss {loss.item():.3f}", flush=True)
        if now - saved_at > SAVE_EVERY_S:
            state = {"encoder": encoder.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1,
                     "spent": elapsed}
            torch.save(state, checkpoint)
            saved_at = now
    checkpoint.unlink(missing_ok=True)
    return encoder.cpu().eval()


def _steadied(start: Encoder, windows: Corpus, seed: int, steps: int) -> Callable[[Encoder, int], Tensor]:
    """What an encoder loses at each step by saying something else of some of the windows than ``start`` says."""
    teacher = copy.deepcopy(start).eval().requires_grad_(False)
    order = random.Random(seed)
    passes = steps * STEADY // len(windows.lengths) + 1
    batches = _batches(windows.lengths.tolist(), order, passes, STEADY)

    def loss(encoder: Encoder, step: int) -> Tensor:
        batch = _batch(windows, batches[step], 0.0)
        mask = _mask(batch)
        with torch.no_grad():
            wanted, said, _ = teacher(batch.ids, mask)
        embedding, logits, _ = encoder(batch.ids, mask)
        moved = 1 - (embedding * wanted).sum(1).mean()
        return SAME * moved + nn.functional.binary_cross_entropy_with_logits(logits, said.sigmoid())

    return loss


def _groups(encoder: Encoder, recipe: Recipe) -> list[dict[str, Any]]:
    """What is trained and how fast: the heads fastest, the layers slower the nearer they are to the words.

    The word vectors and the first `FROZEN` layers stay as they were pretrained: rare words keep their place beside common
    ones, and a step costs a fifth less.
    """
    groups: list[dict[str, Any]] = []
    for part in (encoder.words, encoder.positions, encoder.norm, *list(encoder.layers)[:FROZEN]):
        part.requires_grad_(False)
    for depth, layer in enumerate(list(encoder.layers)[FROZEN:], FROZEN):
        groups.append({"params": list(layer.parameters()), "lr": recipe.rate * DECAY ** (len(encoder.layers) - 1 - depth)})
    heads = [*encoder.hidden.parameters(), *encoder.origins.parameters(), *encoder.categories.parameters()]
    return [*groups, {"params": heads, "lr": recipe.heads}]


def _half(device: torch.device) -> bool:
    """Whether bfloat16 is faster than fp32 here: on a GPU, and on processors that multiply it."""
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _batches(lengths: Sequence[int], rng: random.Random, passes: int, size: int) -> list[list[int]]:
    """For each step the windows to train on: texts of about one length, in random order, all once a pass."""
    stretch = size * 60  # sorted by length within stretches: little padding, and still mixed
    batches: list[list[int]] = []
    for _ in range(passes):
        order = list(range(len(lengths)))
        rng.shuffle(order)
        groups: list[list[int]] = []
        for start in range(0, len(order), stretch):
            part = sorted(order[start : start + stretch], key=lambda i: lengths[i])
            groups.extend(part[at : at + size] for at in range(0, len(part), size))
        rng.shuffle(groups)
        batches.extend(groups)
    return batches


def _batch(corpus: Corpus, chosen: Sequence[int], lost_words: float) -> Corpus:
    """The chosen windows, as long as the longest of them, some words left out."""
    rows = torch.tensor(chosen).to(corpus.ids.device)
    batch = Corpus(*(getattr(corpus, field.name)[rows] for field in fields(corpus)))
    ids = batch.ids[:, : int(batch.lengths.max())].long()
    lost = (torch.rand(ids.shape, device=ids.device) < lost_words) & (ids > MASK)
    return replace(batch, ids=torch.where(lost, MASK, ids))


def _mask(batch: Corpus) -> Tensor:
    return (torch.arange(batch.ids.shape[1], device=batch.ids.device) < batch.lengths[:, None]).float()


def _category(example: Example) -> int:
    name = KINDS.get(example.category, example.category).partition(".")[0]
    return ATTACKS.index(name) if name in ATTACKS and max(example.labels) == 1.0 else -100


def _hardened(encoder: Encoder, batch: Corpus, perturb: float) -> Tensor:
    """The loss; with ``perturb``, the mean of it and of the loss when word vectors are pushed to where it rises most."""
    if not perturb:
        return _loss(encoder, batch)
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: Any, vectors: Tensor) -> Tensor:
        kept.append(vectors.detach().requires_grad_())
        return kept[0]

    def push(_: nn.Module, __: Any, vectors: Tensor) -> Tensor:
        return vectors + step

    hook = encoder.norm.register_forward_hook(keep)
    plain = _loss(encoder, batch)
    hook.remove()
    slope, = torch.autograd.grad(plain, kept, retain_graph=True)
    size = slope.flatten(1).norm(dim=1) + 1e-12
    step = slope * (perturb * batch.lengths.sqrt() / size)[:, None, None]
    hook = encoder.norm.register_forward_hook(push)
    pushed = _loss(encoder, batch)
    hook.remove()
    return 0.5 * (plain + pushed)


def _loss(encoder: Encoder, batch: Corpus) -> Tensor:
    device = batch.ids.device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=_half(device)):
        embedding, logits, category = encoder(batch.ids, _mask(batch))
    known = (batch.labels >= 0) * batch.weights[:, None]
    losses = nn.functional.binary_cross_entropy_with_logits(logits.float(), batch.targets, reduction="none")
    # Each text counts once, however many origins have a say.
    loss = ((losses * known).sum(1) / (batch.labels >= 0).sum(1).clamp(min=1)).sum() / batch.weights.sum()
    loss = loss + CONTRAST * _contrast(embedding.float(), batch.labels)
    named = (batch.categories >= 0).sum().clamp(min=1)
    chosen = nn.functional.cross_entropy(category.float(), batch.categories, ignore_index=-100, reduction="sum")
    return loss + CATEGORY * chosen / named


def _contrast(embedding: Tensor, wanted: Tensor) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020): hostile from anyone, planted, and harmless lie apart."""
    hostile = (wanted == 1).any(1).long()
    sort = hostile + (hostile.bool() & (wanted[:, 1] != 1)).long()
    same = (sort[:, None] == sort[None, :]).float().fill_diagonal_(0)
    near = embedding @ embedding.T / TEMPERATURE
    near = near.masked_fill(torch.eye(len(near), dtype=torch.bool, device=near.device), -1e4)
    likely = near - near.logsumexp(1, keepdim=True)
    return -((likely * same).sum(1) / same.sum(1).clamp(min=1)).mean()
