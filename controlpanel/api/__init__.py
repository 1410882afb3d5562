"""``/api/v1``: every app's REST router under one roof, its OpenAPI document, and a page that shows it.

The page is ours: it needs no script, works under the panel's content security policy, and speaks the reader's language.
"""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI

from controlpanel.api.audit import router as audit
from controlpanel.api.containers import router as looks
from controlpanel.api.images import router as unused
from controlpanel.api.policy import router as policy
from controlpanel.api.quotas import router as quotas
from controlpanel.api.volumes import router as volumes
from controlpanel.base import rest
from controlpanel.builds.api import router as builds
from controlpanel.containers.api import router as containers
from controlpanel.containers.lifecycle_api import router as lifecycle
from controlpanel.containers.resource_api import router as resources
from controlpanel.execs.api import router as execs
from controlpanel.files.api import router as files
from controlpanel.files.volume_api import router as volume_files
from controlpanel.images.api import router as images
from controlpanel.images.registry_api import router as registries
from controlpanel.metrics.api import router as metrics
from controlpanel.networks.api import router as networks
from controlpanel.networks.rules_api import router as network_rules
from controlpanel.registry.api import router as repositories
from controlpanel.registry.maintenance_api import router as registry_maintenance
from controlpanel.tenants import attempts
from controlpanel.tenants.api import router as tenants
from controlpanel.tenants.credentials_api import router as credentials
from controlpanel.tenants.invitations_api import router as invitations
from controlpanel.tenants.rest import Bearer, ClientCertificate, Session
from controlpanel.tenants.roles_api import router as roles
from engine.errors import EngineError, NotFound, PermissionDenied, QuotaExceeded

_DESCRIPTION = (
    "The same acts as the pages and the Docker API, with the same rules. Send a bearer token (Settings → Tokens, or "
    "./manage.py token create), come to the TLS port with a client's certificate, or send the session cookie with the header X-CSRFToken. "
    "More than SLIPWAY_RATE_LIMIT requests a minute are answered 429 with Retry-After."
)

api = NinjaAPI(
    title="Slipway",
    version="1",
    description=_DESCRIPTION,
    openapi_url=None,
    docs_url=None,
    auth=[Bearer(), ClientCertificate(), Session()],
    renderer=rest.Orjson(),
    urls_namespace="rest",
)
rest.prepare(api)


def _refused(_request: HttpRequest, error: EngineError) -> HttpResponse:
    attempts.refused(error)
    return rest.refuse(error)


for refusal in (PermissionDenied, QuotaExceeded):
    api.add_exception_handler(refusal, _refused)
for tag, router in (
    ("tenants", tenants),
    ("tenants", quotas),
    ("tenants", policy),
    ("tenants", credentials),
    ("tenants", invitations),
    ("tenants", roles),
    ("containers", containers),
    ("containers", lifecycle),
    ("containers", resources),
    ("containers", looks),
    ("containers", execs),
    ("files", files),
    ("volumes", volumes),
    ("volumes", volume_files),
    ("images", images),
    ("images", registries),
    ("images", unused),
    ("registry", repositories),
    ("registry", registry_maintenance),
    ("builds", builds),
    ("networks", networks),
    ("networks", network_rules),
    ("traffic", metrics),
    ("audit", audit),
):
    api.add_router("", router, tags=[tag])

_document: dict[str, Any] = {}


def document() -> dict[str, Any]:
    """OpenAPI 3.1, with the one shape of every refusal. Made at first sight: it never changes."""
    if not _document:
        made = json.loads(json.dumps(api.get_openapi_schema(path_prefix="/api/v1/"), default=str))
        refusal = rest.Refusal.model_json_schema(ref_template="#/components/schemas/{model}")
        made["components"]["schemas"] |= {**refusal.pop("$defs"), "Refusal": refusal}
        content = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
        for verbs in made["paths"].values():
            for operation in verbs.values():
                operation["responses"] = {str(code): answer for code, answer in operation["responses"].items()}
                operation["responses"]["default"] = {"description": "Refused", "content": content}
        _document.update(made)
    return _document


def openapi(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(json.dumps(document(), indent=1), content_type="application/json; charset=utf-8")


def docs(request: HttpRequest) -> HttpResponse:
    """By tag; what a browser needs to read, nothing to press."""
    made = document()
    groups: dict[str, list[dict[str, Any]]] = {}
    for where, verbs in made["paths"].items():
        for verb, operation in verbs.items():
            groups.setdefault(operation["tags"][0], []).append(_entry(where, verb, operation, made["components"]["schemas"]))
    return render(request, "api/docs.html", {"groups": groups, "description": made["info"]["description"]})


def _entry(where: str, verb: str, operation: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    required = body.get("$ref") and operation["requestBody"].get("required", False)
    answers = [(code, answer) for code, answer in operation["responses"].items() if code != "default"]
    return {
        "id": operation["operationId"],
        "verb": verb.upper(),
        "path": where,
        "summary": operation["summary"],
        "query": [_parameter(item) for item in operation.get("parameters", []) if item["in"] == "query"],
        "body": _members(body, schemas),
        "body_required": required,
        "answers": [
            (code, _members(answer.get("content", {}).get("application/json", {}).get("schema", {}), schemas)) for code, answer in answers
        ],
        "curl": _curl(where, verb, body),
    }


def _parameter(item: dict[str, Any]) -> dict[str, Any]:
    schema = item["schema"]
    return {"name": item["name"], "type": _type(schema), "default": _default(schema), "words": schema.get("description", ""), "example": ""}


def _members(schema: dict[str, Any], schemas: dict[str, Any], place: str = "") -> list[dict[str, Any]]:
    """Of the object, or of each of the list's; those of a member that is an object itself follow it as ``health.shell``."""
    words = (schema, *schema.get("anyOf", ()), schema.get("items", {}))
    named = next((word for word in words if "$ref" in word), None)
    if named is None:
        return []
    found = schemas[named["$ref"].rpartition("/")[2]]
    required = set(found.get("required", ()))
    shown = []
    for name, item in found["properties"].items():
        shown.append(
            {
                "name": place + name,
                "type": _type(item),
                "default": "" if name in required else _default(item),
                "words": item.get("description", ""),
                "example": json.dumps(item["examples"][0]) if "examples" in item else "",
            }
        )
        shown += _members(item, schemas, f"{place}{name}[]." if item.get("type") == "array" else f"{place}{name}.")
    return shown


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(_type(item) for item in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(json.dumps(item) for item in schema["enum"])
    if schema.get("type") == "array":
        return f"[{_type(schema.get('items', {}))}]"
    if "additionalProperties" in schema and isinstance(schema["additionalProperties"], dict):
        return f"{{string: {_type(schema['additionalProperties'])}}}"
    return str(schema.get("format") or schema.get("type") or "object")


def _default(schema: dict[str, Any]) -> str:
    return json.dumps(schema["default"]) if "default" in schema else ""


def _curl(where: str, verb: str, body: dict[str, Any]) -> str:
    words = ["curl", "-H", '"Authorization: Bearer $TOKEN"']
    if verb != "get":
        words += ["-X", verb.upper()]
    if body:
        words += ["-H", "'Content-Type: application/json'", "-d", "'{…}'"]
    return " ".join([*words, f"$SLIPWAY{where}"])


@csrf_exempt  # it changes nothing
def nothing(_request: HttpRequest) -> HttpResponse:
    return rest.refuse(NotFound("there is nothing at this address; /api/v1/docs lists what there is"))


urlpatterns = [
    path("openapi.json", openapi),
    path("docs", docs),
    path("", api.urls),
    re_path(".*", nothing),
]
