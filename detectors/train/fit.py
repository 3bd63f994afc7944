"""Fine-tune the encoder: a loss per origin's head, a contrastive one on the embedding, one on the category."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from detectors.train.generate import Example
from detectors.train.model import ATTACKS, Encoder, base_folder

MAX_TOKENS: Final = 128
"""Tokens in a window at most; serving cuts a window again where it has more."""

BATCH: Final = 48
RATE: Final = 7e-5
HEAD_RATE: Final = 1e-3
FROZEN: Final = 1
DECAY: Final = 0.85
WARM_UP: Final = 0.06
SMOOTHING: Final = 0.02
"""Labels are 0.02 and 0.98: some are wrong."""

CONTRAST: Final = 0.15
CATEGORY: Final = 0.15
TEMPERATURE: Final = 0.1
SAVE_EVERY_S: Final = 300.0
KINDS: Final = {"direct_injection": "prompt_injection", "indirect_injection": "prompt_injection"}


def tokenizer() -> Tokenizer:
    """The base model's tokenizer, cut at `MAX_TOKENS`, without padding."""
    made = Tokenizer.from_file(str(base_folder() / "tokenizer.json"))
    made.enable_truncation(MAX_TOKENS)
    made.no_padding()
    return made


def fit(
    examples: Sequence[Example], seed: int, minutes: float, checkpoint: Path, start: Encoder | None = None
) -> Encoder:
    """Train for one pass over the examples or for ``minutes``, whichever ends first, and return the encoder.

    Training begins at ``start``, or at the base model with fresh heads.

    The rate follows time or data, whichever is further, so that it has come down when training ends. A run that was
    stopped goes on from ``checkpoint``, written every two minutes and removed at the end.
    """
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = (start or Encoder.from_base()).to(device)
    groups = _groups(encoder)
    base = [group["lr"] for group in groups]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    batches = list(_batches(examples, random.Random(seed)))
    first, spent = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        encoder.load_state_dict(saved["encoder"])
        optimiser.load_state_dict(saved["optimiser"])
        first, spent = saved["step"], saved["spent"]
    encoder.train()
    began = saved_at = time.monotonic()
    shown = 0.0
    for step in range(first, len(batches)):
        now = time.monotonic()
        elapsed = spent + now - began
        done = max(step / len(batches), elapsed / (minutes * 60))
        if done >= 1:
            break
        for group, rate in zip(optimiser.param_groups, base, strict=True):
            group["lr"] = rate * min(done / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * done)) + 1e-7
        loss = _loss(encoder, batches[step], device)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([p for p in encoder.parameters() if p.grad is not None], 1.0)
        optimiser.step()
        optimiser.zero_grad()
        shown = 0.98 * shown + 0.02 * loss.item() if step > first else loss.item()
        if step % 25 == 0:
            print(f"step {step}/{len(batches)}  {done:5.1%}  {elapsed / 60:5.1f} min  loss {shown:.3f}", flush=True)
        if now - saved_at > SAVE_EVERY_S:
            state = {"encoder": encoder.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1,
                     "spent": elapsed}
            torch.save(state, checkpoint)
            saved_at = now
    checkpoint.unlink(missing_ok=True)
    return encoder.cpu().eval()


def _groups(encoder: Encoder) -> list[dict[str, Any]]:
    """What is trained and how fast: the heads fastest, the layers slower the nearer they are to the words.

    The word vectors and the first `FROZEN` layers stay as they were pretrained: rare words keep their place beside common
    ones, and a step costs a fifth less.
    """
    groups: list[dict[str, Any]] = []
    for part in (encoder.words, encoder.positions, encoder.norm, *list(encoder.layers)[:FROZEN]):
        part.requires_grad_(False)
    for depth, layer in enumerate(list(encoder.layers)[FROZEN:], FROZEN):
        groups.append({"params": list(layer.parameters()), "lr": RATE * DECAY ** (len(encoder.layers) - 1 - depth)})
    heads = [*encoder.hidden.parameters(), *encoder.origins.parameters(), *encoder.categories.parameters()]
    return [*groups, {"params": heads, "lr": HEAD_RATE}]


def _half(device: torch.device) -> bool:
    """Whether bfloat16 is faster than fp32 here: on a GPU, and on processors that multiply it."""
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _batches(examples: Sequence[Example], rng: random.Random) -> Iterator[Batch]:
    """Batches of texts of about one length, in random order: (ids, mask, labels, weights, categories)."""
    encodings = tokenizer().encode_batch([example.text for example in examples])
    order = list(range(len(examples)))
    rng.shuffle(order)
    stretch = BATCH * 60  # sorted by length within stretches: little padding, and still mixed
    groups: list[list[int]] = []
    for start in range(0, len(order), stretch):
        part = sorted(order[start : start + stretch], key=lambda i: len(encodings[i].ids))
        groups.extend(part[at : at + BATCH] for at in range(0, len(part), BATCH))
    rng.shuffle(groups)
    for group in groups:
        longest = max(len(encodings[i].ids) for i in group)
        ids = torch.zeros(len(group), longest, dtype=torch.long)
        mask = torch.zeros(len(group), longest)
        for row, i in enumerate(group):
            count = len(encodings[i].ids)
            ids[row, :count] = torch.tensor(encodings[i].ids)
            mask[row, :count] = 1.0
        yield (ids, mask, torch.tensor([examples[i].labels for i in group]),
               torch.tensor([examples[i].weight for i in group]), torch.tensor([_category(examples[i]) for i in group]))


def _category(example: Example) -> int:
    name = KINDS.get(example.category, example.category).partition(".")[0]
    return ATTACKS.index(name) if name in ATTACKS and max(example.labels) == 1.0 else -100


def _loss(encoder: Encoder, batch: Batch, device: torch.device) -> Tensor:
    ids, mask, wanted, weights, categories = (part.to(device) for part in batch)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=_half(device)):
        embedding, logits, category = encoder(ids, mask)
    known = (wanted >= 0) * weights[:, None]
    smooth = wanted.clamp(min=0) * (1 - 2 * SMOOTHING) + SMOOTHING
    losses = nn.functional.binary_cross_entropy_with_logits(logits.float(), smooth, reduction="none")
    # Each text counts once, however many origins have a say.
    loss = ((losses * known).sum(1) / (wanted >= 0).sum(1).clamp(min=1)).sum() / weights.sum()
    loss = loss + CONTRAST * _contrast(embedding.float(), wanted)
    if (categories >= 0).any():
        loss = loss + CATEGORY * nn.functional.cross_entropy(category.float(), categories)
    return loss


def _contrast(embedding: Tensor, wanted: Tensor) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020): hostile from anyone, planted, and harmless lie apart."""
    hostile = (wanted == 1).any(1).long()
    sort = hostile + (hostile.bool() & (wanted[:, 1] != 1)).long()
    same = (sort[:, None] == sort[None, :]).float().fill_diagonal_(0)
    near = embedding @ embedding.T / TEMPERATURE
    near = near.masked_fill(torch.eye(len(near), dtype=torch.bool, device=near.device), -1e4)
    likely = near - near.logsumexp(1, keepdim=True)
    return -((likely * same).sum(1) / same.sum(1).clamp(min=1)).mean()
