"""Shards that zarr-python reads as what was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from zarr.codecs import BloscCodec, Crc32cCodec

from slcluster.store.shard import iter_bricks, write_shard

DTYPES = ["i1", "u1", "i2", "u2", "i4", "i8", "u8", "f4", "f8"]


def _through_zarr(
    folder: Path, values: np.ndarray, brick: tuple[int, ...], shard: tuple[int, ...]
) -> np.ndarray:
    """Write one shard with ours into an array that zarr made, and read it with zarr."""
    array = zarr.create_array(
        folder,
        shape=values.shape,
        dtype=values.dtype,
        chunks=brick,
        shards=shard,
        compressors=[
            BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=values.dtype.itemsize),
            Crc32cCodec(),
        ],
        fill_value=0,
        overwrite=True,
    )
    counts = tuple(s // b for s, b in zip(shard, brick, strict=True))
    write_shard(folder / "c" / "0" / "0" / "0" / "0", values, brick, counts)  # type: ignore[arg-type]
    return np.asarray(array[...])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_zarr_reads_what_was_written(tmp_path: Path, dtype: str, order: str) -> None:
    values = np.random.default_rng(0).normal(0, 50, (17, 9, 5, 11)).astype(dtype, order=order)  # type: ignore[call-overload]
    read = _through_zarr(tmp_path / "a", values, (8, 8, 5, 12), (24, 16, 5, 12))
    np.testing.assert_array_equal(read, values)


@settings(max_examples=40, deadline=None)
@given(
    values=hnp.arrays(
        st.sampled_from(["i2", "f4"]),
        hnp.array_shapes(min_dims=4, max_dims=4, max_side=10),
        elements=st.integers(-5, 5),
        fill=st.just(0),
    ),
    brick=st.tuples(*[st.integers(1, 4)] * 3),
)
def test_any_shape_any_brick(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, brick: tuple[int, ...]
) -> None:
    whole = (*brick, values.shape[3])
    shard = tuple(-(-size // b) * b for size, b in zip(values.shape, whole, strict=True))
    read = _through_zarr(tmp_path_factory.mktemp("shard") / "a", values, whole, shard)
    assert read.tobytes() == values.tobytes()


def test_special_numbers_survive(tmp_path: Path) -> None:
    values = np.zeros((8, 8, 8, 3))
    values[0, 0, 0] = [np.nan, -np.inf, -0.0]
    values[7, 7, 7] = [5e-324, -0.0, 1.7e308]
    assert _through_zarr(tmp_path / "a", values, (4, 4, 4, 3), (8, 8, 8, 3)).tobytes() == values.tobytes()


def test_bricks_of_zeros_take_no_room(tmp_path: Path) -> None:
    values = np.zeros((8, 8, 8, 3), "f4")
    values[1, 2, 3, 1] = -0.0
    path = tmp_path / "shard"
    write_shard(path, values, (4, 4, 4, 3), (2, 2, 2, 1))
    index = np.frombuffer(path.read_bytes()[-(8 * 16 + 4) : -4], "<u8").reshape(8, 2)
    assert (index[1:] == 2**64 - 1).all()
    assert index[0, 0] == 0


def test_bricks_beyond_the_end_are_padded_with_zeros_not_leftovers() -> None:
    values = np.arange(1, 1 + 5 * 3 * 3 * 2, dtype="i2").reshape(5, 3, 3, 2)
    bricks = {place: brick.copy() for place, brick in iter_bricks(values, (4, 2, 2, 3))}
    assert set(bricks) == {(i, j, k, 0) for i in range(2) for j in range(2) for k in range(2)}
    last = np.zeros((4, 2, 2, 3), "i2")
    last[:1, :1, :1, :2] = values[4:, 2:, 2:]
    np.testing.assert_array_equal(bricks[1, 1, 1, 0], last)
