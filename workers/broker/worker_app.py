"""The Celery app of a worker process."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from celery import Celery, bootsteps

from config.broker import worker_options
from config.metrics import Metrics
from config.settings import Settings
from schemas.lanes import Lane
from tasks.dispatch.celery_app import lane_queues
from workers.broker.critical_yield import LOOK_SECONDS, CriticalYield
from workers.pool.lifespan import Lifespan
from workers.pool.slots import Slots
from workers.services import WorkerServices


class WorkerApp(Celery):  # type: ignore[misc]  # Celery ships no types
    """A Celery app that enters `open_services` on the loop before its first task."""

    amqp_cls = "workers.broker.transport:LaneAMQP"

    def __init__(
        self,
        settings: Settings,
        open_services: Callable[[], AbstractAsyncContextManager[WorkerServices]],
        metrics: Metrics,
    ) -> None:
        super().__init__("penstock", set_as_current=False)
        self.conf.update(worker_options(settings), task_queues=lane_queues())
        self.lifespan = Lifespan(open_services)
        self.slots = Slots(settings.slots, settings.reserved_critical_slots, settings.slice_size)
        self.drain_grace_seconds = settings.drain_grace_seconds
        self.watchdog_seconds = settings.watchdog_seconds
        self.metrics = metrics
        metrics.slots_in_use.set_function(lambda: self.slots.in_use)
        metrics.slots_waited_for.set_function(lambda: self.slots.waiting)
        self.steps["consumer"].add(LanesFollowSlots)

    @property
    def services(self) -> WorkerServices:
        """The services, open while tasks run."""
        return self.lifespan.value

    def observe_loop_delay(self, seconds: float) -> None:
        """Record one delay of the loop."""
        self.metrics.loop_delay_seconds.observe(seconds)


class LanesFollowSlots(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Connects slots and `CriticalYield` to the order of BRPOP, again after every reconnect."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:  # noqa: ANN401 - Celery's consumer
        """Make the channel skip full lanes and wake when one has room."""
        slots, channel, hub = c.app.slots, c.task_consumer.channel, c.hub
        order = channel._queue_cycle  # noqa: SLF001 - kombu creates it by name and does not expose it
        critical_yield = CriticalYield(
            slots.open_lanes,
            is_busy=lambda: slots.others_in_use > 0 or (slots.arriving > 0 and order.last_used != Lane.CRITICAL.queue),
            lying=lambda: channel.lying(Lane.CRITICAL.queue),
            wake=channel.ask_again,
        )
        order.open_lanes = critical_yield.open_lanes
        slots.wake = lambda: hub.call_soon(channel.ask_again)
        c.timer.call_repeatedly(LOOK_SECONDS, critical_yield.look)  # Celery cancels it with the connection
