from prometheus_client import generate_latest

from config.metrics import Metrics


def test_every_name_is_ours_and_registries_do_not_mix() -> None:
    first, second = Metrics(), Metrics()
    first.publishes.labels("low").inc()

    assert all(family.name.startswith("penstock_") for family in first.registry.collect())
    assert b'penstock_publishes_total{lane="low"} 1.0' in generate_latest(first.registry)
    assert b'lane="low"' not in generate_latest(second.registry)
