"""A wrong penstock.toml refuses to start and says where."""

from pathlib import Path

import pytest

from config.catalogue import Catalogue, CatalogueError, load_catalogue

CHECKOUT = Path(__file__).resolve().parents[3]


def written(folder: Path, text: str) -> Path:
    path = folder / "penstock.toml"
    path.write_text(text)
    return path


def test_without_a_file_the_default_serves(tmp_path: Path) -> None:
    assert load_catalogue(tmp_path / "none.toml").aliases["small"]


RULE = '[[rules]]\nname = "r"\nfrom = "09:00"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[models."x"]\nprovder = "openai"\n', ":2: models.x.provder"),
        ('[models."x"]\nrequests_per_minute = "many"\n', ":2: models.x.requests_per_minute"),
        ('[models."x"]\nprovider = "nobody"\n', "nobody"),
        ('[aliases]\nsmall = ["gone"]\n', "gone"),
        ("[[budgets]]\nlimit_usd = -1\n", ":2: budgets.0.limit_usd"),
        ('[[budgets]]\nlimit_usd = 1\nwindow = "week"\n', ":3: budgets.0.window"),
        (
            '[[budgets]]\nlimit_usd = 1\n[[budgets]]\nlimit_usd = 2\ntimezone = "Mars/Olympus"\n',
            ":5: budgets.1.timezone",
        ),
        ('[[budgets]]\nlimit_usd = 1\nscope = "planet"\n', ":3: budgets.0.scope.*planet"),
        ("[[budgets]]\nlimit_usd = 10000000\n", ":2: budgets.0.limit_usd"),
        ('[[budgets]]\nlimit_usd = 1\non_exhausted = ["beg"]\n', ":3: budgets.0.on_exhausted"),
        ('[[budgets]]\nlimit_usd = 1\npacing = "odd"\n', ":3: budgets.0.pacing"),
        ('[[budgets]]\nlimit_usd = 1\npacing = "even"\npacing_ahead = 0\n', ":4: budgets.0.pacing_ahead"),
        ('[[budgets]]\nlimit_usd = 1\npacing = "even"\npacing_ahead = 1.5\n', ":4: budgets.0.pacing_ahead"),
        ("[[budgets]]\nlimit_usd = 1\npacing_ahead = 0.2\n", ":3: budgets.0.pacing_ahead.*without pacing"),
        ("[[budgets]]\nlimit_usd = 1\n" * 2, ":1: budgets: 'global' has 2 budgets"),
        ('[models."x"]\nprice = { input = 0, output = 1 }\n', ":2: models.x.price.input"),
        ('[models."x"]\n\n[models."x".price]\ninput = 1\noutput = 0.0\n', ":5: models.x.price.output"),
        (RULE + 'to = "09:00"\nusd_per_hour = 1\n', ":4: rules.0.to.*same time"),
        (RULE + 'to = "24:00"\nusd_per_hour = 1\n', ":4: rules.0.to"),
        (RULE + 'to = "10:00"\nusd_per_hour = -1\n', ":5: rules.0.usd_per_hour"),
        (RULE + 'to = "10:00"\nusd_per_hour = 1\ntimezone = "Mars"\n', ":6: rules.0.timezone.*Mars"),
        (RULE + 'to = "10:00"\nusd_per_hour = 1\nlanes = ["express"]\n', ":6: rules.0.lanes"),
        (RULE + 'to = "10:00"\nusd_per_hour = 1\nmodels = ["gone"]\n', "rules.*gone"),
        (RULE + 'to = "10:00"\nusd_per_hour = 1\ndays = ["someday"]\n', ":6: rules.0.days"),
        ((RULE + 'to = "10:00"\nusd_per_hour = 1\n') * 2, "2 rules of the name 'r'"),
        ('[webhooks]\nurl = "ftp://x"\n', ":2: webhooks.url"),
        ("[lanes.express]\nshare = 1.0\n", "express"),
        ("[tenants.acme]\ncalls = 1\n", ":2: tenants.acme.calls"),
        ("[tenants.acme]\nopen_jobs = 0\n", ":2: tenants.acme.open_jobs"),
        ('[tenants.acme]\nopen_jobs = "many"\n', ":2: tenants.acme.open_jobs"),
        ('[tenants.acme]\nlanes = ["express"]\n', ":2: tenants.acme.lanes"),
        ("[tenants.acme]\nlanes = []\n", ":2: tenants.acme.lanes"),
        ('[tenants."a b"]\nopen_jobs = 1\n', "tenants.a b"),
        ("= broken", "line 1"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(CatalogueError, match=says):
        load_catalogue(written(tmp_path, text))


def test_a_job_that_could_meet_nine_budgets_is_refused(tmp_path: Path) -> None:
    scopes = ("global", "tenant", "user", "batch", "prompt", "prompt:a")
    tables = [f'[[budgets]]\nlimit_usd = 1\nscope = "{scope}"\nwindow = "hour"\n' for scope in scopes]
    more = ['[[budgets]]\nlimit_usd = 1\nwindow = "day"\nscope = "' + scope + '"\n' for scope in scopes]
    load_catalogue(written(tmp_path, "".join(tables + more[:3])))

    with pytest.raises(CatalogueError, match="9 budgets"):
        load_catalogue(written(tmp_path, "".join(tables + more[:4])))


def test_the_budgets_of_one_tenants_user_count_with_those_of_his_name(tmp_path: Path) -> None:
    zones = ("UTC", "Europe/Berlin", "Asia/Kolkata")
    tables = [
        f'[[budgets]]\nlimit_usd = 1\nscope = "{scope}"\nwindow = "{window}"\ntimezone = "{zone}"\n'
        for scope, windows in {"user": ["hour"], "user:carol": ["day"], "user:acme/carol": ["month"]}.items()
        for window in windows
        for zone in zones
    ]

    with pytest.raises(CatalogueError, match="9 budgets"):
        load_catalogue(written(tmp_path, "".join(tables)))


def test_the_example_is_valid_and_says_what_holds_without_it() -> None:
    example = load_catalogue(CHECKOUT / "penstock.example.toml")

    assert example.lanes == Catalogue().lanes
    assert example.providers == Catalogue().providers
    assert example.aliases == Catalogue().aliases
    assert example.models["gpt-4.1-mini"] == Catalogue().models["gpt-4.1-mini"]
    assert [budget.scope for budget in example.budgets] == ["global"]
