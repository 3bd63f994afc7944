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
from detectors.train import lexicon
from detectors.train.fit import tokenizer
from detectors.train.generate import Example
from detectors.train.model import WIDTH, Encoder
from detectors.values import Origin

DEPTH: Final = 128
"""Numbers in a word's vector: what they add to the first convolution is known beforehand, so more of them cost no time."""

CHANNELS: Final = 32
"""Answers of each convolution."""

HIDDEN: Final = 32
EPOCHS: Final = 6
BATCH: Final = 128
RATE: Final = 3e-3
MIN_COUNT: Final = 4
"""Training windows that a word must stand in to get a row; whole words of the encoder's vocabulary always do."""

MISSED: Final = 2.0
"""Weight of an attack against a harmless text: what this stage misses no later one sees."""

TAUGHT: Final = 0.7
"""Share of a target that the encoder says; the rest is the label.

Depth, channels, epochs and this were chosen on users' texts of the sources of fold ``a`` and on written families that are kept,
of fronts fitted without either (their teacher, the encoder that ships, had seen the former). AUC of both, one run each: 48
numbers and 16 channels .838 and .838, 48 and 32 .849 and .840, 128 and 32 .858 and .839, 128 and 64 .859 and .843; with the
lexicon's words .862 and .838, in six epochs for three .858 and .848. Nearly all said by the encoder (0.95), twins that weigh a
third, half of the windows of sources, twice as many, and written texts spliced or with words lost gained nothing, or lost up to
.019 on the sources."""

LOST_WORDS: Final = 0.08
"""Words replaced by a bucket's at random while training, so that no single one decides."""

LOST_PHRASES: Final = 0.3
"""Phrases left out at random while training, for the same reason."""

PHRASE_RATE: Final = 1.5e-2
"""A phrase is seen a few times only, so that what it says has to be learned faster."""

MOST_PIECES: Final = 12
"""Pieces of a word that the encoder is shown."""

WORDS_AT_ONCE: Final = 256

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
    """Whole words of the encoder's vocabulary, the lexicon's, and words that stand in several training windows."""
    counts = Counter(word for e in examples for word in _words(e.text))
    listed = {word for entry in lexicon.entries() for form in entry.forms for word in _words(form)}
    whole = {word for word in tokenizer().get_vocab() if not word.startswith(("##", "[")) and fast.tokens(word) == [word]}
    return sorted(whole | listed | {word for word, count in counts.items() if count >= MIN_COUNT and "\n" not in word})


def _words(text: str) -> set[str]:
    return {fast.normal(token) for token in fast.tokens(text)}


def fit(
    examples: Sequence[Example], seed: int, epochs: int = EPOCHS, said: Tensor | None = None, encoder: Encoder | None = None,
    words: Sequence[str] | None = None,
) -> fast.FastModel:
    """Fit one net on windows and their labels per origin.

    Args:
        said: what the encoder says of the windows, probabilities (windows, origins), NaN where it is not asked; `TAUGHT` of the
            target.
        encoder: whose vectors words begin with, the base model's if None.
        words: that have rows, those of `vocabulary` if None.
    """
    words = words or vocabulary(examples)
    table = _first_table(words, encoder or Encoder.from_base())
    torch.manual_seed(seed)
    known = fast.Rows(words)
    rows = [np.frombuffer(known.of(example.text)[0], np.int32) for example in examples]
    return fast.FastModel(words, _trained(Net(table), rows, examples, seed, epochs, said))


def both(everybodys: fast.FastModel, users: fast.FastModel) -> fast.FastModel:
    """The first model with what the second one, of the same words, says of users' texts added to its logits."""
    (arrays,), only = users.nets, [column(Origin.USER)]
    output = {"grams": arrays["grams"][only], "last": arrays["last"][:, only], "last_bias": arrays["last_bias"][only]}
    return fast.FastModel(everybodys.words, everybodys.nets[0], arrays | output)


def rescaled(model: fast.FastModel, origin: Origin, like: fast.FastModel, texts: Sequence[str]) -> fast.FastModel:
    """The model with its logits of an origin moved and stretched to the mean and deviation that ``like`` has on ``texts``."""
    said, wanted = (np.array([one.logit(text, origin) for text in texts]) for one in (model, like))
    slope = wanted.std() / max(float(said.std()), 1e-6)
    nets = [{name: np.array(values, np.float32) for name, values in arrays.items()} for arrays in model.nets]
    for number, arrays in enumerate(nets if origin is Origin.USER else nets[:1]):
        at = 0 if number else column(origin)
        arrays["last"][:, at] *= slope
        arrays["grams"][at] *= slope
        arrays["last_bias"][at] *= slope
    nets[0]["last_bias"][column(origin)] += wanted.mean() - slope * said.mean()
    return fast.FastModel(model.words, *nets)


def _trained(
    net: Net, rows: Sequence[fast.Ints], examples: Sequence[Example], seed: int, epochs: int, said: Tensor | None
) -> dict[str, Floats]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net, words = net.to(device), len(net.table.weight) - fast.BUCKETS - 1
    labels = torch.tensor([example.labels for example in examples])
    targets = labels.clamp(min=0).float()
    if said is not None:
        targets = torch.where(said.isnan(), targets, (1 - TAUGHT) * targets + TAUGHT * said)
    weights = torch.tensor([example.weight for example in examples])
    shares = torch.where(labels == 1, MISSED, (labels >= 0).float()) * weights[:, None]
    targets, shares = targets.to(device), shares.to(device)
    deep = [parameter for name, parameter in net.named_parameters() if name != "grams.weight"]
    optimiser = torch.optim.AdamW(
        [{"params": deep, "lr": RATE, "weight_decay": 0.0},
         {"params": [net.grams.weight], "lr": PHRASE_RATE, "weight_decay": 0.02}],
        fused=True,
    )
    rng = random.Random(seed)
    steps = epochs * (len(rows) // BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [RATE, PHRASE_RATE], total_steps=steps + 1)
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
        padded[index, 2 : 2 + len(row)] = torch.from_numpy(row.astype(np.int64))
        mask[index, : max(1, len(row))] = 1.0
        grams[index, :, : len(row)] = torch.from_numpy(fast.grams(row).astype(np.int64))
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


def _arrays(net: Net) -> dict[str, Floats]:
    arrays = {"table": net.table.weight.detach().numpy(), "grams": net.grams.weight.detach().numpy().T}
    for name in LAYERS:
        layer: nn.Linear = getattr(net, name)
        arrays[name] = layer.weight.detach().numpy().T
        arrays[f"{name}_bias"] = layer.bias.detach().numpy()
    return arrays
