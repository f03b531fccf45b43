"""Broker and Celery options as plain data, each with its reason. Imports no Celery.

Never set: the transport's `retry_on_timeout` and `retry` (they disable pipelining and can double a message),
`worker_eta_task_limit` (drops the prefetch to 1), and a result backend (blocks the loop).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from config.settings import Settings

QUEUES: Sequence[str] = ("completions.critical", "completions.high", "completions.normal", "completions.low")
"""The four lanes as Celery queues. Public interface."""

DEFAULT_QUEUE = "completions.normal"

RESULT_EXPIRES_SECONDS = 24 * 3600
"""The default deadline of a job."""

CALLER_MESSAGES = 64
"""Messages beyond the slots: callers' submits, which are short and take no slot."""

TRANSPORT_OPTIONS: Mapping[str, Any] = {
    # Redelivery after a crash, without renewal: a redelivered message of a held job is acknowledged and dropped.
    "visibility_timeout": 120,
    # Abandoned messages are looked for every 10 s; the default throttle makes that every 100 s.
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    # Lanes are queues; message priorities would outrank their order and make BRPOP ask for 16 lists instead of 4.
    "priority_steps": [0],
    # Detects a dead peer; the socket time-out must exceed BRPOP's 1 s.
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 15,
    # The default of 10 is too small when results are delivered beside publishing.
    "max_connections": 50,
    "client_name": "penstock",
}

CALLER_OPTIONS: Mapping[str, Any] = {
    # Pickle runs code of whoever reaches the broker.
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "result_expires": RESULT_EXPIRES_SECONDS,
    "task_default_queue": DEFAULT_QUEUE,
    # A typing error in a queue's name fails at the sender instead of filling a list that has no consumer.
    "task_create_missing_queues": False,
    # A few connections per process; a web process must answer rather than hang when Redis is away.
    "broker_pool_limit": 10,
    "broker_pool_acquire_timeout": 5,
    "broker_connection_timeout": 5,
    "broker_connection_retry_on_startup": True,
    # The default of 100 attempts would end a worker after a long outage.
    "broker_connection_max_retries": None,
    # Bounded: what is not published is published again by upkeep.
    "task_publish_retry": True,
    "task_publish_retry_policy": {"max_retries": 3, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5},
    # Results likewise: upkeep and the caller's redelivered message deliver again.
    "result_backend_transport_options": {"retry_policy": {"max_retries": 2, "interval_start": 0.1}},
    "task_send_sent_event": False,
    "enable_utc": True,
}


def caller_options(redis_url: str) -> dict[str, Any]:
    """Return the options of a process that publishes and delivers results."""
    return {**CALLER_OPTIONS, "broker_url": redis_url, "broker_transport_options": dict(TRANSPORT_OPTIONS)}


def worker_options(settings: Settings) -> dict[str, Any]:
    """Return the options of a worker."""
    return {
        **caller_options(settings.redis_url.get_secret_value()),
        "broker_transport_options": {
            **TRANSPORT_OPTIONS,
            # Strict order with turns for the lower lanes, leaving out lanes for which no slots are free.
            "queue_order_strategy": "workers.broker.queue_order:LaneOrder",
        },
        "worker_pool": "workers.pool.pool:TaskPool",
        # The prefetch count is this number: job slots bound the work, and callers' messages come beside them.
        "worker_concurrency": settings.slots + CALLER_MESSAGES,
        "worker_prefetch_multiplier": 1,
        "worker_consumer": "workers.broker.consumer:Consumer",
        # Acknowledged at the end, so running messages are unacknowledged, and a killed worker's messages return.
        "task_acks_late": True,
        # A bug is left to the job's lease, not to redelivery.
        "task_acks_on_failure": True,
        "task_acks_on_timeout": True,
        "task_reject_on_worker_lost": True,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_track_started": False,
        # Full speed at once after a reconnect; calls under way are paid for and go on.
        "worker_enable_prefetch_count_reduction": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # SIGTERM drains within our own grace; SIGQUIT cancels at once.
        "worker_soft_shutdown_timeout": 0,
        # A demoted or read-only server answers with an error: the worker reconnects instead of ending.
        "broker_channel_error_retry": True,
        # Limits are the gate's.
        "worker_disable_rate_limits": True,
        # Flower shows what runs; 0.33 ms of CPU for each message, not for each job.
        "worker_send_task_events": True,
        # structlog owns logging and the standard streams.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }
