"""The list of containers as a page shows it: filtered, sorted, a hundred at a time. All of it is in the URL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.http import QueryDict
from django.utils.translation import gettext as _

from controlpanel.containers import presentation
from controlpanel.containers.projection import ContainerView

PER_PAGE: Final = 100
_KEYS: Final = {
    "name": lambda view: view.name,
    "state": lambda view: (not view.is_running, view.status.value, view.name),
    "image": lambda view: (view.image, view.name),
    "created": lambda view: -view.created_at_ns,
}


def listing(views: Sequence[ContainerView], asked: QueryDict) -> dict[str, Any]:
    """Context of containers/_table.html. Unknown sort words and pages out of range fall back to the first."""
    query = asked.get("q", "").strip()
    words = query.lower().split()
    project = asked.get("project", "")
    found = [
        view
        for view in views
        if (not project or view.project == project)
        and all(word in f"{view.name} {view.image} {view.status.value} {view.id[:12]}".lower() for word in words)
    ]
    sort = asked.get("sort", "created")
    backwards, key = sort.startswith("-"), sort.removeprefix("-")
    if key not in _KEYS:
        backwards, key = False, "created"
    found.sort(key=_KEYS[key], reverse=backwards)
    pages = max(1, -(-len(found) // PER_PAGE))
    number = asked.get("page", "1")
    page = min(max(int(number), 1), pages) if number.isascii() and number.isdigit() else 1
    return {
        "rows": [presentation.row(view) for view in found[(page - 1) * PER_PAGE : page * PER_PAGE]],
        "query": query,
        "project": project,
        "projects": sorted({view.project for view in views} - {""}),
        "sort": asked.get("sort", ""),
        "columns": _columns(asked, key, backwards),
        "page": page,
        "pages": pages,
        "previous": _with(asked, page=page - 1) if page > 1 else "",
        "next": _with(asked, page=page + 1) if page < pages else "",
        "empty_command": "docker run -d --name web busybox httpd -f",
    }


def _columns(asked: QueryDict, key: str, backwards: bool) -> list[dict[str, str]]:
    columns = [
        ("state", _("State"), ""),
        ("name", _("Name"), ""),
        ("image", _("Image"), "hide-small"),
        ("", _("CPU"), "num"),
        ("", _("Memory"), "num hide-small"),
        ("", _("Limit"), "num hide-small"),
        ("created", _("Created"), "hide-small"),
    ]
    shown = []
    for name, text, css in columns:
        is_sorted = bool(name) and name == key
        link = _with(asked, sort=f"-{name}" if is_sorted and not backwards else name) if name else ""
        direction = ("descending" if backwards else "ascending") if is_sorted else ""
        shown.append({"text": text, "css": css, "link": link, "sorted": direction})
    return shown


def _with(asked: QueryDict, **changes: str | int) -> str:
    query = asked.copy()
    query.pop("page", None)
    for name, value in changes.items():
        query[name] = str(value)
    return query.urlencode()
