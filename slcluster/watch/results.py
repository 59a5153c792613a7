"""Which results may be looked at. Pages name them by their id: nothing else of the file system is ever read."""

from __future__ import annotations

import os
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slcluster.archive import how_far
from slcluster.errors import SlclusterError, StorePathError
from slcluster.store.metadata import root_attrs
from slcluster.store.result import BlockReader
from slcluster.watch.follower import Follower

__all__ = ["Place", "Results", "stored"]

#: Results followed at a time; one that nobody looked at for longest is forgotten first.
_KEPT = 8


class Place(NamedTuple):
    """Where a result is, and the id of the store that is expected there."""

    path: Path
    store_id: str


#: Results by what pages call them: 32 hexadecimal digits. The newest last.
Announced = Callable[[], Mapping[str, Place]]


def stored(paths: Callable[[], list[Path]]) -> Announced:
    """Stores on this machine as results that may be looked at."""

    def announced() -> dict[str, Place]:
        found = {}
        for path in map(Path.resolve, paths()):
            if isinstance(store_id := root_attrs(path).get("store_id"), str):
                # A copy of a store has its id.
                found[uuid.uuid5(uuid.NAMESPACE_URL, f"{store_id} {path}").hex] = Place(path, store_id)
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
        return [self._line(key, place) for key, place in reversed([*self._announced().items()])]

    def _line(self, key: str, place: Place) -> dict[str, Any]:
        if key in self._finished:
            return self._finished[key]
        line = {"id": key, "path": str(place.path), **_line(place)}
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
        place = self._announced().get(key)
        if place is None:
            raise StorePathError("no result of this name is computed here; go back to the list of results")
        found = self._kept.get(key)
        if found is None or root_attrs(place.path).get("store_id") != place.store_id:
            self._kept.pop(key, None)
            found = self._kept[key] = _followed(*place)
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found


def _followed(path: Path, store_id: str) -> Follower:
    if not os.path.isdir(path):
        raise StorePathError(
            f"{path} is not seen from here; where it is seen, look at it with: slcluster watch {path}"
        )
    found = Follower(path)
    if found.store_id != store_id:
        raise StorePathError(f"{path} holds another result by now; go back to the list of results")
    return found


def _line(place: Place) -> dict[str, Any]:
    path, attrs = place.path, root_attrs(place.path)
    if attrs.get("store_id") != place.store_id:
        return {"subject": path.name, "problem": "not seen from here, or replaced"}
    try:
        blocks = BlockReader(path)
        done = np.zeros(blocks.n_blocks, bool)
        done[blocks.seen()] = True
        status = how_far(path, attrs, done)
    except (SlclusterError, OSError, KeyError, ValueError) as error:
        return {"subject": path.name, "problem": f"damaged: {type(error).__name__}"}
    told = {name: getattr(status, name) for name in ("subject", "state", "n_done", "n_blocks")}
    return {**told, "n_failed": len(status.failures)}
