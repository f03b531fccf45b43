"""Computes the scope of a ledger entry's counter in SQL.

Versions before 0014 named users and prompts without their tenant, and may run beside this one. Comparison with the
entry's own name recognizes those.
"""

SCOPE_OF_TENANT = """CASE c.item ->> 0
    WHEN 'user:' || l.end_user THEN 'user:' || l.tenant_id || '/' || l.end_user
    WHEN 'prompt:' || l.prompt THEN 'prompt:' || l.tenant_id || '/' || l.prompt
    ELSE c.item ->> 0 END"""
"""For `ledger l` joined with `json_array_elements(attempts.counters) AS c (item)`."""
