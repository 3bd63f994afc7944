"""Fit the front stage: what the encoder says of each word alone, made smaller, and a small net over that."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from detectors.semantic import fast
from detectors.semantic.heads import ORIGINS, column
from detectors.train.fit import tokenizer
from detectors.train.generate import Example
from detectors.train.model import WIDTH, Encoder
from detectors.values import Origin

DEPTH: Final = 48
"""Numbers in a word's vector."""

CHANNELS: Final = 16
"""Answers of each convolution. Chosen for its cost, a seventh of the sums of 64: on fold ``a``, one run each, 16 and 32 (with a
dense layer of 32) and 64 (of 48) reached AUCs of 0.825, 0.827 and 0.818, which one run cannot tell apart."""

HIDDEN: Final = 32
EPOCHS: Final = 3
BATCH: Final = 128
RATE: Final = 3e-3
MIN_COUNT: Final = 4
"""Training windows that a word must stand in to get a row; whole words of the encoder's vocabulary always do."""

MISSED: Final = 2.0
"""Weight of an attack against a harmless text: what this stage misses no later one sees."""

TAUGHT: Final = 0.7
"""Share of a target that the encoder says, where it has judged the window; the rest is the label. With a third of the windows
judged, three passes and 0.7 gave AUCs of 0.850 and 0.847 on folds ``a`` and ``b``; two and 0.5 gave 0.846 and 0.840, four and
0.9 (``b`` alone) 0.849; nothing judged, two passes and the encoder's words 0.842 and 0.837; and the base model's pieces of
words, as it was before, 0.831 and 0.820. One run each."""

LOST_WORDS: Final = 0.08
"""Words replaced by a bucket's at random while training, so that no single one decides."""

LOST_PHRASES: Final = 0.3
"""Phrases left out at random while training, for the same reason."""

PHRASE_RATE: Final = 1.5e-2
"""A phrase is seen a few times only, so that what it says has to be learned faster."""

MOST_PIECES: Final = 12
"""Pieces of a word that the encoder is shown."""

WORDS_AT_ONCE: Final = 256

FURTHER: Final = 0.33
"""Share of the steps' size that a model that is fitted is trained further with."""

LAYERS: Final = ("first", "second", "dense", "last")

Floats = npt.NDArray[np.float32]


class Net(nn.Module):
    """The same net in torch; see `detectors.semantic.fast.FastModel`."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Embedding(len(table), DEPTH, _weight=table.clone())
        self.first, self.second = nn.Linear(3 * DEPTH, CHANNELS), nn.Linear(3 * CHANNELS, CHANNELS)
        self.dense, self.last = nn.Linear(2 * CHANNELS, HIDDEN), nn.Linear(HIDDEN, len(ORIGINS))
        self.grams = nn.Embedding(2**fast.GRAM_BITS, len(ORIGINS), _weight=torch.zeros(2**fast.GRAM_BITS, len(ORIGINS)))
        self.dropout = nn.Dropout(0.2)

    def forward(self, rows: Tensor, mask: Tensor, grams: Tensor) -> Tensor:
        """``rows`` (batch, tokens + 4) with two pads at each end, ``mask`` (batch, tokens), ``grams`` (batch, 2, tokens)."""
        states = self.dropout(self.table(rows))
        for layer in (self.first, self.second):
            states = torch.relu(layer(torch.cat([states[:, :-2], states[:, 1:-1], states[:, 2:]], 2)))
        kept = mask[:, :, None]
        pooled = torch.cat([(states * kept).amax(1), (states * kept).sum(1) / kept.sum(1)], 1)
        logits: Tensor = self.last(torch.relu(self.dense(self.dropout(pooled))))
        heard = mask[:, None] * (torch.rand(grams.shape, device=mask.device) >= LOST_PHRASES) / (1 - LOST_PHRASES)
        said = (self.grams(grams) * heard[..., None]).sum((1, 2)) / mask.sum(1, keepdim=True).sqrt()
        return logits + said


def vocabulary(examples: Sequence[Example]) -> list[str]:
    """Whole words of the encoder's vocabulary, and words that stand in several training windows."""
    counts = Counter(word for e in examples for word in {fast.normal(token) for token in fast.tokens(e.text)})
    whole = {word for word in tokenizer().get_vocab() if not word.startswith(("##", "[")) and fast.tokens(word) == [word]}
    return sorted(whole | {word for word, count in counts.items() if count >= MIN_COUNT and "\n" not in word})


