"""Users: making them, their passwords, their language. Who may is checked by the caller (tenants.people, the pages)."""

from __future__ import annotations

import secrets
import string

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import IntegrityError, transaction

from controlpanel.accounts import sessions
from controlpanel.accounts.models import User
from controlpanel.audit.services import PLATFORM, Who, record
from controlpanel.base import live
from engine.errors import AlreadyExists, InvalidArgument, NotFound

_ALPHABET = "".join(set(string.ascii_letters + string.digits) - set("0OoIl1"))  # read aloud and typed without doubt
_NAME = RegexValidator(r"^[A-Za-z0-9](?:[A-Za-z0-9._@+-]{0,62}[A-Za-z0-9])?\Z")


def new_password() -> str:
    """20 characters that can be read from a screen: 115 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(20))


@transaction.atomic
def create_user(who: Who, name: str, *, operator: bool = False, uid: int | None = None, password: str = "") -> tuple[User, str]:
    """The user and the password, which is known this once only. Names that differ in case alone are one name: so a login finds one user."""
    try:
        _NAME(name)
    except ValidationError:
        raise InvalidArgument(f"invalid user name {name!r}: use 1 to 64 letters, digits and . _ @ + -") from None
    if User.objects.filter(username__iexact=name).exists():
        raise AlreadyExists(f"user {name} exists already")
    password = password or new_password()
    user = User(username=name, uid=_linkable(uid), is_superuser=operator, is_staff=operator)
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError:
        if User.objects.filter(username=name).exists():
            raise AlreadyExists(f"user {name} exists already") from None
        raise AlreadyExists(f"unix user {uid} is linked to another user already") from None
    record(who, "user.create", name, tenant_number=PLATFORM, operator=operator, uid=uid)
    return user, password


@transaction.atomic
def set_password(who: Who, user: User, password: str = "") -> str:
    """The new password: the one given, or one made here. Ends the user's sessions."""
    if password:
        try:
            validate_password(password, user)
        except ValidationError as error:
            raise InvalidArgument(" ".join(error.messages)) from None
    password = password or new_password()
    user.set_password(password)
    user.save(update_fields=["password"])
    sessions.end_sessions(who, user)
    record(who, "user.password", user.username, tenant_number=PLATFORM)
    return password


@transaction.atomic
def set_active(who: Who, user: User, *, active: bool) -> None:
    """A disabled user logs in nowhere; sessions, tokens, certificates and sockets count no more, and what is open by them is cut."""
    user.is_active = active
    user.save(update_fields=["is_active"])
    record(who, "user.enable" if active else "user.disable", user.username, tenant_number=PLATFORM)
    live.on_commit({"kind": "access", "tenant": live.EVERYONE})


def user_named(name: str) -> User:
    user = User.objects.filter(username=name).first()
    if user is None:
        raise NotFound(f"No such user: {name}")
    return user


def set_language(user: User, language: str) -> None:
    user.language = language
    user.save(update_fields=["language"])


def _linkable(uid: int | None) -> int | None:
    if uid is not None and not 0 < uid < 2**32 - 1:
        raise InvalidArgument(f"unix user {uid}: give an id from 1 to {2**32 - 2}; root needs no link")
    return uid
