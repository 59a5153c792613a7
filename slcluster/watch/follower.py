"""One result store, followed while it is computed: what is done is read once, and handed on in increments."""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from slcluster.archive import how_far, stored_layout
from slcluster.errors import SlclusterError
from slcluster.io.grid import nearest_axes
from slcluster.maps import chance_of, map_names, over_folds
from slcluster.store import open_store
from slcluster.store.notes import NoteReader
from slcluster.store.result import BlockReader, read_constants, read_result_attrs

__all__ = ["Follower"]

#: A store is looked at this often, however many pages ask.
_EVERY_S = 0.9

#: Blocks read at a time, so that a page fills in while a large result is read for the first time.
_AT_ONCE = 1000

#: Maps kept in memory. Of a result with more, another one is read again when somebody asks for it.
_KEPT_MAPS = 16

#: Failures that a page spells out.
_TOLD = 20

#: Part of the mean image's voxels that are darker than black, and brighter than white.
_CLIPPED = (1.0, 99.5)


class Follower:
    """Follow a result store.

    Parameters
    ----------
    path : Path
        A result store.

    Attributes
    ----------
    store_id : str
        Of the store. Another one under the same path has another.
    epoch : str
        Of this follower: increments count from its first block, in the order that it read them.

    Raises
    ------
    StoreError
        No result there, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.epoch = uuid.uuid4().hex
        self._attrs = read_result_attrs(path)
        self.store_id: str = self._attrs["store_id"]
        arrays = read_constants(path)
        self._centers: np.ndarray = arrays["center_ijk"]
        self._grid = {name: arrays[name] for name in ("grid_affine", "x", "y", "z")}
        self._shape: tuple[int, ...] = arrays["mask"].shape
        self._layout = stored_layout(self._attrs)
        self._names = map_names(self._layout)
        self._blocks = BlockReader(path)
        self._order: list[int] = []
        self._tries = np.zeros(self._blocks.n_blocks, np.int32)  # -1 once read
        self._maps: OrderedDict[int, np.ndarray] = OrderedDict()
        self._hold(range(min(len(self._names), _KEPT_MAPS)))
        self._notes = NoteReader(path)
        self._workers: list[tuple[str, str]] = []
        self._made_by = np.full(self._blocks.n_blocks, -1, np.int32)
        self._ended = np.zeros(self._blocks.n_blocks)
        self._looked = -np.inf
        self._is_behind = True

    @property
    def n_maps(self) -> int:
        """How many values each center has: a map each."""
        return len(self._names)

    @property
    def about(self) -> dict[str, Any]:
        """What does not change: JSON-able."""
        attrs = self._attrs
        return {
            "path": str(self.path),
            **{name: attrs[name] for name in ("subject", "estimator", "engine", "n_folds")},
            "sphere": {name: attrs[name] for name in ("radius_mm", "n_voxels") if name in attrs},
            "is_measure": bool(attrs["is_measure"]),
            "shape": list(self._shape),
            "affine": self._grid["grid_affine"].tolist(),
            "voxels": [self._grid[name].tolist() for name in "xyz"],
            "axes": nearest_axes(self._grid["grid_affine"]),
            "start": self._start(),
            "n_centers": len(self._centers),
            "block_centers": self._blocks.block_centers,
            "maps": [{"name": name, "chance": chance_of(attrs, name)} for name in self._names],
        }

    def centers(self) -> bytes:
        """Positions of the centers in the volume, x fastest: uint32, in the order of blocks."""
        nx, ny, _ = self._shape
        i, j, k = self._centers.astype(np.uint32).T
        return (i + nx * (j + ny * k)).astype("<u4").tobytes()

    def mean(self) -> bytes:
        """The mean image as brightness, x fastest: uint8. Empty where the subject store has gone or changed."""
        try:
            ds = open_store(self._attrs["source_path"])
            if ds.encoding["digest"] != self._attrs["source_digest"]:
                return b""
            values = ds["mean"].sel({name: self._grid[name] for name in "xyz"}).values
        except (SlclusterError, OSError, KeyError, TypeError):
            return b""
        head = values[np.isfinite(values) & (values != 0)]
        low, high = np.percentile(head, _CLIPPED) if head.size else (0.0, 1.0)
        gray = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-30), 0, 1)
        return np.rint(gray * 255).astype(np.uint8).tobytes(order="F")

    def refresh(self) -> None:
        """Look at the store, unless that was done a moment ago: read what is new."""
        now = time.monotonic()
        if now - self._looked < _EVERY_S and not self._is_behind:
            return
        self._looked = now
        self._is_behind = False
        if len(self._order) < self._blocks.n_blocks:
            self._read_blocks()
        for note in self._notes.fresh():
            self._take_note(note.number, (note.worker, note.host), note.ended)

    def state(self) -> dict[str, Any]:
        """How far the result is: JSON-able. :meth:`refresh` first."""
        status = how_far(self.path, self._attrs, self._tries < 0)
        return {
            "epoch": self.epoch,
            "version": len(self._order),
            "is_behind": self._is_behind,
            "state": status.state,
            **{name: getattr(status, name) for name in ("n_blocks", "n_done", "holder", "is_silent")},
            # Not of blocks that are still to be read.
            "seconds_running": status.seconds_running,
            "seconds_silent": status.seconds_silent,
            "blocks_per_s": None if self._is_behind else status.blocks_per_s,
            "seconds_left": None if self._is_behind else status.seconds_left,
            "failures": [asdict(failure) for failure in status.failures[:_TOLD]],
            "n_failed": len(status.failures),
            **self._by_worker(),
        }

    def values(self, number: int, since: int) -> tuple[np.ndarray, np.ndarray]:
        """One map's values in the blocks that were read after the first ``since``.

        Parameters
        ----------
        number : int
            Of the map, as ``about`` lists them.
        since : int
            A ``version`` of :meth:`state`.

        Returns
        -------
        blocks : uint32 array (n,)
            In the order they were read.
        values : float32 array
            Of the centers of these blocks, one block behind the other. The last block may be short.
        """
        if number not in self._maps:
            self._hold([number])
        self._maps.move_to_end(number)
        fresh = self._order[since:]
        whole = self._maps[number]
        parts = [whole[self._centers_of(block)] for block in fresh]
        return np.array(fresh, "<u4"), np.concatenate(parts) if parts else np.zeros(0, "<f4")

    def _start(self) -> list[int]:
        """A center near the middle of all: where to look first."""
        middle = np.median(self._centers, axis=0)
        nearest: list[int] = self._centers[np.abs(self._centers - middle).sum(axis=1).argmin()].tolist()
        return nearest

    def _centers_of(self, block: int) -> slice:
        size = self._blocks.block_centers
        return slice(block * size, min((block + 1) * size, len(self._centers)))

    def _hold(self, numbers: Any) -> None:
        """Keep these maps from now on, and what is done of them."""
        fresh = {number: np.full(len(self._centers), np.nan, "<f4") for number in numbers}
        for block in self._order:
            self._fill(block, fresh)
        self._maps.update(fresh)
        while len(self._maps) > _KEPT_MAPS:
            self._maps.popitem(last=False)

    def _read_blocks(self) -> None:
        fresh = np.array([number for number in self._blocks.seen() if self._tries[number] >= 0], np.int64)
        # Blocks that could not be read (half written, damaged) come after those not tried yet.
        fresh = fresh[np.argsort(self._tries[fresh], kind="stable")]
        for number in fresh[:_AT_ONCE].tolist():
            if self._fill(number, self._maps):
                self._tries[number] = -1
                self._order.append(number)
            else:
                self._tries[number] += 1
        self._is_behind = bool((self._tries[fresh[_AT_ONCE:]] == 0).any())

    def _fill(self, block: int, maps: dict[int, np.ndarray]) -> bool:
        """Read a block into maps; whether it was there and sound."""
        found = self._blocks.read(block)
        if found is None:
            return False
        place = self._centers_of(block)
        values = over_folds(found["score"][: place.stop - place.start], self._layout)
        for number, whole in maps.items():
            whole[place] = values[:, number]
        return True

    def _take_note(self, block: int, worker: tuple[str, str], ended: float) -> None:
        if 0 <= block < len(self._made_by):
            if worker not in self._workers:
                self._workers.append(worker)
            self._made_by[block] = self._workers.index(worker)
            self._ended[block] = ended

    def _by_worker(self) -> dict[str, Any]:
        """Blocks done by each worker. Of those that were read alone, so that the sum is what is done."""
        is_read = self._tries < 0
        rows: list[dict[str, Any]] = []
        for number, (worker, host) in enumerate(self._workers):
            own = is_read & (self._made_by == number)
            last = float(self._ended[own].max()) if own.any() else None
            rows.append({"worker": worker, "host": host, "n_done": int(own.sum()), "last": last})
        rows.sort(key=lambda row: (-row["n_done"], row["worker"]))
        return {"workers": rows, "n_unnoted": int((is_read & (self._made_by < 0)).sum())}