def fit(
    examples: Sequence[Example], seed: int, epochs: int = EPOCHS, said: Tensor | None = None, encoder: Encoder | None = None
) -> fast.FastModel:
    """Fit on windows and their labels per origin.

    Args:
        said: what the encoder says of the windows, probabilities (windows, origins), NaN where it was not asked; `TAUGHT` of
            the target.
        encoder: whose vectors words begin with, the base model's if None.
    """
    words = vocabulary(examples)
    rows = rows_of([example.text for example in examples], words)
    labels = torch.tensor([example.labels for example in examples])
    weights = torch.tensor([example.weight for example in examples])
    return fit_rows(words, _first_table(words, encoder or Encoder.from_base()), rows, labels, weights, seed, epochs, said)


def rows_of(texts: Sequence[str], words: Sequence[str]) -> list[fast.Ints]:
    """The rows of the table that each text's words stand in."""
    known = fast.Rows(words)
    return [np.frombuffer(known.of(text)[0], np.int32) for text in texts]


def fit_rows(
    words: Sequence[str], table: Tensor, rows: Sequence[fast.Ints], labels: Tensor, weights: Tensor, seed: int,
    epochs: int = EPOCHS, said: Tensor | None = None,
) -> fast.FastModel:
    """Fit on windows that are rows of ``table`` already; the rest as in `fit`."""
    torch.manual_seed(seed)
    return fast.FastModel(words, _trained(Net(table), rows, labels, weights, seed, epochs, said))


def further(model: fast.FastModel, examples: Sequence[Example], seed: int, said: Tensor) -> fast.FastModel:
    """The model after `EPOCHS` more on such windows, in steps of `FURTHER`; the rest as in `fit`.

    Its words' vectors stay as they are: by their means what a deployment has learnt is matched, too.
    """
    torch.manual_seed(seed)
    labels = torch.tensor([example.labels for example in examples])
    weights = torch.tensor([example.weight for example in examples])
    rows = rows_of([example.text for example in examples], model.words)
    net = _net(model)
    net.table.requires_grad_(False)
    arrays = _trained(net, rows, labels, weights, seed, EPOCHS, said, FURTHER)
    return fast.FastModel(model.words, arrays)


def rescaled(model: fast.FastModel, origin: Origin, like: fast.FastModel, texts: Sequence[str]) -> fast.FastModel:
    """The model with its logits of an origin moved and stretched to the mean and deviation that ``like`` has on ``texts``."""
    said, wanted = (np.array([one.logit(text, origin) for text in texts]) for one in (model, like))
    slope, at = wanted.std() / max(float(said.std()), 1e-6), column(origin)
    arrays = {name: np.array(values, np.float32) for name, values in model.arrays.items()}
    arrays["last"][:, at] *= slope
    arrays["grams"][at] *= slope
    arrays["last_bias"][at] = slope * arrays["last_bias"][at] + wanted.mean() - slope * said.mean()
    return fast.FastModel(model.words, arrays)


