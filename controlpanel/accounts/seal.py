"""Sealing small secrets that must come back in the clear, such as the key of a TOTP app: who reads the database alone learns nothing.

The key is panel/seal.key, or SEAL_KEY. Several words in it are several keys: the first seals, all open, so that a key can be changed
while what the old one sealed is still there. Lost, its secrets are lost: people set their second factor up anew (``user mfa-reset``).

cryptography is imported with the first secret: it costs 7.5 MiB, which a panel without a second factor saves [m].
"""

from __future__ import annotations

import functools
import hashlib
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from django.conf import settings

from engine.errors import FailedPrecondition

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


def seal(secret: str) -> str:
    """A Fernet token (AES-128-CBC with HMAC-SHA256, github.com/fernet/spec)."""
    return _fernet(settings.SEAL_KEY).encrypt(secret.encode()).decode()


def unseal(sealed: str) -> str:
    """FailedPrecondition when none of our keys made it."""
    from cryptography.fernet import InvalidToken

    try:
        return _fernet(settings.SEAL_KEY).decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise FailedPrecondition(
            "this secret was sealed with another key than panel/seal.key: an operator can bring the key back, or take the second factor "
            "away with ./manage.py user mfa-reset NAME"
        ) from None


@functools.lru_cache(maxsize=2)
def _fernet(keys: str) -> MultiFernet:
    """A key is 48 random bytes as text, so one hash makes 32 good ones of it."""
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(urlsafe_b64encode(hashlib.sha256(key.encode()).digest())) for key in keys.split()])
