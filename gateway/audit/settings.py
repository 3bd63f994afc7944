"""The configuration's section ``audit``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from gateway.audit.keys import private_key
from gateway.config.fields import Certificates, Model, Seconds, Secret, check_host, differ


def _audit_key(value: SecretStr) -> SecretStr:
    private_key(value.get_secret_value().encode(), "the key")
    return value


def _export_address(value: str) -> str:
    parts = urlsplit(value)
    kind = parts.scheme
    if kind == "file" and value.startswith("file:") and len(value) > 5:
        return value
    try:
        usable = kind in ("tls", "tcp", "https", "http") and bool(parts.hostname) and parts.port != 0
        usable = usable and parts.username is None and parts.password is None
        usable = usable and (kind in ("https", "http") or parts.port is not None) and bool(re.fullmatch("[!-~]+", value))
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("wanted tls://HOST:PORT or tcp://HOST:PORT (syslog), https://HOST/PATH (webhook), or file:PATH")
    check_host(parts.hostname or "")
    return value


class AuditExport(Model):
    """A place that records of the audit log are sent to, each at least once."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")] = Field(
        description="Names it in metrics and in the file that remembers how far it came: a-z, 0-9 and `-`."
    )
    to: Annotated[str, AfterValidator(_export_address)] = Field(
        description="`tls://HOST:6514` or `tcp://HOST:514` (syslog, RFC 5424), `https://HOST/PATH` (webhook), `file:PATH`."
    )
    format: Literal["json", "ocsf", "cef"] = Field("json", description="The log's own records, OCSF 1.3 or CEF.")
    ca_file: Certificates | None = Field(None, description="Certificates to trust instead of the system's.")
    secret: Secret | None = Field(None, description="Signs webhooks: HMAC-SHA256 in `x-portcullis-signature`.")


class AuditSettings(Model):
    """The audit log. See [audit.md](audit.md)."""

    enabled: bool = Field(True, description="Whether it is written.")
    directory: Path | None = Field(None, description="Its folder; left out, `audit` in `data_dir`.")
    signing_key: Annotated[Secret, AfterValidator(_audit_key)] | None = Field(
        None, description="An Ed25519 private key in PEM (`file:PATH`, `env:NAME`). Left out, one is made beside the log."
    )
    root_seconds: Seconds = Field(60.0, description="How often a signed root covers what was written.")
    rotate_bytes: int = Field(64 * 2**20, ge=2**16, description="The size from which a new file is begun.")
    rotate_seconds: Seconds = Field(86_400.0, description="The age from which a new file is begun.")
    compress: bool = Field(True, description="Whether complete files are compressed (gzip).")
    keep_seconds: float = Field(400 * 86_400.0, ge=3600, description="How long a file is kept.")
    keep_bytes: int = Field(20 * 2**30, ge=2**20, description="How much is kept in all; the oldest files go first.")
    exports: tuple[AuditExport, ...] = Field((), description="Where records are sent. See `audit.exports` below.")

    @model_validator(mode="after")
    def _sends(self) -> AuditSettings:
        differ((export.name for export in self.exports), "exports")
        if self.exports and not self.enabled:
            raise ValueError("exports send what the log holds, and enabled is false: turn it on, or leave exports out")
        return self
