"""Restart policy and health check of a create request (and of an update), with moby's checks and sentences. PURE.

Docker has no word for a restart of what is unhealthy; here it is a label, so that every client can set it:

    docker run --label slipway.restart-unhealthy=true --health-cmd …
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlpanel.containers.fields import Object, integer, obj, strings, text
from engine import restarts
from engine.errors import InvalidArgument
from engine.health import go_duration
from engine.model.container import HealthCheck, RestartPolicy

RESTART_UNHEALTHY: Final = "slipway.restart-unhealthy"
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no", ""})
_SHELL: Final = ("/bin/sh", "-c")
_MINIMUM_NS: Final = 1_000_000
_DEFAULTS: Final = {"Interval": 30 * 10**9, "Timeout": 30 * 10**9, "StartPeriod": 0, "StartInterval": 5 * 10**9}  # ns
_RETRIES: Final = 3


def restart_policy(host_config: Object, labels: Mapping[str, str]) -> RestartPolicy:
    """InvalidArgument for words, numbers and combinations that moby refuses."""
    asked = obj(host_config, "RestartPolicy")
    name, retries = text(asked, "Name"), integer(asked, "MaximumRetryCount")
    unhealthy = labels.get(RESTART_UNHEALTHY, "").lower()
    if unhealthy not in _TRUE | _FALSE:
        raise InvalidArgument(f"invalid label {RESTART_UNHEALTHY}={labels[RESTART_UNHEALTHY]}: it is true or false")
    if not name:  # of clients from before there was a word for "no": moby takes any count with it
        return RestartPolicy(when_unhealthy=unhealthy in _TRUE)
    policy = RestartPolicy(name=name, maximum_retries=retries, when_unhealthy=unhealthy in _TRUE)
    restarts.check(policy)
    return policy


def check_auto_remove(policy: RestartPolicy, auto_remove: bool) -> None:
    if auto_remove and policy.name != restarts.NO:
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
    if auto_remove and policy.when_unhealthy:
        raise InvalidArgument(f"can't create 'AutoRemove' container with {RESTART_UNHEALTHY}")


def health_check(config: Object) -> HealthCheck | None:
    """None when there is none, or NONE. ``config``: Docker's Config with the image's defaults.

    ``test`` of the result is what is executed: the shell of the image is resolved.
    """
    asked = obj(config, "Healthcheck")
    for name in ("Interval", "Timeout", "StartPeriod", "StartInterval"):
        value = integer(asked, name)
        if value != 0 and value < _MINIMUM_NS:
            raise InvalidArgument(f"{name} in Healthcheck cannot be less than {go_duration(_MINIMUM_NS)}")
    if integer(asked, "Retries") < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")
    words = strings(asked, "Test")
    if not words or words[0] not in ("CMD", "CMD-SHELL") or not any(words[1:]):
        return None  # NONE; and what moby starts no probe for
    if any("\0" in word for word in words):
        raise InvalidArgument("invalid Healthcheck: it holds a zero byte")
    if words[0] == "CMD-SHELL":
        words[1:1] = strings(config, "Shell") or _SHELL
    times = {name: integer(asked, name) or default for name, default in _DEFAULTS.items()}
    return HealthCheck(
        test=("CMD", *words[1:]),
        interval_ns=times["Interval"],
        timeout_ns=times["Timeout"],
        start_period_ns=times["StartPeriod"],
        start_interval_ns=times["StartInterval"],
        retries=integer(asked, "Retries") or _RETRIES,
    )
