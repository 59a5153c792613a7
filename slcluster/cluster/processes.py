"""Worker processes on this machine that start from any script, as joblib's do."""

from __future__ import annotations

import logging
from typing import Any

import dask

from slcluster.cluster.settings import DASHBOARD, dask_settings

__all__ = ["start_processes"]


def start_processes(n_workers: int, start_timeout: str) -> Any:
    """Start workers of one thread each as commands of their own.

    ``LocalCluster`` starts them with multiprocessing, which reads the calling script a second time and so asks
    it for ``if __name__ == "__main__":``. These do not. They listen on loopback alone, share the memory of the
    machine, and end with this process, once what they are at is done.

    Parameters
    ----------
    n_workers : int
    start_timeout : str
        How long work may wait for a worker.

    Returns
    -------
    distributed.SpecCluster
    """
    from distributed import Scheduler, SpecCluster
    from distributed.deploy.subprocess import SubprocessWorker

    here = {"host": "127.0.0.1", "dashboard": False}
    options = {**here, "nthreads": 1, "memory_limit": 0, "silence_logs": logging.ERROR}
    options["death_timeout"] = start_timeout
    worker = {
        "cls": SubprocessWorker,
        "options": {"worker_class": "distributed.Worker", "worker_kwargs": options},
    }
    with dask.config.set(dask_settings(start_timeout)):
        return SpecCluster(
            workers=dict.fromkeys(range(n_workers), worker),
            scheduler={"cls": Scheduler, "options": {**here, "port": 0, "dashboard_address": DASHBOARD}},
            worker=worker,
            name="slcluster",
            silence_logs=logging.ERROR,
        )
