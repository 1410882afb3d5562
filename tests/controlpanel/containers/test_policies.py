"""Restart policy and health check out of Docker's create request."""

from __future__ import annotations

from typing import Any

import pytest

from controlpanel.containers import policies
from engine.errors import InvalidArgument
from engine.model.container import HealthCheck, RestartPolicy
from engine.model.image import merge_config

LABEL = policies.RESTART_UNHEALTHY


def test_policies_and_the_label_of_ours() -> None:
    asked = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}
    assert policies.restart_policy(asked, {}) == RestartPolicy(name="on-failure", maximum_retries=3)
    assert policies.restart_policy({}, {LABEL: "true"}) == RestartPolicy(when_unhealthy=True)
    assert policies.restart_policy({"RestartPolicy": {"Name": "", "MaximumRetryCount": 7}}, {LABEL: "0"}) == RestartPolicy()
    with pytest.raises(InvalidArgument, match="true or false"):
        policies.restart_policy({}, {LABEL: "perhaps"})


@pytest.mark.parametrize("policy", [RestartPolicy(name="always"), RestartPolicy(when_unhealthy=True)])
def test_what_goes_at_its_end_cannot_come_back(policy: RestartPolicy) -> None:
    with pytest.raises(InvalidArgument, match="can't create 'AutoRemove' container with"):
        policies.check_auto_remove(policy, True)
    policies.check_auto_remove(policy, False)


def test_a_check_has_mobys_defaults_and_the_images_shell() -> None:
    asked: dict[str, Any] = {"Healthcheck": {"Test": ["CMD-SHELL", "true"], "Retries": 5, "Timeout": 10**9}}
    assert policies.health_check(asked) == HealthCheck(test=("CMD", "/bin/sh", "-c", "true"), retries=5, timeout_ns=10**9)
    assert policies.health_check({**asked, "Shell": ["ash", "-ec"]}).test == ("CMD", "ash", "-ec", "true")  # type: ignore[union-attr]
    assert policies.health_check({"Healthcheck": {"Test": ["CMD", "a", "b"]}}) == HealthCheck(test=("CMD", "a", "b"))


@pytest.mark.parametrize("test", [None, [], ["NONE"], ["CMD"], ["WHAT", "x"]])
def test_no_check(test: list[str] | None) -> None:
    assert policies.health_check({"Healthcheck": {"Test": test}}) is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"Interval": 999_999}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"Timeout": -1}, "Timeout in Healthcheck cannot be less than 1ms"),
        ({"StartPeriod": 1}, "StartPeriod in Healthcheck cannot be less than 1ms"),
        ({"StartInterval": 1}, "StartInterval in Healthcheck cannot be less than 1ms"),
        ({"Retries": -1}, "Retries in Healthcheck cannot be negative"),
        ({"Test": ["CMD", "a\0b"]}, "zero byte"),
        ({"Test": "true", "Retries": "x"}, "Retries must be a number"),
    ],
)
def test_bad_checks_are_refused_in_mobys_words(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        policies.health_check({"Healthcheck": words})


def test_an_images_check_is_inherited_member_by_member() -> None:
    image = {"config": {"Cmd": ["x"], "Healthcheck": {"Test": ["CMD", "probe"], "Interval": 5 * 10**9, "Retries": 7}}}
    merged = merge_config(image, {"Healthcheck": {"Interval": 2 * 10**9, "Test": None}})
    assert policies.health_check(merged) == HealthCheck(test=("CMD", "probe"), interval_ns=2 * 10**9, retries=7)
    assert policies.health_check(merge_config(image, {})).interval_ns == 5 * 10**9  # type: ignore[union-attr]
    assert policies.health_check(merge_config(image, {"Healthcheck": {"Test": ["NONE"]}})) is None
