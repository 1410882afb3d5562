"""A tenant's registry as pages: repositories, one with its tags, one image, the trash, and the rules with what they would do now."""

from __future__ import annotations

import json
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from controlpanel.base import database
from controlpanel.registry import artifacts, copying, errors, history, retention, rules, services, tags, trash
from controlpanel.registry.errors import Refused
from controlpanel.registry.models import PRIVATE, PUBLIC, Rule
from controlpanel.registry.names import split, tenant_of
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import act, page, show, tenant_path
from engine.errors import InvalidArgument, NotFound

_SHOWN: Final = 500  # rows of a list
_MOVES: Final = 100


@page("registry.pull")
async def listing(request: HttpRequest, actor: Actor) -> HttpResponse:
    query = request.GET.get("q", "").strip()
    found = [each for each in await database.read(artifacts.repositories, actor) if query.lower() in each.name]
    shown = {"query": query, "repositories": found[:_SHOWN], "count": len(found), "shown": min(len(found), _SHOWN)}
    assert actor.tenant is not None
    ref = f"{request.get_host()}/{actor.tenant.name}/app:1"
    commands = {
        "login_command": f"docker login {request.get_host()}",
        "tag_command": f"docker tag app:1 {ref}",
        "push_command": f"docker push {ref}",
    }
    return await _show(request, actor, "list", **shown, **commands)


