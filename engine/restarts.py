"""Restart policies: whether, and when, what ended is started again. PURE; the agent asks at each exit and keeps the answer.

    restart.json  {"run": the run that ended, "count", "delay_ms", "due_ns", "change": 1} while it waits, {…, "given_up": true, "change": 2}
                  when somebody stopped it meanwhile: no later process decides about that run again
    start.json    "restart_count" and "restart_delay_ms" of a run that a policy began: what the next decision builds on
    stop.json     "by_hand": somebody wanted that run to end; "restart": … and to begin again, ASKED or because it is UNHEALTHY

moby's numbers (daemon/internal/restartmanager): 100 ms, doubled each time up to a minute, from the beginning again after a run of 10 s.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

from engine.errors import InvalidArgument
from engine.model.container import RestartPolicy

NO, ALWAYS, UNLESS_STOPPED, ON_FAILURE = "no", "always", "unless-stopped", "on-failure"
ASKED, UNHEALTHY = "asked", "unhealthy"
FIRST_DELAY_MS: Final = 100
LAST_DELAY_MS: Final = 60_000
CALM_NS: Final = 10 * 10**9
_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended, and what went before."""

    run: int
    exit_code: int
    ran_ns: int
    finished_at_ns: int
    by_hand: bool = False
    wanted: str = ""  # ASKED or UNHEALTHY: it was stopped to be started again
    count: int = 0  # restarts so far
    delay_ms: int = 0  # before this run


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """The start that follows run ``run``, not before ``due_ns`` (unix time). ``count``: Docker's RestartCount once it has begun."""

    run: int
    count: int
    delay_ms: int
    due_ns: int


def check(policy: RestartPolicy) -> None:
    """InvalidArgument with moby's sentences."""
    if policy.name in (NO, ALWAYS, UNLESS_STOPPED):
        if policy.maximum_retries:
            negative = " and cannot be negative" if policy.maximum_retries < 0 else ""
            raise InvalidArgument(f"invalid restart policy: maximum retry count can only be used with 'on-failure'{negative}")
    elif policy.name == ON_FAILURE:
        if policy.maximum_retries < 0:
            raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    else:
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of '{NO}', '{ALWAYS}', '{ON_FAILURE}', or '{UNLESS_STOPPED}'"
        )


def is_a_stop(number: int, stop_signal: int) -> bool:
    """Whether who sends this signal wants the container to end. moby counts every signal, so that a SIGHUP for a new configuration
    ends the policy as well (moby#41302 and others); we count those that are sent for no other reason."""
    return number in _ENDING or number == stop_signal


def after_exit(policy: RestartPolicy, ending: Ending) -> Restart | None:
    """None: it stays ended."""
    if ending.wanted == ASKED:
        return Restart(run=ending.run, count=0, delay_ms=0, due_ns=ending.finished_at_ns)
    if ending.wanted != UNHEALTHY and (ending.by_hand or not _applies(policy, ending)):
        return None
    before = 0 if ending.ran_ns >= CALM_NS else ending.delay_ms
    delay_ms = min(2 * before, LAST_DELAY_MS) if before else FIRST_DELAY_MS
    return Restart(run=ending.run, count=ending.count + 1, delay_ms=delay_ms, due_ns=ending.finished_at_ns + delay_ms * 10**6)


def at_platform_start(policy: RestartPolicy, ending: Ending, now_ns: int) -> Restart | None:
    """After a reboot or ``down --containers``: as Docker starts them with its daemon, counting anew. What was stopped by hand comes
    back under ``always`` alone, which is what makes it differ from ``unless-stopped``."""
    if (ending.by_hand and policy.name != ALWAYS) or not _applies(policy, ending):
        return None
    return Restart(run=ending.run, count=0, delay_ms=0, due_ns=now_ns)


def _applies(policy: RestartPolicy, ending: Ending) -> bool:
    if policy.name == ON_FAILURE:
        return ending.exit_code != 0 and not 0 < policy.maximum_retries <= ending.count
    return policy.name in (ALWAYS, UNLESS_STOPPED)
