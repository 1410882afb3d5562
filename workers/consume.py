"""Running a Celery worker on one queue, so that a kill at any moment loses nothing for good.

    host.<name>   ``MemoryQoS``: what is taken is known to the worker alone. A killed one forgets it, and whoever sent it sends it again
                  under the same id (controlpanel.hosts.dispatch, the sweeper), as also what a killed Redis lost.
    panel         ``ForgivingQoS``: facts that nobody sends again. kombu moves a message to the hash ``unacked.<consumer>`` when it is
                  taken and drops it there when it is acknowledged; what a killed worker left there goes back to the head of the
                  queue when the next one starts.

A lock file keeps a second worker of the same name out: it would drink tasks silently, and its restoring would double them.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from kombu import Exchange, Queue
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import QoS

from workers.app import app, transport_options
from workers.resp import Address, Redis, RedisError

log = logging.getLogger(__name__)

TAKEN: Final = 64  # messages a thread, of a queue whose messages wait for their tenant's turn (workers.pool)


class PatientConsumer(Consumer):  # type: ignore[misc]
    """Back within a tenth of a second after Redis is; Celery alone waits 2 s, then 4, up to 30 between tries."""

    def ensure_connected(self, conn: Any) -> Any:
        address, said = Address.from_environment(), False
        while True:
            redis = Redis(address)
            try:
                redis.execute(("PING",))
                break
            except (OSError, RedisError) as error:
                if not said:
                    log.warning("waiting for Redis: %s", error)
                    said = True
                maybe_shutdown()
                time.sleep(0.1)
            finally:
                redis.close()
        return super().ensure_connected(conn)


class MemoryQoS(kombu_redis.QoS):  # type: ignore[misc]
    """Acknowledgements without Redis: noting and dropping each message there was a third of the worker's CPU.

    Still no more is taken than may be prefetched, and what an orderly end finds taken and not begun goes back to the head of the queue.
    """

    append = QoS.append
    ack = QoS.ack

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if requeue:
            self._put_back(self._delivered[delivery_tag])
        self.ack(delivery_tag)

    def restore_unacked(self, client: Any = None) -> None:
        self._put_back(*self._delivered.values(), client=client)
        self._delivered.clear()

    def _put_back(self, *messages: Any, client: Any = None) -> None:
        """To the head of the queue, so that the first taken is the first again."""
        with self.channel.conn_or_acquire(client) as connection:
            for message in reversed(messages):
                info = message.delivery_info
                self.channel._do_restore_message(message._raw, info["exchange"], info["routing_key"], connection)

    def restore_visible(self, *_args: Any, **_kwargs: Any) -> None:
        """Nothing lies in Redis."""


class ForgivingQoS(kombu_redis.QoS):  # type: ignore[misc]
    """A message whose acknowledgement did not reach Redis counts as acknowledged on this side.

    kombu would go on counting it. With as many as may be taken, it reads nothing from its connection any more, not even that the
    connection is gone: the worker would turn in its loop, deaf, for ever. What stays in Redis is restored at the next start,
    and an operation that was done is not done again.
    """

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)
        except self.channel.connection_errors:
            QoS.ack(self, delivery_tag)
            raise


def consume(queue: str, *, consumer: str, lock: Path, threads: int, sent_again: bool, begin: Callable[[], object] = lambda: None) -> int:
    """Drinks ``queue`` until SIGTERM; the answer is an exit code. ``sent_again``: by its sender, when no answer comes. ``begin`` is
    called when the queue is ours alone."""
    held = _claim(lock)
    if held is None:
        print(f"another worker already serves queue {queue} (it holds {lock}): end that one first", file=sys.stderr)
        return 75  # EX_TEMPFAIL, sysexits.h
    begin()
    warnings.filterwarnings("ignore", message="(?s).*superuser privileges")  # the host worker makes namespaces
    warnings.filterwarnings("ignore", message="(?s).*worker_cancel_long_running_tasks_on_connection_loss")
    kombu_redis.Channel.QoS = MemoryQoS if sent_again else ForgivingQoS
    if not sent_again and (restored := restore_unacked(Address.from_environment(), consumer)):
        log.warning("%d messages of a killed worker put back into queue %s", restored, queue)
    # Without an exchange of its own the queue is reached by its name alone, as workers.envelope addresses it.
    app.conf.update(
        broker_transport_options=transport_options(consumer),
        task_queues=[Queue(queue, Exchange(""), routing_key=queue)],
        task_default_queue=queue,
        worker_prefetch_multiplier=TAKEN if sent_again else 1,  # what waits in a tenant's line is taken, too
    )
    worker = app.Worker(
        hostname=consumer,
        pool="workers.pool:KeyedPool",
        concurrency=threads,
        queues=queue,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        task_events=False,
        optimization="fair",
        quiet=True,
        loglevel="WARNING",
    )
    worker.start()
    os.close(held)
    return int(worker.exitcode or 0)


def restore_unacked(address: Address, consumer: str, *, patience_s: float = 10.0) -> int:
    """Puts back what ``consumer`` had taken and not acknowledged; how many. Waits for a Redis that is just starting."""
    keys = transport_options(consumer)
    redis = Redis(address)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            flat, order = redis.execute(("HGETALL", keys["unacked_key"]), ("ZRANGE", keys["unacked_index_key"], 0, -1))
            break
        except (OSError, RedisError):
            if time.monotonic() > deadline:
                return 0  # Celery says so itself, and waits
            time.sleep(0.05)
    taken = {tag: place for place, tag in enumerate(order)}
    entries = sorted(zip(flat[::2], flat[1::2], strict=True), key=lambda entry: taken.get(entry[0], -1))
    for tag, entry in reversed(entries):  # each to the head, so the first taken is the first again
        message, _exchange, queue = json.loads(entry)
        message["headers"]["redelivered"] = True
        redis.execute(
            ("MULTI",),
            ("HDEL", keys["unacked_key"], tag),
            ("ZREM", keys["unacked_index_key"], tag),
            ("RPUSH", queue, json.dumps(message)),
            ("EXEC",),
        )
    redis.execute(("DEL", keys["unacked_index_key"]))  # a power cut may have left entries without their message
    redis.close()
    return len(entries)


def _claim(path: Path) -> int | None:
    """The lock's descriptor, or None when another process holds it. flock(2): free again the moment its holder is dead."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(100):  # a worker that is just ending gets 10 s
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            time.sleep(0.1)
    os.close(fd)
    return None
