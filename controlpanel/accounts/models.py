"""People and their keys."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

TOKEN_MARK = "slw_"  # so that a leaked token is recognised by scanners
PREFIX_LENGTH = 12


class User(AbstractUser):
    """Someone who logs in. ``is_superuser`` is the operator of the platform."""

    first_name = None  # type: ignore[assignment]
    last_name = None  # type: ignore[assignment]
    language = models.CharField(_("language"), max_length=10, blank=True)  # "" = as the browser asks
    uid = models.PositiveBigIntegerField(_("unix user id"), unique=True, null=True, blank=True)  # may use tenants' sockets

    def __str__(self) -> str:
        return self.username


class Token(models.Model):
    """A bearer key to one tenant in one role. Only its SHA-256 is kept; the secret is shown once.

    128 bits of randomness and more need no slow hash: there is nothing to guess.
    """

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="tokens")
    role = models.CharField(max_length=10)
    name = models.CharField(max_length=100, blank=True)
    prefix = models.CharField(max_length=PREFIX_LENGTH)
    digest = models.CharField(max_length=64, unique=True)
    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, related_name="tokens")  # None: a robot's, made by root
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)
    last_used_from = models.CharField(max_length=100, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.prefix}…"

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @staticmethod
    def new_secret() -> str:
        return TOKEN_MARK + secrets.token_urlsafe(32)

    @staticmethod
    def digest_of(secret: str) -> str:
        return hashlib.sha256(secret.encode()).hexdigest()

    @classmethod
    def make(cls, *, tenant_id: int, role: str, name: str, user: User | None, lifetime: timedelta | None) -> tuple[Token, str]:
        """An unsaved token and its secret."""
        secret = cls.new_secret()
        expires_at = timezone.now() + lifetime if lifetime else None
        token = cls(tenant_id=tenant_id, role=role, name=name, user=user, expires_at=expires_at)
        token.prefix, token.digest = secret[:PREFIX_LENGTH], cls.digest_of(secret)
        return token, secret
