"""No list, inspect or page asks the database more often because there is more in it. What each costs: ``python -m tests.bench.tenants``."""

from __future__ import annotations

from typing import Any

from controlpanel.base import database
from tests.bench import tenants

_FEW = dict.fromkeys(tenants.EACH, 2)
_MANY = dict.fromkeys(_FEW, 20)


async def test_reads_take_as_many_statements_with_few_rows_as_with_many(people: Any, web: None) -> None:
    await database.run(tenants.fill, 1, 2, _FEW)
    await database.run(tenants.fill, 3, 8, _MANY)
    counts: dict[str, dict[str, int]] = {}
    for tenant in ("t1", "t5"):
        asker = await tenants.Asker.of(tenant)
        for target in tenants.reads(tenant):
            await asker.ask(target)
            tenants.forget()
            with tenants.counted() as said:
                await asker.ask(target)
            counts.setdefault(target.replace(f"/{tenant}", "/…"), {})[tenant] = len(said)
    assert not {target: found for target, found in counts.items() if found["t1"] != found["t5"]}
    assert max(found["t1"] for found in counts.values()) < 25
