"""Requests to the panel's pages: every address that Django knows, and every form that a walk through the tenant's pages finds, filled in
wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from random import Random
from typing import Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

from tests.attack.ground import Browser
from tests.fuzz import damage, mutation
from tests.fuzz.docker import NOWHERE
from tests.fuzz.wire import Door, Shot, request

_PAGES: Final = 40  # that a walk looks at
_WALK_EACH: Final = 10  # times that somebody asks for a renewal
_FORM: Final = "application/x-www-form-urlencoded"
_PART: Final = re.compile(r"<(?:\w+:)?(\w+)>")
_LEADS_OUT: Final = frozenset({"ref", "address", "remote", "registry"})  # fields that name an image elsewhere, or a place to fetch from
_STREAMS: Final = ("export", "save", "log.txt")
_WAITING: Final = ("/stop", "/restart")


@dataclass
class Form:
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Reader(HTMLParser):
    """Links and forms of a page."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where
        self.links: list[str] = []
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        words = {name: text or "" for name, text in attrs}
        if tag == "a" and "href" in words:
            self.links.append(urlsplit(urljoin(self._where, words["href"])).path)
        posts = words.get("hx-post") or (words.get("action", self._where) if words.get("method", "").lower() == "post" else "")
        if tag == "form" or "hx-post" in words:
            self.forms.append(Form(urlsplit(urljoin(self._where, posts)).path if posts else ""))
        elif tag in ("input", "select", "textarea", "button") and "name" in words and self.forms:
            self.forms[-1].fields[words["name"]] = words.get("value", "")


class Pages:
    """Shots of somebody who is logged in; ``log_in`` opens another session when this one has ended by chance."""

    name = "pages"

    def __init__(self, door: Door, chance: Random, log_in: Callable[[], Browser], tenant: str) -> None:
        self._address, self._log_in, self._home = door.address, log_in, f"/t/{tenant}/"
        self.chance, self._tenant = chance, tenant
        self.known: dict[str, list[str]] = {}
        self._addresses = addresses()
        self._forms: list[Form] = []
        self._renewals = 0
        self._take_session()
        self.renew()

    def _take_session(self) -> None:
        self._browser = self._log_in()
        token = next(str(cookie.value) for cookie in self._browser.jar if "csrf" in cookie.name)
        self.door = Door(self._address, f"Cookie: {self._browser.cookies}\r\nX-CSRFToken: {token}\r\n".encode())

    def renew(self) -> None:
        if self._browser.get(self._home)[0] != 200:
            self._take_session()
        if self._renewals % _WALK_EACH == 0:
            self._walk()
        self._renewals += 1

    def _walk(self) -> None:
        """For forms: new things have pages of their own."""
        waiting, seen = [self._home], set[str]()
        forms: dict[str, Form] = {}
        while waiting and len(seen) < _PAGES:
            where = waiting.pop(0)
            seen.add(where)
            status, said = self._browser.get(where)
            if status != 200 or not said.lstrip().startswith(b"<"):
                continue
            page = _Reader(where)
            page.feed(said.decode(errors="replace"))
            forms |= {form.action: form for form in page.forms if form.action.startswith(self._home)}
            new = {link for link in page.links if link.startswith(self._home) and not link.endswith(_STREAMS)}
            waiting += sorted(new - seen - set(waiting))
        self._forms = list(forms.values()) or self._forms

    def shot(self) -> Shot:
        chance = self.chance
        if self._forms and chance.random() < 0.5:
            form = chance.choice(self._forms)
            return self._shot("POST", form.action, self._filled(form.fields), label=_shape(form.action, self._tenant))
        where = chance.choice(self._addresses)
        target = _PART.sub(lambda found: self._part(where, found[1]), where)
        if chance.random() < 0.3 and not where.startswith("accounts/"):  # there a session could end, or a password change
            every = [name for form in self._forms for name in form.fields] or ["name"]
            return self._shot("POST", f"/{target}", self._filled(dict.fromkeys(chance.sample(every, min(3, len(every))), "")), label=where)
        fields = {chance.choice(("q", "page", "before", "tail", "status", "who", "since", "next", "path", "limit")): mutation.word(chance)}
        return self._shot("GET", f"/{target}" + mutation.query(fields if chance.random() < 0.5 else {}, chance), None, label=where)

    def _shot(self, method: str, target: str, fields: dict[str, str] | None, *, label: str) -> Shot:
        chance = self.chance
        lines = [
            b"Origin: " + self._address.encode(),
            b"Referer: " + self._address.encode() + b"/",
            b"Accept-Language: " + chance.choice((b"en", b"zh-hans", b"\xff")),
        ]
        if chance.random() < 0.5:
            lines += [b"HX-Request: true", b"HX-Target: " + chance.choice((b"main", b"x", b"\xff"))]
        body = None if fields is None else urlencode(fields, errors="surrogatepass").encode()
        if body is not None and chance.random() < 0.1:
            body = mutation.spoiled(body, chance)
        kind = (
            _FORM
            if chance.random() < 0.9
            else chance.choice(("multipart/form-data; boundary=x", "application/json", _FORM + "; charset=utf-7"))
        )
        wire = request(method, target, body, *lines, door=self.door, kind=kind)
        stream, waits = target.partition("?")[0].endswith(_STREAMS), target.endswith(_WAITING)
        if chance.random() < 0.05:
            how = chance.choice(list(damage.ALL))
            return Shot(f"{method} {label} ({how})", damage.ALL[how](wire, chance), is_cut=True)
        return Shot(f"{method} {label}", wire, stream=stream, may_wait=waits)

    def _part(self, where: str, name: str) -> str:
        chance = self.chance
        if name == "tenant":
            return self._tenant if chance.random() < 0.97 else mutation.in_path(mutation.word(chance), chance)
        there: list[Any] = next(
            (self.known.get(kind, []) for kind in ("containers", "volumes", "images", "networks") if f"/{kind}/" in where), []
        )
        if name not in ("number", "token_id", "certificate_id") and there and chance.random() < 0.8:
            return mutation.in_path(chance.choice(there), chance)
        return mutation.in_path(chance.choice(("1", "2", mutation.word(chance))), chance)

    def _filled(self, fields: dict[str, str]) -> dict[str, str]:
        """One or two of them wrongly, what leads off the machine not at all."""
        chance = self.chance
        filled = {name: text or chance.choice(("", "fuzzed", "busybox", "1", "on")) for name, text in fields.items()}
        for _ in range(chance.randrange(3)):
            if filled:
                filled[chance.choice(list(filled))] = mutation.word(chance)
        return filled | dict.fromkeys(_LEADS_OUT & filled.keys(), NOWHERE)


def addresses() -> list[str]:
    """Every page's, with its <parts>, without REST's."""
    from django.urls import URLPattern, URLResolver, get_resolver

    def walk(resolver: URLResolver, before: str) -> list[str]:
        found: list[str] = []
        for each in resolver.url_patterns:
            where = before + str(each.pattern)
            found += [where] if isinstance(each, URLPattern) else walk(each, where)
        return found

    return sorted({where for where in walk(get_resolver(), "") if not where.startswith("api/")})


def _shape(action: str, tenant: str) -> str:
    """Of an address, without names of things: what findings are counted by."""
    return re.sub(r"/(containers|volumes|networks|images)/[^/]+/", r"/\1/…/", action.replace(f"/t/{tenant}/", "t/…/"))
