"""A worker of the product whose judgement never ends for jobs of one contract: a bug that no bound of ours has met.

celery -A tests.support.hanging_app worker -Q completions.normal
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from config.catalogue import load_catalogue
from config.metrics import Metrics
from config.settings import load_settings
from schemas.contract import OutputContract
from schemas.ids import TenantId
from schemas.outcome import Judged
from schemas.reply import Reply
from tasks.execution.deps import Models
from tasks.wiring.work import WorkerServices, open_worker_services
from workers.build import assemble

HANGING_NAME = "never_judged"
"""The name of the contract."""


class NeverRead(dict[str, Any]):
    """A reply's body that takes for ever to be looked into."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - any JSON value
        """Sleep on the event loop."""
        time.sleep(600)
        return super().__getitem__(name)


class HangingModels:
    """`tasks.execution.deps.Models`, all but the judgement as it is."""

    def __init__(self, models: Models) -> None:
        self.call, self.look_up, self.served_price = models.call, models.look_up, models.served_price
        self._judge = models.judge

    async def judge(self, reply: Reply, contract: OutputContract | None, tenant_id: TenantId) -> Judged:
        """Judge, and never come to an end of it for the contract that hangs."""
        if contract is not None and contract.name == HANGING_NAME:
            reply = replace(reply, body=NeverRead(reply.body))
        return await self._judge(reply, contract, tenant_id)


@asynccontextmanager
async def open_hanging_services() -> AsyncIterator[WorkerServices]:
    """The services of a worker with these models."""
    async with open_worker_services(settings, load_catalogue(settings.config), os.environ, metrics) as services:
        yield replace(services, deps=replace(services.deps, models=HangingModels(services.deps.models)))


settings, metrics = load_settings(), Metrics()
app = assemble(settings, open_hanging_services, metrics)
