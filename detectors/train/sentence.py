"""The shipped encoder as a module of sentence-transformers: ``SentenceTransformer("detectors/models")`` loads it.

It runs the very file that serving runs, text by text, so the vectors are the same to the bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules import Module

from detectors.semantic.encoder import Encoder

WIDTH = 384


class OnnxEncoder(Module):
    """Texts to embeddings by the ONNX file of a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._folder = folder
        self._encoder = Encoder(folder / "encoder.onnx", folder / "tokenizer.json")

    def preprocess(self, inputs: list[str], prompt: str | None = None, **_: Any) -> dict[str, Any]:
        """Embed already here, where the texts are; what follows has only tensors."""
        texts = [f"{prompt or ''}{text}" for text in inputs]
        return {"sentence_embedding": torch.from_numpy(self._encoder.embed(texts)), "modality": "text"}

    tokenize = preprocess

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return features

    def get_sentence_embedding_dimension(self) -> int:
        return WIDTH

    get_embedding_dimension = get_sentence_embedding_dimension

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        for name in ("encoder.onnx", "tokenizer.json"):
            (Path(output_path) / name).write_bytes((self._folder / name).read_bytes())

    @classmethod
    def load(cls, model_name_or_path: str, *args: Any, **kwargs: Any) -> OnnxEncoder:
        return cls(Path(model_name_or_path))


__all__ = ["OnnxEncoder"]
