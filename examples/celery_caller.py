"""Submits a job by task name and waits for another's answer. Needs celery and the broker's address, nothing of ours."""

import os

from celery import Celery

broker = os.environ["PENSTOCK_REDIS_URL"]
app = Celery(broker=broker, backend=broker)
app.conf.update(task_serializer="json", accept_content=["json"], result_serializer="json")

body = {"model": "small", "messages": [{"role": "user", "content": "What is a penstock, in one sentence?"}]}
job = app.send_task("completions.submit", args=[body], queue="completions.normal")
print("accepted as", job.get(timeout=30))
answer = app.send_task("completions.complete", args=[body], queue="completions.high")
print(answer.get(timeout=120))