@page("registry.pull")
async def one(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    def found() -> dict[str, Any]:
        row = tags.repository(actor, name)
        return {"repository": row, "public": row.visibility == PUBLIC, "tags": tags.tags(actor, name)}

    shown = await database.read(found)
    at, names = f"{request.get_host()}/{name}", [each.name for each in shown["tags"]]
    pulled = f":{names[0]}" if names and "latest" not in names else ""  # what docker pulls without a tag is latest
    commands = {"pull_command": f"docker pull {at}{pulled}", "push_command": f"docker push {at}:TAG"}
    return await _show(request, actor, "one", **shown, **commands)


@page("registry.pull")
async def image(request: HttpRequest, actor: Actor, ref: str) -> HttpResponse:
    """acme/web:1.2, or by digest."""
    name, reference = split(ref)

    def found() -> dict[str, Any]:
        row = tags.repository(actor, name)
        try:
            seen = artifacts.read(name, reference)
        except Refused as error:
            raise errors.rest(error) from None
        moves = [] if seen.by_digest else history.of(row.pk, reference, limit=_MOVES)
        return {"repository": row, "image": seen, "moves": moves, "pretty": json.dumps(seen.document, indent=2, ensure_ascii=False)}

    pull = f"docker pull {request.get_host()}/{name}{'@' if ':' in reference else ':'}{reference}"
    return await _show(request, actor, "image", **await database.read(found), name=name, reference=reference, pull_command=pull)


@page("registry.pull")
async def discarded(request: HttpRequest, actor: Actor) -> HttpResponse:
    return await _show(request, actor, "trash", trash=await database.read(trash.content, actor))


@page("registry.pull")
async def ruling(request: HttpRequest, actor: Actor) -> HttpResponse:
    def found() -> dict[str, Any]:
        verdicts = retention.plan(actor)
        going = [each for each in verdicts if not each.stays]
        return {
            "rules": rules.rules(actor),
            "going": going[:_SHOWN],
            "going_count": len(going),
            "staying": [each for each in verdicts if each.stays][:_SHOWN],
            "staying_count": len(verdicts) - len(going),
            "sweeps": retention.sweeps(actor)[:10],
        }

    return await _show(request, actor, "rules", **await database.read(found))


# -- acts --------------------------------------------------------------------------------------------


@require_POST
@page("registry.push")
async def pin(request: HttpRequest, actor: Actor, ref: str) -> HttpResponse:
    name, tag = _own(actor, ref)
    pinned = request.POST.get("pinned") == "1"
    done = _("%(name)s is pinned: no rule takes it away.") if pinned else _("%(name)s is no longer pinned.")
    return await act(request, database.run(tags.pin, actor, name, tag, pinned), done=done % {"name": tag}, to=_path(actor, "view", name))


@require_POST
@page("registry.delete")
async def delete(request: HttpRequest, actor: Actor, ref: str) -> HttpResponse:
    """A tag alone, or by its digest the image with all its tags."""
    name, reference = _own(actor, ref)
    done = _("The image lies in the trash.") if ":" in reference else _("Tag %(name)s was removed.") % {"name": reference}
    return await act(request, _deed(services.delete_manifest, actor, name, reference), done=done, to=_path(actor, "view", name))


@require_POST
@page("registry.push")
async def copy(request: HttpRequest, actor: Actor, ref: str) -> HttpResponse:
    """To another repository or tag of the tenant; also back to what the tag was."""
    name, reference = _own(actor, ref)
    target, tag = _own(actor, request.POST.get("target", "").strip())
    done = _("%(name)s is there.") % {"name": f"{target}:{tag}"}
    return await act(request, _deed(copying.copy, actor, name, reference, target, tag), done=done, to=_path(actor, "view", target))


@require_POST
@page("registry.visibility")
async def publish(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    public = request.POST.get("public") == "1"
    done = _("Everybody may pull from it now.") if public else _("Only members may pull from it now.")
    deed = database.run(services.set_visibility, actor, name, PUBLIC if public else PRIVATE)
    return await act(request, deed, done=done, to=_path(actor, "view", name))


@require_POST
@page("registry.delete")
async def restore(request: HttpRequest, actor: Actor) -> HttpResponse:
    name, digest = request.POST.get("repository", ""), request.POST.get("digest", "")
    return await act(request, database.run(trash.restore, actor, name, digest), done=_("It is there again."), to=_path(actor, "trash"))


@require_POST
@page("registry.maintain")
async def empty(request: HttpRequest, actor: Actor) -> HttpResponse:
    deed = database.run(lambda: trash.empty(actor, trash.content(actor)))
    return await act(request, deed, done=_("The trash is empty."), to=_path(actor, "trash"))


@require_POST
@page("registry.maintain")
async def rule(request: HttpRequest, actor: Actor) -> HttpResponse:
    asked = request.POST
    kind = Rule.IMMUTABLE if asked.get("kind") == Rule.IMMUTABLE else Rule.KEEP
    names = ("last", "pushed_days", "pulled_days", "untagged_days") if kind == Rule.KEEP else ()

    def make() -> Rule:
        figures = {name: _number(asked.get(name, "")) for name in names}
        return rules.create(actor, kind, asked.get("repositories", "").strip(), asked.get("tags", "").strip() or "**", **figures)

    return await act(request, database.run(make), done=_("The rule holds from now on."), to=_path(actor, "rules"))


@require_POST
@page("registry.maintain")
async def unrule(request: HttpRequest, actor: Actor, number: int) -> HttpResponse:
    return await act(request, database.run(rules.remove, actor, number), done=_("The rule is gone."), to=_path(actor, "rules"))


@require_POST
@page("registry.maintain")
async def sweep(request: HttpRequest, actor: Actor) -> HttpResponse:
    return await act(request, database.run(retention.sweep, actor), done=_("The rules were followed."), to=_path(actor, "rules"))


async def _deed(work: Any, *words: Any) -> None:
    try:
        await database.run(work, *words)
    except Refused as error:
        raise errors.rest(error) from None


def _own(actor: Actor, ref: str) -> tuple[str, str]:
    name, reference = split(ref)
    assert actor.tenant is not None
    if tenant_of(name) != actor.tenant.name:
        raise NotFound(f"No such repository: {name}")
    return name, reference


def _number(words: str) -> int:
    if not words.strip():
        return 0
    if not words.strip().isascii() or not words.strip().isdigit() or len(words) > 6:
        raise InvalidArgument(_("“%(words)s” is no number.") % {"words": words[:20]})
    return int(words)


def _path(actor: Actor, *parts: str) -> str:
    assert actor.tenant is not None
    return "/".join([tenant_path(actor.tenant.name, "registry"), *parts]) + ("" if parts else "/")


async def _show(request: HttpRequest, actor: Actor, template: str, **context: Any) -> HttpResponse:
    return await show(request, actor, f"registry/{template}.html", {"nav": "registry", "tab": template, **context})
