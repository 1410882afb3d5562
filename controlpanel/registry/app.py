"""The ASGI application: route, who asks, answer, errors. Endpoints by the numbers of distribution-spec 1.1.1.

end-1   GET            /v2/
end-2   GET, HEAD      /v2/NAME/blobs/DIGEST           end-10  DELETE
end-3   GET, HEAD      /v2/NAME/manifests/REFERENCE    end-7   PUT      end-9  DELETE
end-4   POST           /v2/NAME/blobs/uploads/         end-4b  ?digest=     end-11  ?mount=&from=
end-5   PATCH          /v2/NAME/blobs/uploads/KEY      end-6   PUT ?digest=     end-13  GET     end-14  DELETE
end-8   GET            /v2/NAME/tags/list              ?n=&last=
end-12  GET            /v2/NAME/referrers/DIGEST       ?artifactType=
        GET            /v2/_catalog                    ?n=&last=
        GET, POST      /v2/token
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from controlpanel.registry import discovery, door, pulling, pushing, subjects, token_service
from controlpanel.registry.call import Call, Message
from controlpanel.registry.errors import Refused, refused
from controlpanel.registry.names import is_name
from controlpanel.tenants import refusals
from engine import errors

log = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[None]]


class Route(NamedTuple):
    pattern: re.Pattern[str]
    handlers: Mapping[str, Handler]  # by method


ROUTES: Final = [
    Route(re.compile(pattern), handlers)
    for pattern, handlers in (
        (r"/v2/?", {"GET": discovery.base, "HEAD": discovery.base}),
        (r"/v2/_catalog", {"GET": discovery.catalog}),
        (r"/v2/token", {"GET": token_service.get, "POST": token_service.post}),
        (r"/v2/(?P<name>.+)/tags/list", {"GET": discovery.tags}),
        (r"/v2/(?P<name>.+)/referrers/(?P<digest>[^/]*)", {"GET": discovery.referrers}),
        (
            r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]*)",
            {"GET": pulling.manifest, "HEAD": pulling.manifest, "PUT": pushing.put_manifest, "DELETE": pushing.delete_manifest},
        ),
        (r"/v2/(?P<name>.+)/blobs/uploads/?", {"POST": pushing.begin}),
        (
            r"/v2/(?P<name>.+)/blobs/uploads/(?P<key>[^/]+)",
            {"GET": pushing.status, "PATCH": pushing.append, "PUT": pushing.finish, "DELETE": pushing.cancel},
        ),
        (
            r"/v2/(?P<name>.+)/blobs/(?P<digest>[^/]*)",
            {"GET": pulling.blob, "HEAD": pulling.blob, "DELETE": pushing.delete_blob},
        ),
    )
]


def is_registry(scope: Message) -> bool:
    path: str = scope["path"]
    return path.startswith("/v2/") or path == "/v2"


async def application(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    call = Call(scope, receive, send)
    try:
        await _answer(call)
    except Refused as error:
        await _refuse(call, error)
    except errors.Unauthenticated as error:
        await _refuse(call, door.challenge(call, door.scope_of(call), error="invalid_token", message=error.message))
    except errors.EngineError as error:
        await refusals.tell(error, what=call.path)
        await _refuse(call, refused(error))
    except asyncio.CancelledError:  # this process is ending, and its patience with those under way is over
        if call.replied:
            raise
        await _refuse(call, Refused("UNAVAILABLE", "the platform is being restarted: try again in a moment"))
    except (ConnectionError, TimeoutError) as error:
        await _refuse(call, Refused("UNAVAILABLE", f"the connection broke: {error}"))
    except Exception:
        log.exception("%s %s", call.method, call.path)
        await _refuse(call, Refused("UNKNOWN", "an error of Slipway itself; the log of the web process has it (./manage.py logs web)"))


async def _answer(call: Call) -> None:
    handler = _find(call)
    call.subject = await subjects.asking(call.scope)
    door.spend(call)
    if "name" in call.params and not is_name(call.params["name"]):
        raise Refused("NAME_INVALID", "a name is of parts like team-a/web_2, and begins with the tenant's", name=call.params["name"][:300])
    await handler(call)


def _find(call: Call) -> Handler:
    for route in ROUTES:
        if found := route.pattern.fullmatch(call.path):
            call.params = found.groupdict()
            if handler := route.handlers.get(call.method):
                return handler
            allowed = ", ".join(route.handlers)
            raise Refused("UNSUPPORTED", f"{call.method} is not for this address", headers={"Allow": allowed})
    raise Refused("UNSUPPORTED", "there is no such address in a registry", status=404)


async def _refuse(call: Call, error: Refused) -> None:
    """By status while that is possible; later, cutting the connection is the only honest thing left."""
    if call.replied:
        log.warning("%s %s: %s, after the reply had begun", call.method, call.path, error.message)
        raise ConnectionAbortedError(error.message) from error
    await call.reply(error.status, error.body, error.headers, "application/json")
