"""The configuration's section ``learning``."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class LearningSettings(BaseModel):
    """How what people label becomes what the gateway knows; see docs/learning.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    approvals: int = Field(1, ge=1, le=10, description="People other than its author who must approve a proposal.")
    automatic: bool = Field(
        False, description="Whether what passed its trial goes into the shadow, and on, without anybody's approval."
    )
    shadow_seconds: float = Field(3600.0, ge=0, description="How long a new pattern is only watched.")
    canary_seconds: float = Field(3600.0, ge=0, description="How long it then acts on a share of the texts.")
    canary_percent: int = Field(10, ge=1, le=100, description="That share, in percent; stable by the text's hash.")
    precision: float = Field(
        0.8, ge=0, le=1, description="The least share of a learnt pattern's labelled matches that were right."
    )
    signing_key: Path | None = Field(
        None, description="The key (PEM, Ed25519) that signs changes; left out, `store.key` in `data_dir`, made when missing."
    )
    trusted_keys: tuple[str, ...] = Field(
        (), description="Public keys (`ed25519:...`) of the other machines whose changes are taken."
    )
    pack_keys: tuple[str, ...] = Field((), description="Public keys (`ed25519:...`) whose signed packs are taken.")
    unsigned_packs: bool = Field(False, description="Whether the packs under `patterns` may be unsigned.")
    labels_per_minute: int = Field(600, ge=1, description="Labels taken from one labeller; an app's key gets a tenth.")
