"""What a registry, or the way to it, refuses, in the words of moby (whose words are those of Go's net/http)."""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl
from typing import Any, Final

from engine.errors import EngineError, InvalidArgument, NotFound, PermissionDenied, RateLimited, Unauthenticated, Unavailable

_KINDS: Final[dict[str, type[EngineError]]] = {
    "UNAUTHORIZED": Unauthenticated,
    "DENIED": PermissionDenied,
    "MANIFEST_UNKNOWN": NotFound,
    "NAME_UNKNOWN": NotFound,
    "BLOB_UNKNOWN": NotFound,
    "MANIFEST_BLOB_UNKNOWN": NotFound,
    "TOOMANYREQUESTS": RateLimited,
    "NAME_INVALID": InvalidArgument,
    "TAG_INVALID": InvalidArgument,
    "DIGEST_INVALID": InvalidArgument,
    "MANIFEST_INVALID": InvalidArgument,
    "SIZE_INVALID": InvalidArgument,
    "UNAVAILABLE": Unavailable,
}
_BY_STATUS: Final[dict[int, type[EngineError]]] = {401: Unauthenticated, 403: PermissionDenied, 404: NotFound, 429: RateLimited}
_SHOWN: Final = 300  # characters of a strange answer
_REASONS: Final = {
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
RETRIED: Final = frozenset({429, 500, 502, 503, 504})


class Broken(Exception):
    """The connection failed, or what came over it: worth another try."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def of_response(status: int, reason: str, body: bytes) -> EngineError:
    """Of an answer that is none of success. ``detail``: {"status", "registry_code"}."""
    text = body.decode("utf-8", "replace")
    try:
        code, message = _first_error(json.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return _strange(status, reason, text)
    kind = _KINDS.get(code) or _BY_STATUS.get(status) or (Unavailable if status >= 500 else InvalidArgument)
    said = code.lower().replace("_", " ")
    return kind(f"{said}: {message}" if message else said, status=status, registry_code=code)


def _first_error(document: Any) -> tuple[str, str]:
    """Of the distribution-spec's form, or of token services' ``{"details": …}``."""
    if document.get("errors"):
        first = document["errors"][0]
        return str(first["code"]).upper()[:100], str(first.get("message") or "")[:_SHOWN]
    said = document.get("details") or document.get("error_description") or document["message"]
    return "UNAUTHORIZED", str(said)[:_SHOWN]


def _strange(status: int, reason: str, text: str) -> EngineError:
    kind = _BY_STATUS.get(status, Unavailable)
    name = f"{status} {reason or _REASONS.get(status, '')}".strip()
    if status == 401:
        return kind("unauthorized: authentication required", status=status, registry_code="UNAUTHORIZED")
    if status == 429:
        return kind("toomanyrequests: " + (text.strip()[:_SHOWN] or "Too Many Requests"), status=status, registry_code="TOOMANYREQUESTS")
    if 400 <= status < 500 and text.strip():
        shown = json.dumps(text[:_SHOWN], ensure_ascii=False)
        start = json.dumps(text.lstrip()[:1], ensure_ascii=False)[1:-1]
        said = f"error parsing HTTP {status} response body: invalid character '{start}' looking for beginning of value: {shown}"
        return kind(said, status=status, registry_code="")
    return kind(f"received unexpected HTTP status: {name}", status=status, registry_code="")


def of_network(error: Exception, address: str = "") -> str:
    """The end of Go's sentence: ``Get "https://…": `` goes before it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {_certificate(error)}"
    if isinstance(error, ssl.SSLError):
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"):
            return "http: server gave HTTP response to HTTPS client"
        return f"tls: {(error.reason or 'handshake failure').replace('_', ' ').lower()}"
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {address.rpartition(':')[0] or address}: no such host"
    if isinstance(error, TimeoutError):
        return f"dial tcp {address}: i/o timeout" if address else "net/http: timeout awaiting response headers"
    if isinstance(error, OSError) and error.errno:
        words = os.strerror(error.errno).lower()
        if address:
            return f"dial tcp {address}: connect: {words}"
        return "EOF" if error.errno in (errno.ECONNRESET, errno.EPIPE) else words
    return "EOF"


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in (18, 19, 20, 21):  # X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT … UNABLE_TO_VERIFY_LEAF_SIGNATURE
        return "certificate signed by unknown authority"
    if error.verify_code == 10:
        return "certificate has expired or is not yet valid"
    return str(error.verify_message).lower().rstrip(".")
