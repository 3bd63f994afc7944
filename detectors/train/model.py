"""The encoder: all-MiniLM-L6-v2 (six BERT layers, 384 wide) with one output per origin and one per threat category.

Written out rather than taken from a library, so that the exported graph holds nothing but what serving runs.
"""

from __future__ import annotations

from typing import Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from detectors.semantic.heads import ORIGINS
from detectors.train import vocabulary
from detectors.train.base import base_folder
from patterns.taxonomy import CATEGORIES

ATTACKS: Final = tuple(name for name, category in CATEGORIES.items() if category.attack)
"""The categories that the category head tells apart, in the taxonomy's order."""

WIDTH: Final = 384
HEADS: Final = 12
LAYERS: Final = 6
POSITIONS: Final = 512


class Dropout(nn.Module):
    """Leaves values out by one random byte each: drawn one by one, as torch does on processors, they are a sixth of a step."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.left_out = round(256 * share)

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape, some of them 0 in training and the others larger by as much."""
        if not self.training:
            return values
        words = torch.empty(values.numel() // 8 + 1, dtype=torch.int64, device=values.device).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: values.numel()].view(values.shape) >= self.left_out
        return values * (kept.to(values.dtype) * (256 / (256 - self.left_out)))


class Layer(nn.Module):
    """One BERT layer: attention, then a feed-forward net, each added and normalised."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.attention_norm, self.output_norm = nn.LayerNorm(WIDTH, 1e-12), nn.LayerNorm(WIDTH, 1e-12)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, bias: Tensor | None) -> Tensor:
        """``states`` (batch, tokens, WIDTH); ``bias`` is added to the attention scores, or None without padding."""
        batch, tokens, _ = states.shape

        def split(projected: Tensor) -> Tensor:
            return projected.view(batch, tokens, HEADS, WIDTH // HEADS).transpose(1, 2)

        query, key, value = split(self.query(states)), split(self.key(states)), split(self.value(states))
        # Written out: what is exported is sums that quantisation knows, and a processor learns through torch's own more slowly.
        scores = query @ key.transpose(2, 3) * (WIDTH // HEADS) ** -0.5
        mixed = (scores if bias is None else scores + bias).softmax(-1).to(value.dtype) @ value
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, WIDTH)
        states = self.attention_norm(states + self.dropout(self.output(mixed)))
        inner = self.narrow(nn.functional.gelu(self.wide(states)))
        normed: Tensor = self.output_norm(states + self.dropout(inner))
        return normed


class Encoder(nn.Module):
    """Token ids in; embedding, a logit per origin and a logit per attack category out."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary.BASE + len(vocabulary.added()), WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, 1e-12)
        self.layers = nn.ModuleList(Layer(dropout) for _ in range(LAYERS))
        self.hidden = nn.Linear(3 * WIDTH, WIDTH // 2)
        self.origins = nn.Linear(WIDTH // 2, len(ORIGINS))
        self.categories = nn.Linear(WIDTH // 2, len(ATTACKS))
        self.dropout = Dropout(dropout)

    @classmethod
    def from_base(cls) -> Encoder:
        """The pretrained layers with fresh heads. Raises BaseModelError, see `base_folder`."""
        encoder = cls()
        weights = _renamed(load_file(base_folder() / "model.safetensors"))
        weights["words.weight"] = vocabulary.widened(weights["words.weight"])
        encoder.load_state_dict(weights, strict=False)
        return encoder

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Ids (batch, tokens); mask, of the same shape, is 1 for tokens and 0 for padding, None where there is none.

        Returns:
            embedding (batch, WIDTH) of unit length, origin logits (batch, origins), category logits (batch, ATTACKS).
        """
        states = self.words(ids) + self.positions.weight[: ids.shape[1]]
        states = self.dropout(self.norm(states))
        bias = None if mask is None else (1.0 - mask[:, None, None, :].to(states.dtype)) * -1e4
        for layer in self.layers:
            states = layer(states, bias)
        if mask is None:
            mean, peak = states.mean(1), states.amax(1)
        else:
            kept = mask[:, :, None].to(states.dtype)
            mean = (states * kept).sum(1) / kept.sum(1)
            peak = (states - (1.0 - kept) * 1e4).amax(1)
        hidden = nn.functional.gelu(self.hidden(self.dropout(torch.cat([mean, peak, states[:, 0]], 1))))
        return nn.functional.normalize(mean, dim=1), self.origins(hidden), self.categories(hidden)


def _renamed(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The base package's names to ours; the one segment embedding that is used is folded into the positions."""
    names = {
        "attention.self.query": "query", "attention.self.key": "key", "attention.self.value": "value",
        "attention.output.dense": "output", "attention.output.LayerNorm": "attention_norm",
        "intermediate.dense": "wide", "output.dense": "narrow", "output.LayerNorm": "output_norm",
    }
    renamed = {
        "words.weight": stored["embeddings.word_embeddings.weight"],
        "positions.weight": stored["embeddings.position_embeddings.weight"]
        + stored["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": stored["embeddings.LayerNorm.weight"],
        "norm.bias": stored["embeddings.LayerNorm.bias"],
    }
    for index in range(LAYERS):
        for theirs, ours in names.items():
            for part in ("weight", "bias"):
                renamed[f"layers.{index}.{ours}.{part}"] = stored[f"encoder.layer.{index}.{theirs}.{part}"]
    return renamed
