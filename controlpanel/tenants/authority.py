"""The panel's authority for clients' certificates, and the file that ``docker context import`` takes.

    <panel>/clients.key   0600: signs clients' certificates; made by the panel's user at the first ``up`` with SLIPWAY_TLS
    <panel>/clients.pem   whom the TLS port believes (controlpanel/server/tls.py)

What a certificate says are words for people: a row says what it may, and that there is none revokes it. Hence no revocation list.
"""

from __future__ import annotations

import hashlib
import io
import ipaddress
import json
import os
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone

from engine.errors import FailedPrecondition

_DAYS: Final = 36_500  # web does not look at its end: rows end


@dataclass(frozen=True, slots=True, repr=False)
class Signed:
    """What a client needs, in PEM. ``digest``: SHA-256 of the certificate's DER, in hex; ``endpoint``: HOST:PORT of the TLS port."""

    certificate: bytes
    key: bytes
    ca: bytes
    digest: str
    endpoint: str


def make() -> None:
    """The authority, unless there is one."""
    from workers import authority  # of cryptography: 10 MiB that only those processes pay who sign

    if _path("pem").exists():
        return
    key = authority.new_key()
    made = authority.Authority.make(key, "Slipway clients", now=timezone.now(), days=_DAYS)
    _write(_path("key"), authority.key_pem(key))
    _write(_path("pem"), authority.certificate_pem(made.certificate))


def sign(*, name: str, tenant: str, ends_at: datetime, host: str = "") -> Signed:
    """A new key and its certificate. ``host``: by which name or address, and port, this client reaches the machine; else the best one.

    FailedPrecondition when this platform has no TLS port, or its certificate is not for that host.
    """
    from workers import authority

    if not settings.TLS_PORT:
        raise _no_tls()
    try:
        own = authority.Authority(authority.load_certificate(_path("pem").read_bytes()), authority.load_key(_path("key").read_bytes()))
        ca = (settings.TLS_FOLDER / "ca.pem").read_bytes()
        names = (settings.TLS_FOLDER / "names").read_text().split()
    except FileNotFoundError:
        raise _no_tls() from None
    endpoint = _endpoint(host or names[0], names)
    key = authority.new_key()
    made = own.for_client(key, name=name, organization=tenant, now=timezone.now(), ends=ends_at)
    digest = hashlib.sha256(authority.certificate_der(made)).hexdigest()
    return Signed(authority.certificate_pem(made), authority.key_pem(key), ca, digest, endpoint)


def docker_context(name: str, signed: Signed, *, description: str) -> bytes:
    """A tar as ``docker context export`` writes it: meta.json and tls/docker/{ca,cert,key}.pem."""
    endpoint = {"Host": f"tcp://{signed.endpoint}", "SkipTLSVerify": False}
    meta = {"Name": name, "Metadata": {"Description": description}, "Endpoints": {"docker": endpoint}}
    files = {
        "meta.json": json.dumps(meta).encode(),
        "tls/docker/ca.pem": signed.ca,
        "tls/docker/cert.pem": signed.certificate,
        "tls/docker/key.pem": signed.key,
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _endpoint(host: str, names: Sequence[str]) -> str:
    try:
        name, port = str(ipaddress.ip_address(host.strip("[]"))), None
    except ValueError:
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port
        except ValueError:
            name, port = "", None
    if name not in (each.lower() for each in names):
        raise FailedPrecondition(
            f"the server's certificate is not for {host}, but for {', '.join(names)}: the operator adds it to SLIPWAY_ALLOWED_HOSTS and "
            "runs ./manage.py up"
        )
    return f"{f'[{name}]' if ':' in name else name}:{port or settings.TLS_PORT}"


def _no_tls() -> FailedPrecondition:
    return FailedPrecondition("this platform has no TLS port: its operator sets SLIPWAY_TLS=:2376 and runs ./manage.py up")


def _path(kind: str) -> Path:
    return Path(settings.PANEL_DIR) / f"clients.{kind}"


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    temporary.rename(path)
