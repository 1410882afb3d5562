"""The Celery app of both workers: JSON only, late acknowledgement, no results, no events. Imports no task.

The host worker loads workers.tasks on queue ``host.<name>`` (workers.host_worker), the panel's worker loads controlpanel's
tasks on queue ``panel`` (controlpanel.worker). Whoever only publishes needs workers.envelope and not this.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from celery import Celery

from workers.resp import url_from_environment

VISIBILITY_TIMEOUT_S: Final = 30 * 86400  # restored at start by ourselves (workers.consume), never by age: an act may last


def broker_url(redis_url: str) -> str:
    """kombu's spelling of a redis-py address: unix://…?db=0 becomes redis+socket://…?virtual_host=0."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    query = parts.query.replace("db=", "virtual_host=")
    return f"redis+socket://{parts.netloc}{parts.path}" + (f"?{query}" if query else "")


def transport_options(consumer: str) -> dict[str, Any]:
    """``consumer`` names who holds unacknowledged messages: they are restored by the next worker of that name only."""
    return {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "unacked_key": f"unacked.{consumer}",
        "unacked_index_key": f"unacked.{consumer}.index",
        "unacked_mutex_key": f"unacked.{consumer}.mutex",
        "priority_steps": [0],  # one list a queue
        "queue_order_strategy": "round_robin",
    }


app = Celery("slipway", set_as_current=True)
app.conf.update(
    broker_url=broker_url(url_from_environment()),
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_connection_retry=True,
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_acks_late=True,
    task_acks_on_failure_or_timeout=True,
    task_store_errors_even_if_ignored=False,
    task_create_missing_queues=True,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_enable_prefetch_count_reduction=False,
    worker_pool="workers.pool:KeyedPool",
    worker_consumer="workers.consume:PatientConsumer",
    enable_utc=True,
)
