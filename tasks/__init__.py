"""WORK: what happens to a job. Sees the rooms below only through the protocols of `tasks.execution.deps`."""
