"""The live map on a Dask dashboard, by distributed's own extension point.

The clusters that slcluster starts have it. A scheduler of your own gets it where this is set as it starts::

    export DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES='["distributed.http.scheduler.prometheus",
      "distributed.http.scheduler.info", "distributed.http.scheduler.json", "distributed.http.health",
      "distributed.http.proxy", "distributed.http.statics", "slcluster.watch.routes"]'

Then ``/slcluster/`` beside ``/status`` shows every result that is computed on it and that it sees.
"""

from __future__ import annotations

from typing import Any

from slcluster.watch.handlers import ROUTES

__all__ = ["routes"]

#: What distributed asks for: paths, handlers and their arguments.
routes: list[tuple[str, Any, dict[str, Any]]] = [(path, handler, {}) for path, handler in ROUTES]
