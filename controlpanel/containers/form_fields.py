"""Fields of the container forms: what people type, in the docker client's spelling, and what ``creation.ContainerIn`` calls it.

Each carries the client's flag (``data-flag``) and how its value becomes words (``data-as``): js/command.js writes the line from these.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from controlpanel.base.units import parse_bytes
from controlpanel.containers import ports
from engine.errors import InvalidArgument

_CSS = {forms.CheckboxInput: "form-check-input", forms.Select: "form-select"}
_PAIR = re.compile(r"[^=\s\0]+=")


class SizeField(forms.CharField):
    """``512m`` or ``1.5 GiB`` → bytes, as docker's --memory reads it. Empty is 0: unlimited."""

    def clean(self, value: Any) -> int:
        text = str(super().clean(value) or "").strip()
        try:
            return parse_bytes(text) if text else 0
        except InvalidArgument:
            raise forms.ValidationError(_("Write a size like 256m or 1.5g.")) from None


class SwapField(SizeField):
    """Also -1: unlimited."""

    def clean(self, value: Any) -> int:
        return -1 if str(value).strip() == "-1" else super().clean(value)


class WordsField(forms.CharField):
    """Words as a shell splits them; nothing is expanded."""

    def clean(self, value: Any) -> list[str]:
        try:
            return shlex.split(super().clean(value))
        except ValueError as error:
            raise forms.ValidationError(_("A quote is not closed.")) from error


class LinesField(forms.CharField):
    """One entry a line; ``entry`` makes something of each, or raises ValueError with nothing to add to what is shown."""

    widget = forms.Textarea

    def entry(self, line: str) -> Any:
        return line

    def clean(self, value: Any) -> Any:
        found = []
        for line in filter(None, map(str.strip, super().clean(value).splitlines())):
            try:
                found.append(self.entry(line))
            except (ValueError, InvalidArgument):
                raise forms.ValidationError(
                    _("“%(line)s” is not %(form)s."), params={"line": line[:80], "form": self.widget.attrs.get("placeholder", "")}
                ) from None
        return found


class PairsField(LinesField):
    """``NAME=value`` → a dict; of two with one name the last holds, as with docker."""

    def entry(self, line: str) -> tuple[str, str]:
        if not _PAIR.match(line):
            raise ValueError
        name, _equals, value = line.partition("=")
        return name, value

    def clean(self, value: Any) -> dict[str, str]:
        return dict(super().clean(value))


class TmpfsField(PairsField):
    """``/path:options``; options may be absent."""

    def entry(self, line: str) -> tuple[str, str]:
        path, _colon, options = line.partition(":")
        return path, options


class PortsField(LinesField):
    """As ``docker run -p`` has them; said again as they were written."""

    def entry(self, line: str) -> str:
        ports.read({}, {"PortBindings": ports.parse(line)})
        return line


class EndpointsField(LinesField):
    """Names of networks."""

    def entry(self, line: str) -> dict[str, str]:
        return {"network": line}


class UlimitsField(LinesField):
    """``name=soft`` or ``name=soft:hard``."""

    def entry(self, line: str) -> dict[str, Any]:
        name, equals, limits = line.partition("=")
        soft, colon, hard = limits.partition(":")
        if not name or not equals:
            raise ValueError
        return {"name": name, "soft": int(soft), "hard": int(hard) if colon else None}


class DevicesField(LinesField):
    """``/dev/a``, ``/dev/a:rw``, ``/dev/a:/dev/b`` or ``/dev/a:/dev/b:rw``."""

    def entry(self, line: str) -> dict[str, str]:
        path, *rest = line.split(":")
        if not path.startswith("/") or len(rest) > 2:
            raise ValueError
        place = rest.pop(0) if rest and rest[0].startswith("/") else ""
        return {"path_on_host": path, "path_in_container": place, "permissions": rest[0] if rest else "rwm"}


class RatesField(LinesField):
    """``/dev/sda:10m``: bytes or operations a second, or a weight."""

    def entry(self, line: str) -> dict[str, Any]:
        path, _colon, rate = line.rpartition(":")
        if not path:
            raise ValueError
        return {"path": path, "rate": parse_bytes(rate)}


class SeccompField(forms.CharField):
    """``unconfined``, or a profile's JSON."""

    widget = forms.Textarea

    def clean(self, value: Any) -> str | dict[str, Any]:
        text = super().clean(value)
        if not text.startswith("{"):
            return text
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise forms.ValidationError(_("This is no JSON: %(why)s"), params={"why": str(error)}) from error
        return found


def said(
    kind: Callable[..., forms.Field], label: Any, flag: str, spelled: str = "word", *, like: str = "", hint: Any = "", **words: Any
) -> forms.Field:
    """A field that may stay empty. ``spelled``: word, size, seconds, switch, lines, or another of js/command.js; ``like``: an example."""
    field = kind(label=label, required=False, help_text=hint, **words)
    field.widget.attrs |= {"data-flag": flag, "data-as": spelled, **({"placeholder": like} if like else {})}
    return field


def dress(form: forms.Form) -> None:
    """Tabler's classes; a textarea begins low, and its corner makes it larger."""
    for field in form.fields.values():
        attrs = field.widget.attrs
        attrs["class"] = _CSS.get(type(field.widget), "form-control")
        if isinstance(field.widget, forms.Textarea):
            attrs |= {"rows": 2, "spellcheck": "false"}
            attrs.pop("cols")
