"""Certificates of our own: keys, an authority that signs itself, and what it signs for servers and clients (RFC 5280).

Two rooms have an authority each: the platform's, whose key only root reads, signs the server's certificates
(workers/platform/certificates.py); the panel's signs clients' (controlpanel/tenants/authority.py). It imports cryptography, which
costs a process 10 MiB [m]: who seldom needs it imports it then.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey
Certificate = x509.Certificate

_SKEW: Final = datetime.timedelta(minutes=5)  # of other machines' clocks
_COMMON_NAME_MAX: Final = 64  # ub-common-name


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def load_key(pem: bytes) -> Key:
    """ValueError when it is none of ours."""
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, Key):
        raise ValueError("not a key of an elliptic curve")
    return key


def load_certificate(pem: bytes) -> Certificate:
    """The first in it; ValueError when there is none."""
    return x509.load_pem_x509_certificate(pem)


def key_pem(key: Key) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def certificate_pem(certificate: Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def certificate_der(certificate: Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True, slots=True)
class Authority:
    certificate: Certificate
    key: Key

    @classmethod
    def make(cls, key: Key, name: str, *, now: datetime.datetime, days: int) -> Self:
        """Signed by itself. With a key that was an authority's before, what that one signed is believed, too."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, subject, key.public_key(), now, now + datetime.timedelta(days=days))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return cls(builder.sign(key, hashes.SHA256()), key)

    def for_server(self, key: Key, names: Sequence[str], *, now: datetime.datetime, days: int) -> Certificate:
        """``names``: of hosts, and addresses."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:_COMMON_NAME_MAX])])
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = _builder(subject, self.certificate.subject, key.public_key(), now, now + datetime.timedelta(days=days))
        return self._sign(builder.add_extension(alternatives, critical=False), ExtendedKeyUsageOID.SERVER_AUTH)

    def for_client(self, key: Key, *, name: str, organization: str, now: datetime.datetime, ends: datetime.datetime) -> Certificate:
        """The words are for people who look at it; rights stand in no certificate."""
        words = ((NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, name))
        subject = x509.Name([x509.NameAttribute(kind, word[:_COMMON_NAME_MAX]) for kind, word in words])
        return self._sign(_builder(subject, self.certificate.subject, key.public_key(), now, ends), ExtendedKeyUsageOID.CLIENT_AUTH)

    def has_signed(self, certificate: Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True

    def _sign(self, builder: x509.CertificateBuilder, purpose: x509.ObjectIdentifier) -> Certificate:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        return builder.add_extension(issuer, critical=False).sign(self.key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime, ends: datetime.datetime
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), now - _SKEW, ends)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
