"""Where the concrete classes meet: each process opens its house here, and nobody else knows who is behind a protocol.

rooms    what every process has open          work     the deps of `run_job`, and the house of a Celery worker
web      the house of the HTTP door           upkeep   the house of the periodic duties
"""
