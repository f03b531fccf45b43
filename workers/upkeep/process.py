"""Runs the periodic duties (`python -m workers.upkeep`); one upkeep process leads each group.

    dispatch     keeps every flow's prefetch window full; woken by intake's NOTIFY
    batches      reads new batch files and writes result files, in turns between tenants
    stop-losses  holds and stops batches by their own terms
    controls     moves and cancels, restores paused jobs, wakes jobs early when limits rise
    letters      advances replays, names causes, retires old dead letters, sums stored bytes
    suspects     runs suspect jobs, each in its own process
    money        budget thresholds and webhooks, the audit of Redis, sealed sums
    look-ups     asks accounts that keep completions about unresolved charges
    core         stage, rescue, expire, republish, the ledger, limits, deliveries, pruning

The groups run concurrently, so that a large batch delays no other group.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import structlog

from config.catalogue import load_catalogue
from config.descriptors import BESIDE_CALLS, log_descriptors, require_descriptors
from config.logs import configure_logs
from config.memory import keep_what_started
from config.settings import Settings, load_settings
from config.watchdog import watched
from schemas.ids import JobId, TenantId
from storage.connect import Storage
from storage.database.notify import listen
from storage.queue.transitions import LOST_FROM_EMPTY_SECONDS
from tasks.configuration.apply_limits import LimitKeeper
from tasks.dispatch.refill import dispatch
from tasks.maintenance.items import Isolation
from tasks.maintenance.poison_isolation import Suspects
from tasks.maintenance.rescue_guard import RescueGuard
from tasks.maintenance.schedule import SWEEP_SECONDS, Duty, Rounds, run_maintenance
from tasks.startup import refusing_settings
from tasks.tenancy.quotas import add_up_bytes
from tasks.wiring.upkeep import MaintenanceServices, open_maintenance_services
from workers.upkeep.isolated_job import started
from workers.upkeep.leader import Leader

log = structlog.get_logger()

GROUPS = ("dispatch", "batches", "stop-losses", "controls", "letters", "suspects", "money", "look-ups", "core")

ALONE_START_SECONDS = 60.0
"""A suspect's time beyond its longest call."""

DISPATCH_SWEEP_SECONDS = 0.2
"""A full worker process uses a quarter of a flow's prefetch window in this time."""


def duties_of(
    services: MaintenanceServices, suspects: Suspects, rescue_guard: RescueGuard
) -> dict[str, tuple[Duty, ...]]:
    """Return the duties by group, in their order."""
    return {
        "dispatch": _dispatch_duties(services),
        "batches": (
            Duty(name="start_batches", every_seconds=0, run=services.batches.start_new),
            Duty(name="finish_batches", every_seconds=0, run=services.batches.finish_rested),
        ),
        "stop-losses": (Duty(name="watch_batches", every_seconds=1, run=services.stop_losses.look),),
        "controls": _control_duties(services.storage),
        "letters": _letter_duties(services),
        "suspects": (Duty(name="try_alone", every_seconds=1, run=suspects.try_alone),),
        "money": (
            Duty(name="take_thresholds", every_seconds=1, run=services.thresholds.take),
            Duty(name="look_for_thresholds", every_seconds=1, run=services.thresholds.look),
            Duty(name="send_webhooks", every_seconds=1, run=services.webhooks.deliver),
            Duty(name="audit", every_seconds=60, run=services.reconciler.audit),
            Duty(name="seal", every_seconds=10, run=services.storage.seals.seal),
        ),
        "look-ups": tuple(
            Duty(name="look_up", every_seconds=5, run=look_ups.look) for look_ups in [services.look_ups] if look_ups
        ),
        "core": _core_duties(services, rescue_guard),
    }


def _dispatch_duties(services: MaintenanceServices) -> tuple[Duty, ...]:
    flows = Isolation("dispatch")

    async def refill() -> int:
        return await dispatch(
            services.storage.backlog,
            services.publisher,
            services.prefetch_windows,
            services.share_capacities,
            slice_size=services.settings.slice_size,
            isolation=flows,
        )

    return (Duty(name="dispatch", every_seconds=0, run=refill),)


def _control_duties(storage: Storage) -> tuple[Duty, ...]:
    sweeps, wakes = Isolation("sweep"), Isolation("wake_early")
    return (
        Duty(name="put_back", every_seconds=0.25, run=storage.controls.put_back),
        Duty(name="sweep", every_seconds=0, run=partial(storage.controls.sweep, run_each=sweeps.each)),
        Duty(name="wake_early", every_seconds=0.25, run=partial(storage.parked.wake_early, run_each=wakes.each)),
        Duty(name="forget_times", every_seconds=60, run=storage.backlog.forget_times),
    )


