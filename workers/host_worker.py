"""The host worker: ``python -m workers.host_worker``, root. Runs what the panel asks of this host, one Engine call a task.

It must not see DJANGO_SETTINGS_MODULE: Celery's Django fix-up would import the panel (and 16 MiB) into a root process.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

from workers.memory import few_arenas

THREADS: Final = 64  # fast tasks pass slow ones while one is free; a thread is made when first needed
ARENAS: Final = 2


def main() -> int:
    if os.geteuid() != 0:
        print("workers.host_worker must run as root: it makes namespaces, mounts and cgroups", file=sys.stderr)
        return 77  # EX_NOPERM, sysexits.h
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    few_arenas(ARENAS)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    from workers import contract, host, reconcile, report, tasks
    from workers.consume import consume

    tasks.load()
    engine, queue = host.engine(), contract.host_queue(host.name())

    def begin() -> None:  # what the pool's threads share, before there are threads
        host.journal()
        report.outbox()
        reconcile.in_background(engine)

    lock = engine.config.engine / "host-worker.lock"
    return consume(queue, consumer=queue, lock=lock, threads=THREADS, sent_again=True, begin=begin)


if __name__ == "__main__":
    sys.exit(main())
