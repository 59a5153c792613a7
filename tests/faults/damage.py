"""Bits flipped and files cut at random places of stores: noticed, or what is decoded is the same."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

import slcluster as slc
from slcluster.errors import StoreError
from slcluster.store import open_store, read_window, subject_digest
from slcluster.store.result import FINISHED_NAME, read_result

__all__ = ["DAMAGES", "PLACES", "damage"]

_WHOLE = (slice(None),) * 3
_METADATA = ("zarr.json", "digest.json", FINISHED_NAME)


def _flip(raw: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(raw))
    return raw[:place] + bytes([raw[place] ^ 1 << chance.randrange(8)]) + raw[place + 1 :]


def _cut(raw: bytes, chance: random.Random) -> bytes:
    return raw[: chance.randrange(len(raw))]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {"bit flips": _flip, "truncations": _cut}


def _files(store: Path) -> list[Path]:
    return sorted(file for file in store.rglob("*") if file.is_file())


def _input_shards(subject: Path, result: Path) -> list[Path]:
    return _files(subject / "bold" / "c")


def _result_chunks(subject: Path, result: Path) -> list[Path]:
    return [file for file in _files(result) if file.name not in _METADATA]


def _metadata(subject: Path, result: Path) -> list[Path]:
    return [file for file in _files(subject) + _files(result) if file.name in _METADATA]


PLACES: dict[str, Callable[[Path, Path], list[Path]]] = {
    "input shards": _input_shards,
    "result chunks": _result_chunks,
    "metadata": _metadata,
}


def damage(place: str, how: str, n: int, subject: Path, result: Path) -> Counter[str]:
    """Damage one file after the other, and count what came of it: ``noticed``, ``identical``, ``missed``.

    Parameters
    ----------
    place, how : str
        Of :data:`PLACES` and :data:`DAMAGES`.
    n : int
        How often.
    subject, result : Path
        Finished stores. Each file is as it was afterwards.

    Returns
    -------
    Counter
        Also ``unseen by fsck``: of those noticed, how many fsck called sound.
    """
    chance, files = random.Random(f"{place} {how}"), PLACES[place](subject, result)
    clean, told = (_decode(subject, result), Counter[str]())
    for _ in range(n):
        file = chance.choice(files)
        raw, about = file.read_bytes(), file.stat()
        file.write_bytes(DAMAGES[how](raw, chance))
        try:
            is_same = _same(_decode(subject, result), clean)
            told["identical" if is_same else "missed"] += 1
        except StoreError:
            told["noticed"] += 1
            store = subject if file.is_relative_to(subject) else result
            told["unseen by fsck"] += slc.fsck(store).is_sound
        finally:
            file.write_bytes(raw)
            # Stores are told from those written again by these, and are opened once a process.
            os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert _same(_decode(subject, result), clean), "every file is as it was"
    return told


def _decode(subject: Path, result: Path) -> tuple[xr.Dataset, np.ndarray, xr.Dataset]:
    """Everything that an analysis reads of a subject, and a user of a result."""
    ds = open_store(subject).drop_vars("bold")
    bold = read_window(subject, _WHOLE, digest=subject_digest(subject))
    arrays, done = read_result(result)
    if not done.all():
        raise StoreError("blocks that are not done")
    return ds, bold, slc.open_result(result).assign_attrs(n_arrays=len(arrays))


def _same(
    one: tuple[xr.Dataset, np.ndarray, xr.Dataset], other: tuple[xr.Dataset, np.ndarray, xr.Dataset]
) -> bool:
    return bool(
        one[0].identical(other[0]) and one[1].tobytes() == other[1].tobytes() and one[2].identical(other[2])
    )
