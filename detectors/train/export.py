"""Write the encoder as ONNX: fp32 and, with weights and activations in eight bits, the one that is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from detectors.train.model import Encoder

INPUT: Final = "ids"
OUTPUTS: Final = ("embedding", "origins", "categories")
OPSET: Final = 17


def export(encoder: Encoder, path: Path) -> None:
    """Write ``path`` (int8) and, beside it, ``*.fp32.onnx``. The input is one window: ids int64 (1, tokens), no padding."""
    full = path.with_suffix(".fp32.onnx")
    sample = torch.randint(1000, 20_000, (1, 24))
    torch.onnx.export(
        encoder.eval(), (sample,), str(full), input_names=[INPUT], output_names=list(OUTPUTS), opset_version=OPSET,
        dynamic_axes={INPUT: {1: "tokens"}}, dynamo=False,
    )
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(full), str(prepared), skip_symbolic_shape=True)
    quantize_dynamic(str(prepared), str(path), weight_type=QuantType.QInt8, per_channel=True)
    prepared.unlink()
