"""Fit the front stage's table: logistic regression over hashed features, all origins at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from detectors.semantic import fast
from detectors.train.generate import Example

EPOCHS: Final = 6
BATCH: Final = 256
RATE: Final = 0.02
DECAY: Final = 0.03
"""Weight of the mean square of the drawn table cells in the loss: keeps rare features near zero."""

Floats = npt.NDArray[np.float32]


def fit(texts: Sequence[str], targets: Floats, weights: Floats, seed: int, epochs: int = EPOCHS) -> fast.FastModel:
    """Fit on window texts.

    Args:
        targets: float32 (texts, origins), probabilities; negative where an origin has nothing to say.
        weights: float32 (texts,).
    """
    table, bias = _train(texts, targets, weights, seed, epochs)
    return _packed(table, bias)


def _train(texts: Sequence[str], targets: Floats, weights: Floats, seed: int, epochs: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    rows = [fast.features(fast.tokens(text)).ravel().astype(np.int64) for text in texts]
    table = torch.zeros(1 << fast.BITS, len(fast.ORIGINS), requires_grad=True)
    bias = torch.zeros(len(fast.ORIGINS), requires_grad=True)
    sparse, dense = torch.optim.SparseAdam([table], lr=RATE), torch.optim.Adam([bias], lr=RATE)
    for epoch in range(epochs):
        for group in sparse.param_groups + dense.param_groups:
            group["lr"] = RATE * (1 - epoch / epochs)
        order = rng.permutation(len(rows))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            ids = [rows[i] for i in batch]
            counts = torch.tensor([len(r) for r in ids])
            drawn = torch.nn.functional.embedding(torch.from_numpy(np.concatenate(ids)), table, sparse=True)
            owner = torch.repeat_interleave(torch.arange(len(ids)), counts)
            sums = torch.zeros(len(ids), len(fast.ORIGINS)).index_add(0, owner, drawn)
            logits = sums / counts.sqrt()[:, None] + bias
            wanted = torch.from_numpy(targets[batch])
            known = (wanted >= 0) * torch.from_numpy(weights[batch])[:, None]
            losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted.clamp(min=0), reduction="none")
            loss = (losses * known).sum() / known.sum().clamp(min=1.0)
            loss = loss + DECAY * drawn.pow(2).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            sparse.step()
            dense.step()
            sparse.zero_grad()
            dense.zero_grad()
    return table.detach().numpy(), bias.detach().numpy()


def _packed(table: Floats, bias: Floats) -> fast.FastModel:
    scale = np.maximum(np.abs(table).max(axis=0), 1e-6) / 127
    return fast.FastModel(np.round(table / scale).astype(np.int8), scale.astype(np.float32), bias)


def arrays(examples: Sequence[Example]) -> tuple[list[str], Floats, Floats]:
    """Texts, targets and weights of examples, as `fit` takes them."""
    return (
        [example.text for example in examples],
        np.array([example.labels for example in examples], np.float32),
        np.array([example.weight for example in examples], np.float32),
    )


def save(model: fast.FastModel, path: Path) -> None:
    """Write ``fast.npz`` as `fast.FastModel.load` reads it."""
    table, scale, bias = model.parts()
    np.savez_compressed(path, table=table, scale=scale, bias=bias)
