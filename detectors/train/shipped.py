"""The shipped encoder as a starting point: its weights, read back out of the eight-bit ONNX file.

What rounding took is regained within the first steps of training; what forty minutes of training gave stays.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from tokenizers import Tokenizer
from torch import Tensor

from detectors.train import vocabulary
from detectors.train.model import Encoder


def load(path: Path) -> Encoder:
    """The encoder that ``path`` (as `export.export` writes it, ``tokenizer.json`` beside it) was made of, but for rounding.

    Words that the lexicon has gained since begin as in `vocabulary.widened`.
    """
    graph = onnx.load(str(path)).graph
    stored = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    encoder = Encoder()
    weights: dict[str, Tensor] = {name: value for name, value in stored.items() if name in encoder.state_dict()}
    words = Tokenizer.from_file(str(path.with_name("tokenizer.json"))).get_vocab()
    weights["words.weight"] = vocabulary.moved(_full(stored, "words.weight"), words)
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            # A matrix may have a number for a name; the node's path says which one it is: /layers.4/wide/MatMul_quant.
            target = ".".join(node.name.split("/")[1:-1]) + ".weight"
            weights[target] = _full(stored, node.input[1].removesuffix("_quantized")).T.contiguous()
    encoder.load_state_dict(weights)
    return encoder


def _full(stored: dict[str, Tensor], name: str) -> Tensor:
    whole, zero, scale = (stored[f"{name}_{part}"] for part in ("quantized", "zero_point", "scale"))
    return (whole.float() - zero.float()) * scale
