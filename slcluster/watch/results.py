"""Which results may be looked at. Pages name them by their id: nothing else of the file system is ever read."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slcluster.archive import how_far
from slcluster.errors import SlclusterError, StorePathError
from slcluster.store.metadata import root_attrs
from slcluster.store.result import BlockReader
from slcluster.watch.follower import Follower

__all__ = ["Results", "stored"]

#: Results followed at a time; one that nobody looked at for longest is forgotten first.
_KEPT = 8

#: Where each result is, by its id. The newest last.
Announced = Callable[[], Mapping[str, str]]


def stored(paths: Callable[[], list[Path]]) -> Announced:
    """Stores on this machine as results that may be looked at."""

    def announced() -> dict[str, str]:
        found = {}
        for path in paths():
            if isinstance(store_id := root_attrs(path).get("store_id"), str):
                found[store_id] = str(path.resolve())
        return found

    return announced


class Results:
    """The results of one dashboard or server.

    Parameters
    ----------
    announced : callable
        Asked again every time: results come and go.
    """

    def __init__(self, announced: Announced) -> None:
        self._announced = announced
        self._kept: OrderedDict[str, Follower] = OrderedDict()
        self._finished: dict[str, dict[str, Any]] = {}

    def listing(self) -> list[dict[str, Any]]:
        """A line about each result, the newest first: JSON-able. No block is read."""
        return [self._line(key, Path(path)) for key, path in reversed([*self._announced().items()])]

    def _line(self, key: str, path: Path) -> dict[str, Any]:
        if key in self._finished:
            return self._finished[key]
        line = _line(key, path)
        if line.get("state") == "finished":
            self._finished[key] = line
        return line

    def follow(self, key: str) -> Follower:
        """The follower of a result.

        Raises
        ------
        StorePathError
            No such result was announced, or it is not where it was.
        StoreError
            It is damaged.
        """
        path = self._announced().get(key)
        if path is None:
            raise StorePathError("no result of this name is computed here; go back to the list of results")
        found = self._kept.get(key)
        if found is None or root_attrs(Path(path)).get("store_id") != key:
            self._kept.pop(key, None)
            found = self._kept[key] = _followed(key, Path(path))
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found


def _followed(key: str, path: Path) -> Follower:
    if not os.path.isdir(path):
        raise StorePathError(
            f"{path} is not seen from here; where it is seen, look at it with: slcluster watch {path}"
        )
    found = Follower(path)
    if found.store_id != key:
        raise StorePathError(f"{path} holds another result by now; go back to the list of results")
    return found


def _line(key: str, path: Path) -> dict[str, Any]:
    line: dict[str, Any] = {"id": key, "path": str(path)}
    attrs = root_attrs(path)
    if attrs.get("store_id") != key:
        return {**line, "subject": path.name, "problem": "not seen from here, or replaced"}
    try:
        blocks = BlockReader(path)
        done = np.zeros(blocks.n_blocks, bool)
        done[blocks.seen()] = True
        status = how_far(path, attrs, done)
    except (SlclusterError, OSError, KeyError, ValueError) as error:
        return {**line, "subject": path.name, "problem": f"damaged: {type(error).__name__}"}
    return {
        **line,
        **{name: getattr(status, name) for name in ("subject", "state", "n_done", "n_blocks")},
        "n_failed": len(status.failures),
    }
