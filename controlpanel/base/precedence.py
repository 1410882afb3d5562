"""Who goes first: while a tenant that has used the platform little acts, the requests of one that has used it much are held back.

    async with precedence.request(tenant_id):
        …

Fair turns (controlpanel.base.turns) share out what is asked of hosts; but each request also costs this process's one thread, and
an act in the middle of another's is felt by it. So a storm is held at the door as long as a lighter tenant has a request under
way, and for a moment after it: most clients ask again at once (as disks' anticipatory schedulers do, Linux's block/as-iosched).

"Used" is the time its turns took, halved every HALF_LIFE_S. Whoever acts on and on soon has used as much as the storm and
goes first no more; a request is never held longer than HELD_S. What is not contended is never held: 3 µs a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

HALF_LIFE_S: Final = 5.0
MARGIN_S: Final = 0.25  # of use; within it tenants are alike, and nobody waits
REQUEST_S: Final = 0.0005  # what a request is counted for beside its turns
UNDER_WAY_S: Final = 0.02  # a request that lasts longer is a stream or a wait, and has nobody held back for it
PAUSE_S: Final = (0.001, 0.01)  # after a request: twice as long as it took, within these
HELD_S: Final = 1.0
LOOK_S: Final = 0.002


@dataclass(slots=True)
class _Tenant:
    used: float = 0.0  # seconds, as of ``used_at``
    used_at: float = 0.0  # time.monotonic, as the others
    busy_until: float = 0.0
    turns: int = 0  # under way

    def use(self, seconds: float, now: float) -> None:
        self.used, self.used_at = self.used_by(now) + seconds, now

    def used_by(self, now: float) -> float:
        return self.used * 0.5 ** ((now - self.used_at) / HALF_LIFE_S)

    def is_busy(self, now: float) -> bool:
        return self.turns > 0 or now < self.busy_until


class Precedence:
    """Of one event loop."""

    def __init__(self) -> None:
        self._tenants: dict[int, _Tenant] = {}
        self._busy: dict[int, _Tenant] = {}  # at the last look
        self._held: list[tuple[_Tenant, float, asyncio.Future[None]]] = []  # tenant, until when at most, "go"

    @contextlib.asynccontextmanager
    async def request(self, tenant_id: int) -> AsyncIterator[None]:
        began = await self.enter(tenant_id)
        try:
            yield
        finally:
            now = time.monotonic()
            if now - began < UNDER_WAY_S:
                self._of(tenant_id).busy_until = now + min(max(PAUSE_S[0], 2 * (now - began)), PAUSE_S[1])

    async def enter(self, tenant_id: int) -> float:
        """Of a request whose end nobody tells: it counts as under way for UNDER_WAY_S. Returns when it began (monotonic)."""
        tenant, now = self._of(tenant_id), time.monotonic()
        if self._yields(tenant, now):
            await self._hold(tenant, now)
            now = time.monotonic()
        tenant.use(REQUEST_S, now)
        tenant.busy_until = max(tenant.busy_until, now + UNDER_WAY_S)
        self._busy[tenant_id] = tenant
        return now

    def begin_turn(self, tenant_id: int) -> None:
        self._busy[tenant_id] = tenant = self._of(tenant_id)
        tenant.turns += 1

    def end_turn(self, tenant_id: int, took_s: float) -> None:
        tenant = self._of(tenant_id)
        tenant.turns -= 1
        now = time.monotonic()
        tenant.use(took_s, now)
        tenant.busy_until = max(tenant.busy_until, now + PAUSE_S[1])

    def _of(self, tenant_id: int) -> _Tenant:
        return self._tenants.setdefault(tenant_id, _Tenant())

    def _yields(self, tenant: _Tenant, now: float) -> bool:
        if not self._busy:
            return False
        self._busy = {number: other for number, other in self._busy.items() if other.is_busy(now)}
        limit = tenant.used_by(now) - MARGIN_S
        return any(other is not tenant and other.used_by(now) < limit for other in self._busy.values())

    async def _hold(self, tenant: _Tenant, now: float) -> None:
        go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._held:
            asyncio.get_running_loop().call_later(LOOK_S, self._look)
        self._held.append((tenant, now + HELD_S, go))
        await go

    def _look(self) -> None:
        """Lets those go for whom nobody else goes first any more, in the order in which they came."""
        now = time.monotonic()
        self._held = [entry for entry in self._held if not self._lets_go(*entry, now)]
        if self._held:
            asyncio.get_running_loop().call_later(LOOK_S, self._look)
        else:
            self._forget(now)

    def _forget(self, now: float) -> None:
        worth = MARGIN_S / 10
        self._tenants = {number: tenant for number, tenant in self._tenants.items() if tenant.is_busy(now) or tenant.used_by(now) > worth}

    def _lets_go(self, tenant: _Tenant, until: float, go: asyncio.Future[None], now: float) -> bool:
        if go.done():  # who asked has gone
            return True
        if now < until and self._yields(tenant, now):
            return False
        go.set_result(None)
        return True


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Precedence] = WeakKeyDictionary()


def of_loop() -> Precedence:
    """Of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _of_loop.get(loop)
    if found is None:
        found = _of_loop[loop] = Precedence()
    return found


def request(tenant_id: int) -> contextlib.AbstractAsyncContextManager[None]:
    return of_loop().request(tenant_id)
