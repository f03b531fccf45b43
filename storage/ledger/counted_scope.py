"""Computes the scope of a ledger entry's counter, in SQL.

An attempt keeps the names that its counters had when it was opened. Versions before 0014, which may run beside this
one, named users and prompts without their tenant; the entry knows it. A bare name is recognized by comparison with the
entry's own name, so that names of any form are read right.
"""

SCOPE_OF_TENANT = """CASE c.item ->> 0
    WHEN 'user:' || l.end_user THEN 'user:' || l.tenant_id || '/' || l.end_user
    WHEN 'prompt:' || l.prompt THEN 'prompt:' || l.tenant_id || '/' || l.prompt
    ELSE c.item ->> 0 END"""
"""For `ledger l` joined with `json_array_elements(attempts.counters) AS c (item)`."""
