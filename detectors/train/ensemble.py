"""Several encoders trained apart, and one that has learned from all of them.

On sources that none of them saw, encoders of different recipes err on different texts: what they say together is right
more often than any of them. Some of that is kept by the mean of their weights (Wortsman et al. 2022), from which one
more encoder starts that is trained on what they say (Hinton et al. 2015).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from detectors.train.fit import Corpus, Recipe, fit
from detectors.train.model import Encoder

RECIPES: Final = (
    Recipe(1e-4, 128, 0.12), Recipe(1e-4, 128, 0.0, 0.5), Recipe(2e-4, 128, 0.12), Recipe(1e-4, 128, 0.1, 0.5),
)
PASSES: Final = 2
PUPIL: Final = Recipe(6e-5, 128, 0.12)
BATCH: Final = 1024


def train(corpus: Corpus, seed: int, minutes: float, checkpoint: Path, start: Encoder | None, members: int) -> Encoder:
    """Train ``members`` encoders of `RECIPES` and a pupil of theirs.

    Args:
        minutes: longest time of all together.
        start: where every member begins, the base model if None.
    """
    trained = [
        fit(corpus, seed + index, minutes / (members + 1), checkpoint.with_suffix(f".{index}"), copy.deepcopy(start), PASSES,
            RECIPES[index % len(RECIPES)])
        for index in range(members)
    ]
    return pupil(trained, corpus, seed, minutes / (members + 1), checkpoint)


def pupil(members: Sequence[Encoder], corpus: Corpus, seed: int, minutes: float, checkpoint: Path) -> Encoder:
    """The mean of the members' weights, trained one pass more on what they say together."""
    said = torch.stack([judged(member, corpus) for member in members]).mean(0).sigmoid()
    return fit(corpus.taught(said), seed + 100, minutes, checkpoint, averaged(members), 1, PUPIL)


def averaged(members: Sequence[Encoder]) -> Encoder:
    """An encoder whose weights are the mean of the members'."""
    states = [member.state_dict() for member in members]
    made = Encoder()
    made.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    return made


@torch.no_grad()
def judged(encoder: Encoder, corpus: Corpus) -> Tensor:
    """The logits of all windows, float32 (windows, origins)."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = encoder.to(device).eval()
    said = torch.zeros(corpus.labels.shape)
    for rows in torch.argsort(corpus.lengths).split(BATCH):
        longest = int(corpus.lengths[rows].max())
        mask = (torch.arange(longest) < corpus.lengths[rows][:, None]).float()
        ids = corpus.ids[rows][:, :longest].long()
        said[rows] = encoder(ids.to(device), mask.to(device))[1].float().cpu()
    encoder.cpu()
    return said
