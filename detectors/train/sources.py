"""The labelled sources of a data folder (gzipped JSON lines), read into rows that know what each origin makes of them."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from detectors.semantic.heads import ORIGINS
from detectors.values import Origin

UNKNOWN: Final = -1.0
"""A label column with nothing to say: the origin's head learns nothing from this text."""

ATTACK_KINDS: Final = frozenset({"direct_injection", "indirect_injection", "jailbreak", "prompt_extraction"})

LEFT_OUT: Final = frozenset({"harmful_request"})
"""Plain harmful questions carry label 1 in the data but attack no instructions."""

NOT_FORBIDDEN: Final = frozenset({"latent_jailbreak", "gptfuzz"})
"""Sources whose harmful requests carry a frame of their own, or repeat another source's."""

_SPACES = re.compile(r"[ \t]{3,}")


@dataclass(frozen=True, slots=True)
class Row:
    """One text of a source: ``origin`` is the most natural speaker of its kind, the one it is scored as.

    ``position`` says where a source planted its order (``start``, ``middle``, ``end``), where it says so.
    """

    text: str
    label: int
    kind: str
    lang: str
    source: str
    origin: Origin
    doubtful: bool
    position: str = ""


def labels(**known: float) -> tuple[float, ...]:
    """A label row in the order of `ORIGINS`; origins that are not named are `UNKNOWN`."""
    return tuple(known.get(origin.value, UNKNOWN) for origin in ORIGINS)


def read_rows(folder: Path, only: Iterable[str] | None = None) -> Iterator[Row]:
    """All usable rows of the sources in ``folder``.

    Raises:
        FileNotFoundError: the folder holds no ``*.jsonl.gz``.
    """
    for raw, name in _raw_rows(folder, only):
        if raw["kind"] not in LEFT_OUT:
            yield from _rows(raw, name)


def read_replies(folder: Path) -> Iterator[tuple[str, str, bool]]:
    """What assistants say in conversations, each with its source, and whether that conversation is left out of all other
    training, for what its user asks.

    Raises:
        FileNotFoundError: as `read_rows`.
    """
    for raw, name in _raw_rows(folder, None):
        for turn in raw.get("turns") or ():
            if turn["role"] == "assistant" and isinstance(said := turn.get("content"), str) and said.strip():
                yield said.strip(), name, raw["kind"] in LEFT_OUT


def read_forbidden(folder: Path) -> Iterator[tuple[str, str]]:
    """Plain harmful questions, each with its source: no attacks themselves, but what attacks ask for."""
    for raw, name in _raw_rows(folder, None):
        if raw["kind"] in LEFT_OUT and isinstance(raw.get("text"), str) and name not in NOT_FORBIDDEN:
            yield raw["text"].strip(), name


def _raw_rows(folder: Path, only: Iterable[str] | None) -> Iterator[tuple[dict[str, Any], str]]:
    paths = sorted(folder.glob("*.jsonl.gz"))
    if not paths:
        raise FileNotFoundError(f"{folder}: no *.jsonl.gz files there; name the folder with --data")
    wanted = None if only is None else set(only)
    for path in paths:
        name = path.name.removesuffix(".jsonl.gz")
        if wanted is not None and name not in wanted:
            continue
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line), name


def _rows(raw: dict[str, Any], source: str) -> Iterator[Row]:
    kind, label = raw["kind"], int(raw["kind"] in ATTACK_KINDS)
    turns = raw.get("turns")
    texts: list[tuple[str, Origin]]
    if turns:
        texts = [(t["content"], _role(t["role"])) for t in turns if isinstance(t.get("content"), str)]
    else:
        texts = [(raw["text"], _natural_origin(raw, source))]
    for text, origin in texts:
        text = _SPACES.sub("  ", text).strip()
        if text:
            yield Row(text, label, kind, raw.get("lang") or "en", source, origin, bool(raw.get("quotes")),
                      raw.get("position") or "")


def _role(role: str) -> Origin:
    return {"assistant": Origin.ASSISTANT, "system": Origin.SYSTEM, "tool": Origin.TOOL_RESULT,
            "function": Origin.TOOL_RESULT}.get(role, Origin.USER)


def _natural_origin(raw: dict[str, Any], source: str) -> Origin:
    if source == "injecagent" and raw["kind"] != "benign":
        return Origin.TOOL_RESULT
    if source in ("self_instruct_t0", "tasktracker"):
        return Origin.USER if raw["label"] == 0 else Origin.DOCUMENT  # T0 rows are a document with the user's own task
    if source == "agent_instruction_files" or (source == "tensor_trust_extraction" and raw["label"] == 0):
        return Origin.SYSTEM
    if raw["kind"] in ("indirect_injection", "benign_document") or source in ("security_docs", "fhir_samples"):
        return Origin.DOCUMENT
    return Origin.USER


def row_labels(row: Row) -> tuple[float, ...]:
    """What each origin's head is to learn from a row."""
    if row.kind == "indirect_injection":
        return labels(document=1.0, tool_result=1.0)
    if row.label:
        return labels(user=1.0, document=1.0, tool_result=1.0)
    if row.source == "self_instruct_t0" or row.kind == "benign":
        return labels(user=0.0, system=0.0, assistant=0.0)  # an order: what a document makes of it is no one's word
    if row.doubtful:
        return labels(user=0.0, assistant=0.0)
    if row.source in ("awesome_chatgpt_prompts", "awesome_chatgpt_prompts_zh", "verazuo_regular", "gpteacher",
                      "jackhhao_jailbreak", "followbench", "tensor_trust_extraction", "openai_guardrails_demo"):
        return labels(user=0.0, system=0.0)
    return labels(user=0.0, system=0.0, assistant=0.0, document=0.0, tool_result=0.0)
