"""Calls, prices and judges the models of the catalogue: the package's facade."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import datetime

from config.catalogue import Catalogue
from config.marks import synchronous_step
from config.settings import Settings
from providers.account import http_client
from providers.account.accounts import open_accounts
from providers.account.http_client import Account, OnChunk
from providers.account.lookup import findable, look_up
from providers.chat.request_body import final_body, without_streaming
from providers.contract import evaluate as judging
from providers.contract.checks.checks import Checks
from providers.contract.validation import CompiledSchemas, UnusableSchema
from providers.contract.work import TooMuchWork, Work
from providers.pricing.price_list import prices_of
from providers.routing import Routes
from providers.tokens.bound import output_bound, prompt_bound
from providers.tokens.counting import counters
from providers.tokens.estimates import Estimates
from schemas.attempt import OpenedAttempt
from schemas.contract import OutputContract
from schemas.ids import AttemptId, TenantId
from schemas.job import Job, Target
from schemas.jsons import JsonObject
from schemas.money import Price, Quote, Usage
from schemas.outcome import Invalid, Judged
from schemas.plan import Plan
from schemas.reply import Reply, Trouble


class Models:
    """The models of a catalogue, over open accounts."""

    def __init__(
        self, catalogue: Catalogue, settings: Settings, accounts: Mapping[str, Account], estimates: Estimates
    ) -> None:
        self.estimates = estimates
        self._catalogue = catalogue
        self._settings = settings
        self._accounts = accounts
        self._routes = Routes(catalogue)
        self._schemas = CompiledSchemas()
        self._checks = Checks()
        self._prices = prices_of(catalogue, {name: account.base_url for name, account in accounts.items()})

    def chain(self, model: str) -> tuple[Target, ...]:
        """Return the targets to try in order. Raises UnknownModel."""
        return self._routes.chain(model)

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan:
        """Plan one call: final body, price and worst-case quote.

        UNKNOWN_PRICE quotes zero. A batch line never streams, because it has no listener.
        """
        default_tokens = self._catalogue.models[target.model].default_max_output_tokens
        final = final_body(
            body if job.batch_id is None else without_streaming(body),
            model=target.model,
            default_max_output_tokens=default_tokens,
            contract=job.contract,
            lookup_as=job.id if self._accounts[target.account].lookup else None,
        )
        input_tokens, output_tokens = prompt_bound(final), output_bound(final, default_tokens)
        estimate = self.estimates.estimate(target, final, input_tokens)
        price = self._prices.price(target, now, tier=self._tier(final, target), input_tokens=input_tokens)
        quote = Quote(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cost_nano_usd=price.cost(Usage(input_tokens=input_tokens, output_tokens=output_tokens)),
            likely_input_tokens=estimate.tokens,
        )
        return Plan(
            target=target,
            body=final,
            price=price,
            quote=quote,
            tenant_id=job.tenant_id,
            measured=estimate.measured,
        )

    async def call(
        self, plan: Plan, attempt_id: AttemptId, *, deadline_seconds: float, on_chunk: OnChunk | None
    ) -> Reply | Trouble:
        """Make the call; trouble is returned.

        Raises only for bugs, cancellation and `on_chunk`.
        """
        account = self._accounts[plan.target.account]
        if account.lookup:
            plan = replace(plan, body=findable(plan.body, attempt_id))
        answer = await http_client.call(
            account,
            plan,
            attempt_id,
            self._settings,
            deadline_seconds=deadline_seconds,
            on_chunk=on_chunk,
        )
        if isinstance(answer, Reply) and answer.usage is not None and plan.measured is not None:
            self.estimates.learn(plan.measured, answer.usage.input_tokens)
        return answer

    async def look_up(self, target: Target, attempt_id: AttemptId) -> Reply | None:
        """Return the stored reply of a lost answer, if any. Raises AccountUnavailable."""
        account = self._accounts.get(target.account)
        return None if account is None else await look_up(account, target.model, attempt_id)

    def served_price(self, opened: OpenedAttempt, reply: Reply) -> Price:
        """Return the price of the tier that served, else the reserved price. Pure."""
        tokens = opened.grant.tokens if reply.usage is None else reply.usage.input_tokens
        served = self._prices.served(opened.target, opened.opened_at, tier=reply.service_tier, input_tokens=tokens)
        return opened.price if served is None else served

    def _tier(self, body: JsonObject, target: Target) -> str:
        """Falls back to the account's default tier."""
        requested = body.get("service_tier")
        if isinstance(requested, str) and requested != "auto":
            return requested
        return self._catalogue.providers[target.account].service_tier

    async def judge(self, reply: Reply, contract: OutputContract | None, tenant_id: TenantId) -> Judged:
        """Check the reply, in a child process if that is much work."""
        try:
            with synchronous_step():
                return judging.judge(reply, None if contract is None else self._schemas.of(contract.schema), Work())
        except TooMuchWork:
            assert contract is not None  # noqa: S101 - without a contract there is nothing to check
            return await self._checks.judge(reply, contract.schema, tenant_id)
        except UnusableSchema as error:  # it was taken in by an earlier version
            return Invalid(reply=reply, complaint=f"The JSON Schema of the output is not usable: {error}")

    async def aclose(self) -> None:
        """End the processes that check large replies."""
        await self._checks.aclose()


@asynccontextmanager
async def open_models(catalogue: Catalogue, settings: Settings, env: Mapping[str, str]) -> AsyncIterator[Models]:
    """Open the accounts and their models. Raises InvalidSetting."""
    async with (
        open_accounts(catalogue, settings, env) as accounts,
        aclosing(Models(catalogue, settings, accounts, Estimates(counters(env)))) as models,
    ):
        yield models
