"""Fair turns: how many acts on hosts one tenant may have under way while others want theirs.

    async with turns.turn(tenant_id):
        … ask the host …

A tenant alone has as many as it likes. As soon as a second one acts, each gets an equal share of SLOTS, at least one; what is over it
waits, first come first served within its tenant. So a storm of one tenant's commands stands in its own queue, and not before another's.

An act that lasts (a big commit, a start that waits for a device) keeps its turn for HOLD_S and then counts no more: it waits for
something other than the processors that turns are shared out for. One event loop, no locks; a turn given at once costs 2 µs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from controlpanel.base import precedence
from controlpanel.base.precedence import Precedence

SLOTS: Final = max(2, os.cpu_count() or 1)
RECENT_S: Final = 1.0  # for so long a tenant that has acted counts as one that acts
HOLD_S: Final = 0.5


@dataclass(slots=True)
class _Tenant:
    under_way: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    acted_at: float = 0.0  # time.monotonic

    def is_active(self, now: float) -> bool:
        return bool(self.under_way or self.waiting) or now - self.acted_at < RECENT_S


class Turns:
    """Of one event loop."""

    def __init__(self, slots: int = SLOTS, precedence: Precedence | None = None) -> None:
        self._slots = slots
        self._precedence = precedence or Precedence()
        self._tenants: dict[int, _Tenant] = {}
        self._later: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def turn(self, tenant_id: int) -> AsyncIterator[None]:
        tenant = self._tenants.setdefault(tenant_id, _Tenant())
        await self._enter(tenant)
        began = time.monotonic()
        self._precedence.begin_turn(tenant_id)
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                self._precedence.end_turn(tenant_id, time.monotonic() - began)
                self._leave(tenant)

        timer = asyncio.get_running_loop().call_later(HOLD_S, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()

    async def _enter(self, tenant: _Tenant) -> None:
        tenant.acted_at = time.monotonic()
        if not tenant.waiting and tenant.under_way < self._share():
            tenant.under_way += 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tenant.waiting.append(mine)
        self._look_later()
        try:
            await mine  # ``_grant`` has counted it
        except asyncio.CancelledError:
            if mine.cancelled():
                tenant.waiting.remove(mine)
            else:  # it was given to one that has gone
                self._leave(tenant)
            raise

    def _leave(self, tenant: _Tenant) -> None:
        tenant.under_way -= 1
        tenant.acted_at = time.monotonic()
        self._grant()

    def _share(self) -> float:
        now = time.monotonic()
        active = [number for number, tenant in self._tenants.items() if tenant.is_active(now)]
        return float("inf") if len(active) <= 1 else max(1, self._slots // len(active))

    def _grant(self) -> None:
        share = self._share()
        for tenant in self._tenants.values():
            while tenant.waiting and tenant.under_way < share:
                tenant.under_way += 1
                tenant.waiting.popleft().set_result(None)

    def _look_later(self) -> None:
        """Others fall silent without a word, and then there is more for those who wait. Whoever is silent is forgotten."""
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(RECENT_S / 4, self._look)

    def _look(self) -> None:
        self._later = None
        self._grant()
        now = time.monotonic()
        self._tenants = {number: tenant for number, tenant in self._tenants.items() if tenant.is_active(now)}
        if any(tenant.waiting for tenant in self._tenants.values()):
            self._look_later()


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turn(tenant_id: int) -> contextlib.AbstractAsyncContextManager[None]:
    """Of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _turns.get(loop)
    if found is None:
        found = _turns[loop] = Turns(precedence=precedence.of_loop())
    return found.turn(tenant_id)
