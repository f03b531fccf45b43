"""A call whose answer never arrived is found again where the account keeps completions, and nowhere else."""

from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from config.catalogue import Catalogue, ModelTable, ProviderTable
from config.settings import Settings
from providers.models import open_models
from schemas.errors import AccountUnavailable
from schemas.ids import AttemptId
from schemas.reply import Reply, TroubleKind
from tests.support.fakes import a_job
from tests.support.simulator_process import SimulatorProcess

SETTINGS = Settings.model_construct(
    slots=8,
    connect_timeout_seconds=2,
    first_byte_timeout_seconds=5,
    between_chunks_timeout_seconds=1,
    total_timeout_seconds=10,
)


@pytest.mark.parametrize("lookup", [True, False])
async def test_a_lost_answer_is_found_by_its_attempt(lookup: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    with SimulatorProcess.start() as provider:
        catalogue = Catalogue(
            providers={"openai": ProviderTable(base_url=provider.base_url, lookup=lookup)},
            models={"gpt-4.1-mini": ModelTable()},
            aliases={"small": ("gpt-4.1-mini",)},
        )
        async with open_models(catalogue, SETTINGS, {"OPENAI_API_KEY": "any"}) as models:
            [target] = models.chain("small")
            job = a_job(
                body={"model": "small", "messages": [{"role": "user", "content": "lost [[scenario:reset_after]]"}]}
            )
            plan = models.plan(job, target, job.body, datetime.now(UTC))
            trouble = await models.call(plan, AttemptId("att_lost"), deadline_seconds=10, on_chunk=None)

            found = await models.look_up(target, AttemptId("att_lost"))
            other = await models.look_up(target, AttemptId("att_never_sent"))

        bill = provider.bills()["att_lost"]
    assert not isinstance(trouble, Reply)
    assert trouble.kind is TroubleKind.AMBIGUOUS
    assert other is None
    assert (found is not None) is lookup
    if found is not None:
        assert found.usage is not None
        assert plan.price.cost(found.usage) == bill["nano_usd"]


async def test_an_unreachable_account_is_distinguished_from_one_without_a_record() -> None:
    with SimulatorProcess.start() as provider:
        base_url = provider.base_url
    catalogue = Catalogue(
        providers={"openai": ProviderTable(base_url=base_url, lookup=True)},
        models={"gpt-4.1-mini": ModelTable()},
        aliases={"small": ("gpt-4.1-mini",)},
    )
    async with open_models(catalogue, SETTINGS, {"OPENAI_API_KEY": "sk-hidden"}) as models:
        [target] = models.chain("small")
        with capture_logs() as told, pytest.raises(AccountUnavailable):
            await models.look_up(target, AttemptId("att_lost"))

    [line] = [line for line in told if line["event"] == "look_up_failed"]
    assert (line["account"], line["attempt_id"]) == ("openai", "att_lost")
    assert line["reason"] in {"APIConnectionError", "APITimeoutError"}
    assert "sk-hidden" not in str(told)
