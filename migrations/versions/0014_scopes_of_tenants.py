"""Budget scopes of users and prompts that name their tenant: `user:TENANT/NAME`, `prompt:TENANT/NAME`.

Sums that are sealed under a bare name mix tenants and cannot be taken apart, so the ledger is added up anew, into
tables of this version's own. The version before goes on with its own sums and its own mark beside it: what it seals
while both run is read from the ledger here, whose rows know the tenant. Attempts keep the names that they were opened
under. A scope that is too long for an index is keyed by its digest, and its text stands beside it.
"""

from alembic import op

revision = "0014"
down_revision = "0013"

TABLES = """
CREATE TABLE tenant_sealed_sums (
    time_window text NOT NULL,
    scope text NOT NULL,
    long_scope text,
    nano_usd bigint NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (time_window, scope)
);

CREATE TABLE tenant_ledger_seal (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    sealed_to bigint NOT NULL,
    marked_to bigint NOT NULL,
    marked_before xid8 NOT NULL,
    counters_carried boolean NOT NULL
);
INSERT INTO tenant_ledger_seal (sealed_to, marked_to, marked_before, counters_carried)
SELECT 0, 0, '0', NOT EXISTS (SELECT 1 FROM attempts);
"""

THRESHOLDS = """
WITH passed AS (
    SELECT * FROM budget_thresholds
    WHERE (scope LIKE 'user:%' OR scope LIKE 'prompt:%') AND passed_at > statement_timestamp() - interval '32 days'
), spent AS (
    SELECT DISTINCT tenant_id, end_user, prompt FROM ledger
    WHERE at > statement_timestamp() - interval '32 days' AND EXISTS (SELECT 1 FROM passed)
), owners AS (
    SELECT 'user:' || end_user AS scope, min('user:' || tenant_id || '/' || end_user) AS owned
    FROM spent WHERE end_user IS NOT NULL GROUP BY end_user HAVING count(DISTINCT tenant_id) = 1
    UNION ALL
    SELECT 'prompt:' || prompt, min('prompt:' || tenant_id || '/' || prompt)
    FROM spent WHERE prompt IS NOT NULL GROUP BY prompt HAVING count(DISTINCT tenant_id) = 1
)
INSERT INTO budget_thresholds (scope, time_window, limit_nano_usd, percent, settled_nano_usd, full_at, passed_at,
    delivered_at)
SELECT o.owned, p.time_window, p.limit_nano_usd, p.percent, p.settled_nano_usd, p.full_at, p.passed_at,
    statement_timestamp()
FROM passed p JOIN owners o USING (scope)
ON CONFLICT (scope, time_window, limit_nano_usd, percent) DO NOTHING
"""
"""A threshold of a name that one tenant alone has is that tenant's, and was told under the bare name. A name of
several is told anew: whose money it was is not known."""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(THRESHOLDS)
