"""The scope that a ledger entry counts against, as SQL.

An attempt keeps the names that its counters had when it was opened. Versions before 0014 named users and prompts
without their tenant, and one of them may run beside this one; the entry knows the tenant. A bare name is told by
comparison with the entry's own, so a name of any shape is taken for what it is.
"""

SCOPE_OF_TENANT = """CASE c.item ->> 0
    WHEN 'user:' || l.end_user THEN 'user:' || l.tenant_id || '/' || l.end_user
    WHEN 'prompt:' || l.prompt THEN 'prompt:' || l.tenant_id || '/' || l.prompt
    ELSE c.item ->> 0 END"""
"""Of `ledger l` beside `json_array_elements(attempts.counters) AS c (item)`."""
