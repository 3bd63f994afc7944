"""The configuration's section ``sync``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway.config.fields import Model, is_loopback


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError("wanted host:port, for example gateway-1.example.org:7443 or [::1]:7443")
    return value


Address = Annotated[str, AfterValidator(_address)]


def _address_or_none(value: str) -> str:
    return value and _address(value)


class SyncSettings(Model):
    """Replicas that agree on what the pattern store holds; see docs/sync.md. Off while `listen` is not set."""

    listen: Address | None = Field(None, description="Where replicas meet: UDP for QUIC and TCP for the fallback, one port.")
    node: str = Field("", description="This replica's name, which its certificate must cover. Left out, the host's name.")
    advertise: Annotated[str, AfterValidator(_address_or_none)] = Field(
        "", description="`host:port` at which others reach it. Left out: `listen`, or where its packets come from."
    )
    peers: tuple[Address, ...] = Field((), description="Replicas to begin with; the rest is learned from them.")
    discover: Address | None = Field(
        None, description="A DNS name and port whose addresses are all replicas, such as a headless service."
    )
    ca: Path | None = Field(None, description="The authority's certificate (PEM) that signed every replica's.")
    certificate: Path | None = Field(None, description="This replica's certificate (PEM); read again when it changes.")
    key: Path | None = Field(None, description="Its private key (PEM).")
    development: Path | None = Field(
        None, description="Instead of the three: a folder in which certificates are generated. Loopback only."
    )
    allow: tuple[str, ...] = Field((), description="Names of replicas that may connect; left out, all that the CA signed.")
    quorum: int | None = Field(
        None, ge=1, le=10_000, description="Replicas that make a quorum; left out, a majority of those known."
    )
    transport: Literal["auto", "quic", "tcp"] = Field(
        "auto", description="`auto` is QUIC, and TLS over TCP where no UDP gets through."
    )

    @model_validator(mode="after")
    def _whole(self) -> SyncSettings:
        if self.listen is None:
            return self
        files = (self.ca, self.certificate, self.key)
        if self.development is not None:
            if any(files):
                raise ValueError("development: goes without ca, certificate and key")
            for address in (self.listen, *self.peers):
                if not is_loopback(address.rpartition(":")[0]):
                    raise ValueError(f"development: {address} is not a loopback address; issue certificates: portcullis sync")
        elif not all(files):
            raise ValueError("ca, certificate and key: all three are needed; `portcullis sync init-ca` and `issue` make them")
        return self
