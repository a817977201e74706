"""The job as a task of Celery, with a broker in a folder."""

from __future__ import annotations

import os

import jobs  # type: ignore[import-not-found]  # beside this file
from celery import Celery

QUEUE = os.environ["QUEUE"]

app = Celery(broker="filesystem://")
app.conf.update(
    broker_transport_options={"data_folder_in": QUEUE, "data_folder_out": QUEUE, "control_folder": f"{QUEUE}/control"},
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_lost_wait=0.1,  # else a lost worker counts as lost after ten seconds
)


@app.task(name="charge")
def charge(order: str) -> None:
    jobs.charge(order)