def _trained(
    net: Net, rows: Sequence[fast.Ints], labels: Tensor, weights: Tensor, seed: int, epochs: int, said: Tensor | None,
    pace: float = 1.0,
) -> dict[str, Floats]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net, words = net.to(device), len(net.table.weight) - fast.BUCKETS - 1
    targets = labels.clamp(min=0).float()
    if said is not None:
        targets = torch.where(said.isnan(), targets, (1 - TAUGHT) * targets + TAUGHT * said)
    shares = torch.where(labels == 1, MISSED, (labels >= 0).float()) * weights[:, None]
    targets, shares = targets.to(device), shares.to(device)
    deep = [parameter for name, parameter in net.named_parameters() if name != "grams.weight" and parameter.requires_grad]
    rate, phrase_rate = RATE * pace, PHRASE_RATE * pace
    optimiser = torch.optim.AdamW(
        [{"params": deep, "lr": rate, "weight_decay": 0.0},
         {"params": [net.grams.weight], "lr": phrase_rate, "weight_decay": 0.02}],
        fused=True,
    )
    rng = random.Random(seed)
    steps = epochs * (len(rows) // BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [rate, phrase_rate], total_steps=steps + 1)
    net.train()
    for _ in range(epochs):
        for group in _groups(rows, rng):
            logits = net(*(part.to(device) for part in _padded([rows[i] for i in group], words)))
            losses = nn.functional.binary_cross_entropy_with_logits(logits, targets[group], reduction="none")
            loss = (losses * shares[group]).sum() / shares[group].sum().clamp(min=1)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return _arrays(net.cpu())


def _groups(rows: Sequence[fast.Ints], rng: random.Random) -> list[list[int]]:
    order = list(range(len(rows)))
    rng.shuffle(order)
    stretch = BATCH * 40  # sorted by length within stretches, so that little is padding
    groups: list[list[int]] = []
    for start in range(0, len(order), stretch):
        part = sorted(order[start : start + stretch], key=lambda i: len(rows[i]))
        groups.extend(part[at : at + BATCH] for at in range(0, len(part), BATCH))
    rng.shuffle(groups)
    return groups


def _padded(rows: Sequence[fast.Ints], words: int) -> tuple[Tensor, Tensor, Tensor]:
    longest = max(1, max(map(len, rows)))
    padded = torch.zeros(len(rows), longest + 4, dtype=torch.long)
    mask = torch.zeros(len(rows), longest)
    grams = torch.zeros(len(rows), 2, longest, dtype=torch.long)
    for index, row in enumerate(rows):
        padded[index, 2 : 2 + len(row)] = torch.from_numpy(row)
        mask[index, : max(1, len(row))] = 1.0
        grams[index, :, : len(row)] = torch.from_numpy(fast.grams(row))
    lost = (torch.rand(padded.shape) < LOST_WORDS) & (padded != fast.PAD)
    return torch.where(lost, words + 1 + torch.randint(fast.BUCKETS, padded.shape), padded), mask, grams


@torch.no_grad()
def _first_table(words: Sequence[str], encoder: Encoder) -> Tensor:
    """What the encoder makes of each word alone, in its `DEPTH` main directions: words that mean the same begin alike, also
    where training meets only one of them (Tulkens and van Dongen 2024, Model2Vec)."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = encoder.to(device).eval()
    ids = [encoding.ids[:MOST_PIECES] for encoding in tokenizer().encode_batch(list(words))]
    full = torch.zeros(len(words), WIDTH)
    for _, alike in itertools.groupby(sorted(range(len(ids)), key=lambda i: len(ids[i])), key=lambda i: len(ids[i])):
        for group in torch.tensor(list(alike)).split(WORDS_AT_ONCE):
            full[group] = encoder(torch.tensor([ids[i] for i in group], device=device))[0].cpu()
    encoder.cpu()
    full = full - full.mean(0)
    directions = torch.linalg.eigh(full.T @ full)[1][:, -DEPTH:]
    small = full @ directions
    small = small / small.std()
    return torch.cat([torch.zeros(1, DEPTH), small, torch.randn(fast.BUCKETS, DEPTH) * 0.3]) * 0.5


def _net(model: fast.FastModel) -> Net:
    """What `_arrays` made such a model of."""
    arrays = {name: torch.from_numpy(np.array(values, np.float32)) for name, values in model.arrays.items()}
    net = Net(arrays["table"])
    with torch.no_grad():
        net.grams.weight.copy_(arrays["grams"].T)
        for name in LAYERS:
            layer: nn.Linear = getattr(net, name)
            layer.weight.copy_(arrays[name].T)
            layer.bias.copy_(arrays[f"{name}_bias"])
    return net


def _arrays(net: Net) -> dict[str, Floats]:
    arrays = {"table": net.table.weight.detach().numpy(), "grams": net.grams.weight.detach().numpy().T}
    for name in LAYERS:
        layer: nn.Linear = getattr(net, name)
        arrays[name] = layer.weight.detach().numpy().T
        arrays[f"{name}_bias"] = layer.bias.detach().numpy()
    return arrays
