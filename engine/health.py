"""What a probe's outcome makes of a container's health, and when the next one is due. PURE; workers.agent.health runs the probes.

moby's rules (daemon/health.go): one success is healthy; ``retries`` failures in a row are unhealthy, but those of the start period
do not count while it never was healthy; from the end of one probe to the begin of the next it is ``interval``, or
``start_interval`` within the start period while it is starting.
"""

from __future__ import annotations

from typing import Final

from engine.model.container import HealthCheck, HealthProbe, HealthState

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
PROBES_KEPT: Final = 5
OUTPUT_MAX: Final = 4096  # bytes of one probe


def after_probe(check: HealthCheck, health: HealthState, probe: HealthProbe, *, started_at_ns: int) -> HealthState:
    """``started_at_ns``: of the container's run."""
    log = (*health.log, probe)[-PROBES_KEPT:]
    if probe.exit_code == 0:
        return HealthState(status=HEALTHY, failing_streak=0, log=log)
    if health.status == STARTING and probe.started_at_ns - started_at_ns < check.start_period_ns:
        return HealthState(status=STARTING, failing_streak=health.failing_streak, log=log)
    streak = health.failing_streak + 1
    return HealthState(status=UNHEALTHY if streak >= check.retries else health.status, failing_streak=streak, log=log)


def pause_ns(check: HealthCheck, health: HealthState, *, started_at_ns: int, now_ns: int) -> int:
    """Between now, the end of a probe or the container's start, and the next probe."""
    within_start = now_ns - started_at_ns < check.start_period_ns
    return check.start_interval_ns if within_start and health.status == STARTING else check.interval_ns


def output_text(output: bytes) -> str:
    """As it is kept: at most OUTPUT_MAX bytes, and moby's dots where something is missing."""
    text = output[:OUTPUT_MAX].decode(errors="replace")
    return text + "..." if len(output) > OUTPUT_MAX else text


def timeout_text(timeout_ns: int, output: str) -> str:
    """moby's sentence about a probe that was killed."""
    said = f"Health check exceeded timeout ({go_duration(timeout_ns)})"
    return f"{said}: {output}" if output else said


def go_duration(ns: int) -> str:
    """A positive duration as Go prints it: 1ms, 1.5s, 1m30s, 2h0m0s."""
    for unit_ns, name in ((10**9, ""), (10**6, "ms"), (10**3, "µs")):
        if name and ns >= unit_ns:
            return f"{_decimal(ns, unit_ns)}{name}"
        if not name and ns >= unit_ns:
            minutes, rest_ns = divmod(ns, 60 * 10**9)
            hours, minutes = divmod(minutes, 60)
            head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
            return f"{head}{_decimal(rest_ns, 10**9)}s"
    return f"{ns}ns" if ns else "0s"


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
