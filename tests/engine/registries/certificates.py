"""An authority, and a certificate of it for an address, by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make(folder: Path, address: str = "127.0.0.1") -> tuple[Path, Path, Path]:
    """(authority, certificate, key). ``address``: or ``DNS:`` and a name."""
    name = address if address.startswith("DNS:") else f"IP:{address}"
    folder.mkdir(parents=True, exist_ok=True)
    authority, authority_key = folder / "ca.pem", folder / "ca.key"
    certificate, key = folder / "cert.pem", folder / "key.pem"
    _openssl("req", "-x509", "-newkey", "ec", *_CURVE, "-nodes", "-subj", "/CN=test authority", "-days", "2",
             "-keyout", authority_key, "-out", authority)  # fmt: skip
    _openssl("req", "-x509", "-newkey", "ec", *_CURVE, "-nodes", "-subj", f"/CN={address.removeprefix('DNS:')}", "-days", "2",
             "-addext", f"subjectAltName={name}", "-addext", "basicConstraints=critical,CA:FALSE",
             "-CA", authority, "-CAkey", authority_key, "-keyout", key, "-out", certificate)  # fmt: skip
    return authority, certificate, key


_CURVE = ("-pkeyopt", "ec_paramgen_curve:P-256")


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
