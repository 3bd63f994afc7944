"""Certificates: who a replica is. Read from files and read again when they change; made, for those who have none.

A node's name is a DNS name in its certificate (subject alternative name), which may be a wildcard for a whole cluster. The
same authority signs all of them; a peer whose certificate is of another one is nobody.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.sync.faults import CertificateFault

AUTHORITY_DAYS: Final = 3_650
NODE_DAYS: Final = 365
"""How long certificates are valid unless said otherwise. Renewal needs no restart: where it is automatic, make it shorter."""

BACKDATE: Final = datetime.timedelta(minutes=10)
"""Certificates are valid from a little earlier than now: clocks of other machines are behind ours by minutes."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where a node's certificates are: the authority's, the node's own (and any between), and its key. All PEM."""

    authority: Path
    certificate: Path
    key: Path

    def changed_at(self) -> tuple[float, ...]:
        """The files' times of change; another value means that they were renewed."""
        try:
            return tuple(file.stat().st_mtime for file in (self.authority, self.certificate, self.key))
        except OSError:
            return ()


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a node shows and whom it believes, read at one moment."""

    files: Files
    authority: bytes
    chain: tuple[x509.Certificate, ...]
    names: tuple[str, ...]
    not_after: float

    def __repr__(self) -> str:
        return f"Credentials({', '.join(self.names)})"


def read(files: Files) -> Credentials:
    """Read and check all three files.

    Raises:
        CertificateFault: one is missing, no PEM, expired, without a name, or the key is another certificate's.
    """
    authority, certificate, private = map(_bytes, (files.authority, files.certificate, files.key))
    try:
        x509.load_pem_x509_certificates(authority)
    except ValueError:
        raise CertificateFault(f"{files.authority}: wanted certificates in PEM") from None
    try:
        chain = tuple(x509.load_pem_x509_certificates(certificate))
    except ValueError:
        raise CertificateFault(f"{files.certificate}: wanted a certificate in PEM") from None
    try:
        key = load_pem_private_key(private, None)
    except (ValueError, TypeError):
        raise CertificateFault(f"{files.key}: wanted a private key in PEM, without a password") from None
    if key.public_key() != chain[0].public_key():
        raise CertificateFault(f"{files.key}: this is not the key of {files.certificate}")
    found = names(chain[0])
    if not found:
        raise CertificateFault(f"{files.certificate}: it has no DNS name; the node's name must be a subject alternative name")
    not_after = chain[0].not_valid_after_utc
    if not_after < datetime.datetime.now(datetime.UTC):
        raise CertificateFault(f"{files.certificate}: expired on {not_after:%F}")
    return Credentials(files, authority, chain, found, not_after.timestamp())


def names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names that a certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(extension.value.get_values_for_type(x509.DNSName))


def init_authority(folder: Path, days: float = AUTHORITY_DAYS) -> Files:
    """Make a certificate authority: ``ca.pem`` for every node, ``ca.key`` to be kept away from all of them.

    Raises:
        CertificateFault: there is one already, or the folder cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "portcullis sync authority")])
    certificate = (
        _builder(name, name, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Files(folder / "ca.pem", folder / "ca.pem", folder / "ca.key")
    _write(files.key, _pem(key), 0o600)
    _write(files.authority, certificate.public_bytes(Encoding.PEM), 0o644)
    return files


def issue(folder: Path, node: str, out: Path, others: Sequence[str] = (), days: float = NODE_DAYS) -> Files:
    """Make a node's key and certificate with the authority in ``folder``: ``NODE.pem`` and ``NODE.key``.

    Args:
        others: more DNS names, wildcards included. Existing files are replaced: that is a renewal.

    Raises:
        CertificateFault: the authority cannot be read, a name is none, or a file cannot be written.
    """
    authority, private = _bytes(folder / "ca.pem"), _bytes(folder / "ca.key")
    try:
        issuer = x509.load_pem_x509_certificate(authority)
        signing = load_pem_private_key(private, None)
    except (ValueError, TypeError):
        raise CertificateFault(f"{folder}: wanted ca.pem and ca.key as `portcullis sync init-ca` makes them") from None
    if not isinstance(signing, ec.EllipticCurvePrivateKey):
        raise CertificateFault(f"{folder / 'ca.key'}: wanted an elliptic curve key")
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in (node, *others)])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node[:64])])
    except (ValueError, TypeError):
        raise CertificateFault(f"{node!r}: wanted a DNS name of ASCII characters, such as gateway-1.example.org") from None
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), days)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(signing, hashes.SHA256())
    )
    files = Files(folder / "ca.pem", out / f"{node}.pem", out / f"{node}.key")
    _replace(files.key, _pem(key), 0o600)
    _replace(files.certificate, certificate.public_bytes(Encoding.PEM), 0o644)
    return files


def development(folder: Path, node: str) -> Files:
    """Certificates for trying things out on one machine: an authority in ``folder``, made by whoever comes first, and a new
    certificate for this node.

    Raises:
        CertificateFault: the folder cannot be written.
    """
    if not (folder / "ca.pem").exists():
        try:
            init_authority(folder)
        except CertificateFault:
            if not (folder / "ca.key").exists():
                raise  # otherwise another gateway was first
    return issue(folder, node, folder)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs_certificates, crl_sign=signs_certificates, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CertificateFault(f"{file}: cannot be read: {error.strerror}") from None


def _write(file: Path, data: bytes, mode: int) -> None:
    """Write a file that must not be there yet."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
            out.write(data)
    except OSError as error:
        raise CertificateFault(f"{file}: cannot be written: {error.strerror}") from None


def _replace(file: Path, data: bytes, mode: int) -> None:
    """Write a file at once: a reader sees the old one or the new one."""
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    _write(scratch, data, mode)
    scratch.replace(file)
