"""Where a link of an invitation leads: join with the user you are, log in first, or become one."""

from __future__ import annotations

from typing import Any

from allauth.account.internal.flows.login import record_authentication
from allauth.account.utils import perform_login
from django import forms
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from controlpanel.accounts.models import User
from controlpanel.accounts.services import create_user
from controlpanel.accounts.who import person
from controlpanel.tenants import invitations
from controlpanel.tenants.models import Invitation
from controlpanel.tenants.pages import tenant_path
from engine.errors import AlreadyExists, EngineError, InvalidArgument, QuotaExceeded


class NewUser(forms.Form):
    username = forms.CharField(
        label=_("User"), max_length=64, widget=forms.TextInput({"autocomplete": "username", "autocapitalize": "none"})
    )
    password1 = forms.CharField(
        label=_("Password"),
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
        help_text=_("At least ten characters; neither a common word nor digits alone."),
    )
    password2 = forms.CharField(label=_("Password again"), strip=False, widget=forms.PasswordInput({"autocomplete": "new-password"}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs["class"] = "form-control"

    def clean(self) -> dict[str, Any]:
        filled = self.cleaned_data
        password, again = filled.get("password1"), filled.get("password2")
        if password and again and password != again:
            self.add_error("password2", _("This is not the same password."))
        if password:
            try:
                validate_password(password, User(username=filled.get("username", "")))
            except ValidationError as error:
                self.add_error("password1", error)
        return filled


@sensitive_post_parameters("password1", "password2")
@never_cache
def invitation(request: HttpRequest, secret: str) -> HttpResponse:
    """Strangers to the secret get 404. Whoever logs in on the way comes back here."""
    found = invitations.find(secret)
    form = NewUser(request.POST if request.method == "POST" and not request.user.is_authenticated else None)
    if request.method == "POST":
        to = tenant_path(found.tenant.name) + "/"
        if isinstance(request.user, User):
            try:
                invitations.accept(request.user, secret, address=request.META.get("REMOTE_ADDR", ""))
            except EngineError as error:
                return _page(request, found, form, failure=error.message)
            return redirect(to)
        if form.is_valid() and (user := _become(request, form, secret)):
            record_authentication(request, user, method="password", username=user.username)
            return perform_login(request, user, redirect_url=to)
    return _page(request, found, form)


def _become(request: HttpRequest, form: NewUser, secret: str) -> User | None:
    """The new user, a member already; None with the reason in the form. Both or neither."""
    name = form.cleaned_data["username"]
    try:
        with transaction.atomic():
            user, _password = create_user(person(request, f"{name} (invited)"), name, password=form.cleaned_data["password1"])
            invitations.accept(user, secret, address=request.META.get("REMOTE_ADDR", ""))
    except (AlreadyExists, InvalidArgument, QuotaExceeded) as error:
        form.add_error("username", error.message)
        return None
    return user


def _page(request: HttpRequest, found: Invitation, form: NewUser, failure: str = "") -> HttpResponse:
    status = 400 if failure or form.errors else 200
    return render(request, "tenants/invitation.html", {"invitation": found, "form": form, "failure": failure}, status=status)