def _letter_duties(services: MaintenanceServices) -> tuple[Duty, ...]:
    storage, sums = services.storage, Isolation("add_up_bytes")

    async def retire_letters() -> int:
        days = services.dead_letter_days
        return 0 if days is None else await storage.letters.retire(older_than_days=days)

    async def add_up() -> int:
        tenants = sorted(map(TenantId, await storage.keys.tenants()))
        return await add_up_bytes(storage.usage.count_slice, tenants, services.configuration.share, sums)

    return (
        Duty(name="replay", every_seconds=0, run=services.replays.advance_all),
        Duty(name="name_causes", every_seconds=1, run=storage.letters.name),
        Duty(name="retire_letters", every_seconds=60, run=retire_letters),
        Duty(name="add_up_bytes", every_seconds=5, run=add_up, goes_on=True),
    )


def _core_duties(services: MaintenanceServices, rescue_guard: RescueGuard) -> tuple[Duty, ...]:
    storage, reconciler = services.storage, services.reconciler
    due, limits = storage.due, LimitKeeper(services.admission.gate.configure, services.configuration)

    async def apply_configuration() -> int:
        return await limits.apply() + await services.wakes.notice()

    async def republish() -> int:
        lost = await due.forget_lost_messages()
        return lost + await due.forget_lost_messages(LOST_FROM_EMPTY_SECONDS, await services.publisher.empty_lanes())

    async def expire_reservations() -> int:
        return len(await services.admission.gate.expire())

    return (
        Duty(name="open_ledger", every_seconds=1, run=reconciler.keep_open),
        Duty(name="configure", every_seconds=2, run=apply_configuration),
        Duty(name="stage", every_seconds=0.25, run=due.stage_due),
        Duty(name="rescue", every_seconds=1, run=rescue_guard.rescue),
        Duty(name="expire_jobs", every_seconds=1, run=due.expire),
        Duty(name="deliver", every_seconds=0.25, run=services.deliveries.deliver),
        Duty(name="republish", every_seconds=5, run=republish),
        Duty(name="expire_reservations", every_seconds=5, run=expire_reservations),
        Duty(name="reconcile", every_seconds=5, run=reconciler.reconcile),
        Duty(name="suspend_orphans", every_seconds=60, run=storage.ledger.suspend_orphans),
        Duty(name="presume", every_seconds=60, run=reconciler.presume),
        Duty(name="prune_files", every_seconds=60, run=storage.files.prune),
    )


async def keep(settings: Settings) -> None:
    """Run the duties until SIGTERM or SIGINT. Raises CatalogueError and InvalidSetting."""
    stopping = asyncio.Event()
    woken = {name: asyncio.Event() for name in GROUPS}

    def stop() -> None:
        stopping.set()
        for event in woken.values():
            event.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with (
        watched(settings.watchdog_seconds) as watchdog,
        open_maintenance_services(settings, load_catalogue(settings.config), os.environ) as services,
    ):

        async def alone(job_id: JobId, generation: int) -> int:
            most_seconds = settings.total_timeout_seconds + ALONE_START_SECONDS
            return await started(job_id, generation, most_seconds, stopping)

        suspects = Suspects(services.storage.suspects, alone)
        rescue_guard = RescueGuard(services.storage.due.now, services.reconciler.rescue, clock=time.monotonic)
        keep_what_started()
        watchdog.has_started()
        log_descriptors(settings, BESIDE_CALLS)
        log.info("upkeep_started", holder=services.storage.holder)
        listener = asyncio.create_task(listen(settings.database_url.get_secret_value(), woken["dispatch"].set))
        try:
            groups = duties_of(services, suspects, rescue_guard).items()
            await until_one_fails(
                (
                    _lead(services, rescue_guard, name, duties, woken=woken[name], stopping=stopping)
                    for name, duties in groups
                ),
                stop,
            )
        finally:
            await suspects.aclose()
            listener.cancel()
            await asyncio.wait([listener])


async def until_one_fails(groups: Iterable[Awaitable[None]], stop: Callable[[], None]) -> None:
    """Run groups until all end or one fails, and then stop the others.

    Otherwise a suspect's process would delay the end until its longest call has timed out.
    """
    try:
        await asyncio.gather(*groups)
    finally:
        stop()


async def _lead(
    services: MaintenanceServices,
    rescue_guard: RescueGuard,
    name: str,
    duties: tuple[Duty, ...],
    *,
    woken: asyncio.Event,
    stopping: asyncio.Event,
) -> None:
    leadership = services.storage.leadership(name)
    await run_maintenance(
        Rounds(duties=duties),
        leads=Leader(rescue_guard.observing(leadership.lead), clock=time.monotonic).leads,
        woken=woken,
        stopping=stopping,
        clock=time.monotonic,
        sweep_seconds=DISPATCH_SWEEP_SECONDS if name == "dispatch" else SWEEP_SECONDS,
    )
    await leadership.resign()


def main() -> None:
    """Run upkeep."""
    with refusing_settings("upkeep"):
        settings = load_settings()
        configure_logs(settings.env)
        require_descriptors(settings, BESIDE_CALLS)
        asyncio.run(keep(settings))
