"""A container in words: state, age, exit code, the command that would have made it. For templates; no query here."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from controlpanel.containers.models import Desired
from controlpanel.containers.projection import ContainerView
from controlpanel.hosts import presence
from engine import restarts
from engine.health import HEALTHY, STARTING, UNHEALTHY
from engine.model.container import ContainerState, HealthState, Status

_TONES = {
    Status.RUNNING: "green",
    Status.PAUSED: "yellow",
    Status.RESTARTING: "orange",
    Status.CREATED: "secondary",
    Status.EXITED: "secondary",
    Status.DEAD: "red",
}


@dataclass(frozen=True, slots=True)
class Row:
    """What a list row and a page header show."""

    view: ContainerView
    tone: str  # colour of the dot; the word beside it says the same
    state: str
    since: datetime | None  # of this state
    why: str  # of an end that was not a clean one, in words
    detail: str  # the engine's own words, when it said some
    unsettled: bool  # something was asked that has not happened yet: no button would help

    @property
    def running(self) -> bool:
        return self.view.is_running

    @property
    def paused(self) -> bool:
        return self.view.status is Status.PAUSED

    @property
    def short_id(self) -> str:
        return self.view.id[:12]

    @property
    def created_at(self) -> datetime:
        return moment(self.view.created_at_ns)

    @property
    def memory_limit_bytes(self) -> int:
        return self.view.spec.resources.memory_bytes


def row(view: ContainerView) -> Row:
    state = view.state
    why, failed = exit_words(state) or health_words(view), not view.is_running and bool(state.exit_code or state.error)
    unsettled = unsettled_words(view)
    unknown_since = presence.unknown_since(view.host)
    if unsettled:
        return Row(view, "blue", unsettled, None, "", "", True)
    if view.is_running and unknown_since is not None:
        return Row(view, "yellow", _("unknown"), unknown_since, _("its host does not answer"), "", False)
    since_ns = state.started_at_ns if state.has_process else state.finished_at_ns
    tone = "red" if failed or is_unhealthy(view) else _TONES[view.status]
    return Row(view, tone, state_words(view.status, state), moment(since_ns) if since_ns else None, why, state.error, False)


def unsettled_words(view: ContainerView) -> str:
    """What was asked and is not so yet; "" when nothing is under way."""
    if view.desired == Desired.REMOVED:
        return _("removing…")
    if view.host_seq < 0:
        return _("creating…")
    if view.desired == Desired.STOPPED and view.is_running:
        return _("stopping…")
    if view.desired == Desired.RESTARTING:
        return _("restarting…")
    if view.desired == Desired.RUNNING and not view.is_running:
        return _("starting…")
    return ""


def state_words(status: Status, state: ContainerState) -> str:
    words = {
        Status.RUNNING: _("running"),
        Status.PAUSED: _("paused"),
        Status.RESTARTING: _("restarting (%(code)d)") % {"code": state.exit_code},
        Status.CREATED: _("not started") if state.error else _("created"),
        Status.EXITED: _("exited (%(code)d)") % {"code": state.exit_code},
        Status.DEAD: _("dead"),
    }
    return words[status]


def exit_words(state: ContainerState) -> str:
    """Why it is not running, where the number alone would not say it."""
    if state.status not in (Status.EXITED, Status.CREATED, Status.RESTARTING) or not (state.exit_code or state.error):
        return ""
    if state.oom_killed:
        return _("killed: out of memory")
    known = {
        126: _("the command cannot be executed"),
        127: _("command not found"),
        130: _("interrupted (SIGINT)"),
        137: _("killed (SIGKILL)"),
        139: _("crashed: segmentation fault (SIGSEGV)"),
        143: _("terminated (SIGTERM)"),
    }
    if state.error:
        return known.get(state.exit_code, _("could not be started"))
    return known.get(state.exit_code, "")


def is_unhealthy(view: ContainerView) -> bool:
    return view.state.has_process and view.state.health is not None and view.state.health.status == UNHEALTHY


def health_words(view: ContainerView) -> str:
    """Of a container that runs; "" without a health check."""
    health = view.state.health
    return status_of_health(health.status) if health and view.state.has_process else ""


def status_of_health(status: str) -> str:
    return {STARTING: _("health: not known yet"), HEALTHY: _("healthy"), UNHEALTHY: _("unhealthy")}[status]


def policy_words(view: ContainerView) -> str:
    """When it is started again, in Docker's words and ours."""
    policy, words = view.spec.restart, []
    if policy.name != restarts.NO:
        words.append(f"{policy.name}:{policy.maximum_retries}" if policy.maximum_retries else policy.name)
    if policy.when_unhealthy:
        words.append(_("when unhealthy"))
    if view.state.restart_count:
        count = view.state.restart_count
        words.append(ngettext("restarted %(count)d time", "restarted %(count)d times", count) % {"count": count})
    return ", ".join(words) or restarts.NO


def health_card(view: ContainerView, known: HealthState | None) -> dict[str, Any] | None:
    """Status, command and the last probes, newest first."""
    if known is None or view.spec.health is None:
        return None
    probes = [
        {
            "at": moment(probe.finished_at_ns),
            "exit_code": probe.exit_code,
            "words": _("healthy") if probe.exit_code == 0 else _("failed (%(code)d)") % {"code": probe.exit_code},
            "output": probe.output.strip(),
        }
        for probe in reversed(known.log)
    ]
    command = shlex.join(view.spec.health.test[1:])
    return {"words": status_of_health(known.status), "failing_streak": known.failing_streak, "command": command, "probes": probes}


def moment(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns / 1e9, UTC)
