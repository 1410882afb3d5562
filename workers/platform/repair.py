"""``doctor --repair``: what crashes left on this machine is named and removed (engine/leftovers.py says what that is), and firewall rules
and bridges that somebody took away are made again, which the agent does itself while it runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from engine import errors, leftovers
from workers.platform import panel
from workers.platform.places import Places
from workers.platform.say import line

if TYPE_CHECKING:
    from engine.engine import Engine


def repair(places: Places, release: Path | None) -> int:
    """Exit code 1 when something could not be removed. Never touches what an instance that exists owns, but this one's own leftovers.

    ``release`` is the installed one, None where nothing is installed.
    """
    own = ""
    failed = count = 0
    if (places.engine.engine / "instance").exists():
        from engine.engine import Engine  # its libraries are those of an installed release

        engine = Engine(places.engine)
        own = engine.instance
        mended, failed = _mend(engine)
        try:
            count, unremoved = _remove(leftovers.of_own(engine))
            failed += unremoved
        except errors.Unavailable:
            line(f"note     no keeper answers in {places.run}: of this instance nothing was looked at. `sudo ./manage.py up` first")
        count += mended
        if release is not None:
            count += _tell_of_tenants(engine, places, release)
    more, also_failed = _remove(leftovers.of_others(own))
    count, failed = count + more, failed + also_failed
    if not count:
        line("ok       nothing was left over")
    return 1 if failed else 0


def _mend(engine: Engine) -> tuple[int, int]:
    """As ``_remove``."""
    try:
        if engine.networks.is_whole():
            return 0, 0
        engine.networks.heal()
        line(f"repaired nft tables and bridges of instance {engine.instance}: they were not as the engine made them")
    except errors.EngineError as error:
        line(f"FAILED   nft tables and bridges of instance {engine.instance}: {error}")
        return 1, 1
    return 1, 0


def _tell_of_tenants(engine: Engine, places: Places, release: Path) -> int:
    tenants = panel.tenants(places, release)
    if tenants is None:
        line("note     the panel's database does not answer: nobody looked for what it does not know")
        return 1
    kinds = ("containers", "volumes", "networks")
    told = {each["name"]: leftovers.Told(each["number"], *(frozenset(each[kind]) for kind in kinds)) for each in tenants}
    return _remove(leftovers.of_tenants(engine, told))[0]


def _remove(found: Iterable[leftovers.Leftover]) -> tuple[int, int]:
    """How many there were, and how many of them are still there."""
    count = failed = 0
    for leftover in found:
        count += 1
        if leftover.remove is None:
            line(f"note     {leftover.what}: {leftover.why}")
            continue
        try:
            leftover.remove()
            line(f"removed  {leftover.what}: {leftover.why}")
        except (OSError, errors.EngineError) as error:
            failed += 1
            line(f"FAILED   {leftover.what}: {leftover.why}, but: {error}")
    return count, failed
