"""The panel's worker: ``python -m controlpanel.worker``, user slipway. Tasks of queue ``panel``, and the schedule.

The schedule is a thread here rather than Celery beat, which as a process of its own costs 60 MiB. Its jobs only send
panel-side work that may be done twice, so several panel workers need no leader.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

THREADS: Final = 4  # the database has one writer anyway (SQLite), and events of one object keep their order by key


@dataclass(frozen=True, slots=True)
class Job:
    """``run`` every ``every_s``; the next time counts from the end of the last, so a slow one never overlaps itself."""

    name: str
    every_s: float
    run: Callable[[], object]


class Schedule(threading.Thread):
    """Runs jobs one after the other in one thread."""

    def __init__(self, jobs: list[Job], name: str = "schedule") -> None:
        super().__init__(name=name, daemon=True)
        self._due = [(time.monotonic() + job.every_s, job) for job in jobs]
        self._ending = threading.Event()

    def end(self) -> None:
        """Returns when the job under way, if any, is done."""
        self._ending.set()
        self.join()

    def run(self) -> None:
        while self._due:
            self._due.sort(key=lambda entry: entry[0])
            at, job = self._due.pop(0)
            if self._ending.wait(max(0.0, at - time.monotonic())):
                return
            try:
                job.run()
            except Exception:  # a job that fails must not end the others
                log.exception("schedule: %s", job.name)
            self._due.append((time.monotonic() + job.every_s, job))


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlpanel.settings")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    import django

    django.setup()

    from django.conf import settings

    import controlpanel.containers.services
    import controlpanel.images.services  # noqa: F401  these two say what answers mean for rows
    import workers.ping  # noqa: F401  registers slipway.ping
    from controlpanel.events import tasks  # noqa: F401  registers slipway.panel.ingest
    from controlpanel.events.housekeeping import tidy
    from controlpanel.hosts import witness
    from controlpanel.hosts.sweep import sweep
    from controlpanel.registry import cleaning, retention, scrub
    from controlpanel.tenancy.deletion import purge_due
    from controlpanel.tenants import impersonation
    from workers import contract
    from workers.consume import consume

    jobs = [
        Job("operations without an answer", 5.0, sweep),
        Job("tenants whose grace is over", 60.0, purge_due),
        Job("operators who act as members, and whose time is over", 5.0, impersonation.expire),
        Job("heads of the audit for its witness", 60.0, witness.tell),
        Job("what nobody has of the registry any more", 600.0, cleaning.tidy),
        Job("what need not be kept", 3600.0, tidy),
    ]
    patient = [  # these take minutes, and the others wait for nobody; each of their steps may be the last
        Job("what goes by the rules of the tenants", 1800.0, retention.sweep_due),
        Job("the bytes of the registry, read again", 900.0, scrub.scrub),
    ]
    schedule = Schedule(jobs)
    schedule.start()
    Schedule(patient, "patient schedule").start()
    code = consume(
        contract.PANEL_QUEUE,
        consumer=f"{contract.PANEL_QUEUE}.{settings.SLIPWAY_HOST}",
        lock=settings.PANEL_DIR / "panel-worker.lock",
        threads=THREADS,
        sent_again=False,
    )
    schedule.end()
    return code


if __name__ == "__main__":
    sys.exit(main())
