from __future__ import annotations

import threading

from controlpanel.worker import Job, Schedule


def test_jobs_run_again_and_again_and_one_that_fails_ends_nothing() -> None:
    ran, enough = {"good": 0, "bad": 0}, threading.Event()

    def good() -> None:
        ran["good"] += 1
        if ran["good"] >= 3 and ran["bad"] >= 2:
            enough.set()

    def bad() -> None:
        ran["bad"] += 1
        raise ValueError("as it happens")

    schedule = Schedule([Job("bad", 0.01, bad), Job("good", 0.01, good)])
    schedule.start()
    assert enough.wait(10)
    schedule.end()
