"""Restart policies as moby decides them."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from engine import restarts
from engine.errors import InvalidArgument
from engine.model.container import RestartPolicy
from engine.restarts import ASKED, UNHEALTHY, Ending

pytestmark = pytest.mark.guest
MS = 10**6


def ending(**words: Any) -> Ending:
    return Ending(**{"run": 3, "exit_code": 1, "ran_ns": MS, "finished_at_ns": 10**18, **words})


def test_the_delay_doubles_to_a_minute_and_begins_anew_after_ten_seconds_of_running() -> None:
    delay_ms, seen = 0, []
    for count in range(12):
        restart = restarts.after_exit(RestartPolicy(name="always"), ending(count=count, delay_ms=delay_ms))
        assert restart is not None and restart.count == count + 1 and restart.due_ns == 10**18 + restart.delay_ms * MS
        delay_ms = restart.delay_ms
        seen.append(delay_ms)
    assert seen == [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]
    calm = restarts.after_exit(RestartPolicy(name="always"), ending(delay_ms=60000, ran_ns=10 * 10**9))
    assert calm is not None and calm.delay_ms == 100


@pytest.mark.parametrize(
    ("policy", "words", "restarted"),
    [
        (RestartPolicy(), {}, False),
        (RestartPolicy(name="always"), {"exit_code": 0}, True),
        (RestartPolicy(name="always"), {"by_hand": True}, False),
        (RestartPolicy(name="unless-stopped"), {"exit_code": 0}, True),
        (RestartPolicy(name="unless-stopped"), {"by_hand": True}, False),
        (RestartPolicy(name="on-failure"), {"exit_code": 0}, False),
        (RestartPolicy(name="on-failure"), {"count": 99}, True),
        (RestartPolicy(name="on-failure", maximum_retries=2), {"count": 1}, True),
        (RestartPolicy(name="on-failure", maximum_retries=2), {"count": 2}, False),
        (RestartPolicy(), {"wanted": ASKED, "exit_code": 0}, True),
        (RestartPolicy(), {"wanted": UNHEALTHY}, True),
    ],
)
def test_who_is_restarted_after_an_exit(policy: RestartPolicy, words: dict[str, Any], restarted: bool) -> None:
    assert (restarts.after_exit(policy, ending(**words)) is not None) is restarted


def test_a_restart_that_was_asked_for_comes_at_once_and_counts_nothing() -> None:
    restart = restarts.after_exit(RestartPolicy(name="always"), ending(wanted=ASKED, count=7, delay_ms=800))
    assert restart is not None and (restart.count, restart.delay_ms, restart.due_ns) == (0, 0, 10**18)


@pytest.mark.parametrize(
    ("policy", "words", "restarted"),
    [
        ("no", {}, False),
        ("always", {"by_hand": True}, True),  # what makes it differ from the next
        ("unless-stopped", {"by_hand": True}, False),
        ("unless-stopped", {"exit_code": 0}, True),
        ("on-failure", {"exit_code": 137}, True),
        ("on-failure", {"exit_code": 0}, False),
        ("on-failure", {"by_hand": True}, False),
    ],
)
def test_who_comes_back_with_the_platform(policy: str, words: dict[str, Any], restarted: bool) -> None:
    restart = restarts.at_platform_start(RestartPolicy(name=policy), ending(count=5, **words), 10**18)
    assert (restart is not None) is restarted
    assert restart is None or restart.count == 0


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (
            RestartPolicy(name="foo"),
            "invalid restart policy: unknown policy 'foo'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
        (RestartPolicy(name="always", maximum_retries=3), "invalid restart policy: maximum retry count can only be used with 'on-failure'"),
        (
            RestartPolicy(name="no", maximum_retries=-3),
            "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative",
        ),
        (RestartPolicy(name="on-failure", maximum_retries=-1), "invalid restart policy: maximum retry count cannot be negative"),
    ],
)
def test_mobys_sentences_about_policies(policy: RestartPolicy, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        restarts.check(policy)
    assert caught.value.message == sentence


def test_a_signal_for_a_new_configuration_is_no_stop() -> None:
    assert all(restarts.is_a_stop(number, signal.SIGTERM) for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGQUIT))
    assert not restarts.is_a_stop(signal.SIGHUP, signal.SIGTERM)
    assert restarts.is_a_stop(signal.SIGUSR1, signal.SIGUSR1)
