"""When a batch stops itself, holds, and goes on: a table of what it has come to and what follows."""

import pytest

from schemas.errors import InvalidRequest
from schemas.ids import BatchId
from schemas.money import NanoUsd
from schemas.stop_loss import Phase, StopLoss, Tally, Watched
from tasks.batches.stop_loss import LEAST_JUDGED, GoOn, Hold, Release, Stop, StopLosses, Verdict, judge
from tasks.batches.terms import stop_loss

CAP = StopLoss(max_cost_nano_usd=NanoUsd(1_000))
RATE = StopLoss(max_error_rate=0.25)
TEN_FIRST = StopLoss(canary=10)


def verdict(terms: StopLoss, phase: Phase, **counts: int) -> Verdict:
    facts = {"total": 100, "completed": 0, "failed": 0, "alive": 0, "held": 0, "spent_nano_usd": 0} | counts
    tally = Tally(**facts)  # type: ignore[arg-type]  # names are checked by the dataclass
    return judge(Watched(batch_id=BatchId("batch_1"), terms=terms, phase=phase, tally=tally))


@pytest.mark.parametrize(
    ("terms", "phase", "counts", "kind"),
    [
        (CAP, Phase.WATCHED, {"completed": 50, "spent_nano_usd": 999}, GoOn),
        (CAP, Phase.WATCHED, {"completed": 50, "spent_nano_usd": 1_000}, Stop),
        (CAP, Phase.HELD, {"completed": 50, "spent_nano_usd": 1_000}, Stop),
        (RATE, Phase.WATCHED, {"completed": 1, "failed": LEAST_JUDGED - 2}, GoOn),
        (RATE, Phase.WATCHED, {"completed": 15, "failed": 5}, GoOn),
        (RATE, Phase.WATCHED, {"completed": 14, "failed": 6}, Stop),
        (StopLoss(max_error_rate=0.0), Phase.WATCHED, {"completed": 19, "failed": 1}, Stop),
        (StopLoss(max_error_rate=0.25, canary=4), Phase.CANARY, {"completed": 2, "failed": 2, "held": 96}, Stop),
        (StopLoss(max_error_rate=0.25, canary=4), Phase.CANARY, {"failed": 2, "alive": 2, "held": 96}, GoOn),
        (TEN_FIRST, Phase.CANARY, {"completed": 9, "alive": 1, "held": 90}, GoOn),
        (TEN_FIRST, Phase.CANARY, {"completed": 10, "held": 90}, Hold),
        (TEN_FIRST, Phase.CANARY, {"completed": 10}, Release),
        (TEN_FIRST, Phase.HELD, {"completed": 10, "held": 90}, GoOn),
        (TEN_FIRST, Phase.RELEASING, {"completed": 10, "held": 90}, Release),
    ],
)
def test_what_follows(terms: StopLoss, phase: Phase, counts: dict[str, int], kind: type[Verdict]) -> None:
    assert isinstance(verdict(terms, phase, **counts), kind)


def test_a_canary_projects_the_cost_of_the_whole_and_goes_on_below_the_cap() -> None:
    capped = StopLoss(max_cost_nano_usd=NanoUsd(1_000), canary=10)

    assert verdict(TEN_FIRST, Phase.CANARY, completed=8, failed=2, held=90, spent_nano_usd=101) == Hold(NanoUsd(1_010))
    assert verdict(capped, Phase.CANARY, completed=10, held=90, spent_nano_usd=100) == Release(NanoUsd(1_000))
    assert verdict(capped, Phase.CANARY, completed=10, held=90, spent_nano_usd=101) == Hold(NanoUsd(1_010))


def test_the_reason_says_what_was_passed() -> None:
    stopped = verdict(RATE, Phase.WATCHED, completed=14, failed=6)

    assert stopped == Stop("6 of 20 requests failed, more than max_error_rate 0.25 allows.")


def test_terms_are_read_from_the_metadata() -> None:
    given = {"max_cost_usd": "0.000001", "max_error_rate": "0.05", "canary": "20", "lane": "low"}

    assert stop_loss(given) == StopLoss(max_cost_nano_usd=NanoUsd(1_000), max_error_rate=0.05, canary=20)
    assert stop_loss(given).first_phase is Phase.CANARY
    assert stop_loss({"max_error_rate": "1"}).first_phase is Phase.WATCHED
    assert stop_loss(None).first_phase is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_cost_usd", value) for value in ("0", "-1", "much", "nan", "1e30", "")),
        *(("max_error_rate", value) for value in ("-0.1", "1.1", "5%", "nan", "")),
        *(("canary", value) for value in ("0", "-5", "1.5", "50001", "٣", "")),
    ],
)
def test_a_bad_term_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        stop_loss({name: value})

    assert caught.value.param == f"metadata.{name}"


class Rows:
    """Batches over their cap, one of which cannot be stopped."""

    def __init__(self, *names: str) -> None:
        tally = Tally(total=1, completed=1, failed=0, alive=0, held=0, spent_nano_usd=NanoUsd(1_000))
        self._watched = [Watched(batch_id=BatchId(name), terms=CAP, phase=Phase.WATCHED, tally=tally) for name in names]
        self.stopped: list[str] = []

    async def watched(self) -> list[Watched]:
        return self._watched

    async def stop(self, batch_id: BatchId, reason: str) -> bool:
        if batch_id == "odd":
            raise OverflowError(reason)
        self.stopped.append(batch_id)
        return True

    async def hold(self, batch_id: BatchId, projected: NanoUsd) -> bool:
        raise NotImplementedError

    async def release(self, batch_id: BatchId, projected: NanoUsd | None) -> int:
        raise NotImplementedError


async def test_a_batch_that_cannot_be_stopped_keeps_no_other_from_its_stop_loss() -> None:
    rows = Rows("odd", "fine")

    assert await StopLosses(rows).look() == 1

    assert rows.stopped == ["fine"]
