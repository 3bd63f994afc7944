"""The configuration's section ``learning``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway.config.fields import Certificates, Model, differ, http_url
from patterns.signing import read_public


def _source(value: str) -> str:
    if not value.startswith(("https://", "file:", "/", "./")):
        raise ValueError("wanted https://..., or a file or folder as file:PATH, /PATH or ./PATH")
    return http_url(value) if value.startswith("https://") else value


def _key(value: str) -> str:
    if value:
        read_public(value)
    return value


def _public(value: str) -> str:
    read_public(value)
    return value


PublicKey = Annotated[str, AfterValidator(_public)]


class FeedSettings(Model):
    """Patterns that others keep, pulled on a schedule and proposed; they act after a trial and an approval as all do."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$", description="Names it in ids, logs and errors: a-z, 0-9 and `-`.")
    source: Annotated[str, AfterValidator(_source)] = Field(description="`https://...`, or a file or folder as `file:PATH`.")
    format: Literal[
        "", "yaml", "jsonl", "yara", "sigma", "garak", "promptfoo", "labelled-csv", "labelled-jsonl", "stix"
    ] = Field("", description="What it is written in; left out, its name and what stands in it tell.")  # fmt: skip
    every_seconds: float = Field(3600.0, ge=10, description="How often it is pulled.")
    key: Annotated[str, AfterValidator(_key)] = Field(
        "", description="The public key (`ed25519:...`) that must have signed it, in a file of its name and `.sig` beside it."
    )
    ca_file: Certificates | None = Field(
        None, description="Certificates (PEM) that its server's must lead to, instead of the system's."
    )


class WordingSettings(Model):
    """A language model that words reflections for people, off while left out; see docs/learning.md for what it is shown."""

    upstream: Literal["openai", "anthropic", "gemini"] = Field(
        description="Which of `upstreams`; one with an `api_key` of its own, not `caller`."
    )
    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,119}$", description="The model's name there.")
    seconds: float = Field(20.0, gt=0, le=300, description="How long one answer may take.")


class LearningSettings(Model):
    """How what people label becomes what the gateway knows; see docs/learning.md."""

    approvals: int = Field(1, ge=1, le=10, description="People other than its author who must approve a proposal.")
    automatic: bool = Field(
        False, description="Whether what labels led to and passed its trial goes into the shadow, and on, without a vote."
    )
    labellers: int = Field(2, ge=1, le=10, description="People who must have labelled alike for `automatic` to act on it.")
    shadow_seconds: float = Field(3600.0, ge=0, description="How long a new pattern is only watched.")
    canary_seconds: float = Field(3600.0, ge=0, description="How long it then acts on a share of the texts.")
    watched_requests: int = Field(
        600, ge=0,
        description="Requests that must pass in the shadow, and again beside a canary, before time alone moves a pattern on.",
    )  # fmt: skip
    canary_percent: int = Field(10, ge=1, le=100, description="That share, in percent; stable by the text's hash.")
    precision: float = Field(
        0.8, ge=0, le=1, description="The least share of a learnt pattern's labelled matches that were right."
    )
    signing_key: Path | None = Field(
        None,
        description="Path of the key (PEM, Ed25519) that signs changes; left out: `store.key` in `data_dir`, made if missing.",
    )
    trusted_keys: tuple[PublicKey, ...] = Field(
        (), description="Public keys (`ed25519:...`) of the other machines whose changes are taken."
    )
    pack_keys: tuple[PublicKey, ...] = Field((), description="Public keys (`ed25519:...`) whose signed packs are taken.")
    unsigned_packs: bool = Field(False, description="Whether the packs under `patterns` may be unsigned.")
    feeds: tuple[FeedSettings, ...] = Field((), description="See `learning.feeds` below.")
    wording: WordingSettings | None = Field(None, description="See `learning.wording` below.")
    labels_per_minute: int = Field(
        600, ge=1, description="Labels that are taken from one labeller; an app's key gets a tenth.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _named(self) -> LearningSettings:
        differ((feed.name for feed in self.feeds), "feeds")
        return self
