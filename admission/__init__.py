"""Redis: the gate, the bucket and the ledger's balances. The only home of redis."""
