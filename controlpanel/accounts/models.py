"""People and their keys."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

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


class Credential(models.Model):
    """A key to one tenant in one role, or to some verbs of that role alone. What a user's may do the user may do, too."""

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="%(class)ss")
    role = models.CharField(max_length=63)  # one of the five, or the tenant's own
    project = models.CharField(max_length=63, blank=True, default="")  # in this one alone; "" = wherever the role holds
    verbs = models.JSONField(default=list)  # of tenants.verbs.VERBS; none: all that the role may
    name = models.CharField(max_length=100, blank=True)
    digest = models.CharField(max_length=64, unique=True)  # SHA-256 in hex of the secret, or of the certificate
    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, related_name="%(class)ss")  # None: a robot's, made by root
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)
    last_used_from = models.CharField(max_length=100, blank=True)

    class Meta:
        abstract = True
        ordering = ["-created_at"]

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()


class Certificate(Credential):
    """A client's, signed by the panel's own authority. Its key is in the file that was exported and nowhere here."""

    class Meta(Credential.Meta):
        pass

    def __str__(self) -> str:
        return f"{self.prefix}…"

    @property
    def prefix(self) -> str:
        """Of its fingerprint, as ``openssl x509 -fingerprint -sha256`` shows it without colons."""
        return self.digest[:PREFIX_LENGTH]

    @property
    def description(self) -> str:
        """For ``docker context ls``."""
        who = self.user.username if self.user else self.name or "a robot"
        return f"Slipway: tenant {self.tenant.name}, {who} as {self.role}, until {self.expires_at:%Y-%m-%d}"


class Token(Credential):
    """A bearer key. Only its SHA-256 is kept; the secret is shown once.

    128 bits of randomness and more need no slow hash: there is nothing to guess.
    """

    prefix = models.CharField(max_length=PREFIX_LENGTH)

    class Meta(Credential.Meta):
        pass

    def __str__(self) -> str:
        return f"{self.prefix}…"

    @staticmethod
    def new_secret() -> str:
        return TOKEN_MARK + secrets.token_urlsafe(32)

    @staticmethod
    def digest_of(secret: str) -> str:
        return hashlib.sha256(secret.encode()).hexdigest()

    @classmethod
    def make(cls, **words: Any) -> tuple[Token, str]:
        """An unsaved token and its secret; ``words`` are the fields of a Credential."""
        secret = cls.new_secret()
        token = cls(**words)
        token.prefix, token.digest = secret[:PREFIX_LENGTH], cls.digest_of(secret)
        return token, secret
