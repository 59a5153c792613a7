"""The live map on a Dask dashboard, by distributed's own extension point.

The clusters that slcluster starts have it, beside ``/status`` at ``/slcluster/``. ``docs/live-map.md`` says how a
scheduler of your own gets it.
"""

from __future__ import annotations

from typing import Any

from slcluster.watch.handlers import ROUTES

__all__ = ["routes"]

#: What distributed asks for: paths, handlers and their arguments.
routes: list[tuple[str, Any, dict[str, Any]]] = [(path, handler, {}) for path, handler in ROUTES]
