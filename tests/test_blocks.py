from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slcluster.blocks import block_window, centers_in, grid_chunks, n_blocks, order_centers, window_shape


def _centers(shape: tuple[int, int, int], density: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centers = np.argwhere(rng.random(shape) <= density)
    return centers if len(centers) else np.array([[0, 0, 0]])


GRIDS = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))


@given(
    shape=GRIDS, density=st.sampled_from([0.02, 0.4, 1.0]), size=st.integers(1, 50), seed=st.integers(0, 9)
)
@settings(max_examples=80, deadline=None)
def test_the_order_is_a_permutation_that_does_not_depend_on_how_centers_came(
    shape: tuple[int, int, int], density: float, size: int, seed: int
) -> None:
    centers = _centers(shape, density, seed)
    order = order_centers(centers, size)
    assert sorted(order) == list(range(len(centers)))
    shuffled = np.random.default_rng(seed).permutation(len(centers))
    again = centers[shuffled][order_centers(centers[shuffled], size)]
    assert np.array_equal(again, centers[order])


def test_blocks_are_full_but_the_last_and_compact() -> None:
    """Compared with cutting the centers as they come: the windows read with a halo are much smaller."""
    shape, size, halo = (21, 26, 17), 200, (2, 2, 2)
    grid = np.argwhere(np.ones(shape, bool))
    brain = grid[(((grid - [10, 12.5, 8]) / [10, 12.5, 8]) ** 2).sum(axis=1) <= 1]
    ordered = brain[order_centers(brain, size)]
    parts = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    assert len(parts) == n_blocks(len(brain), size)

    def read(blocks: list[np.ndarray]) -> int:
        return sum(int(np.prod(window_shape(block_window(block, halo, shape)))) for block in blocks)

    as_they_come = [brain[i : i + size] for i in range(0, len(brain), size)]
    assert read(parts) < 0.6 * read(as_they_come)
    boxes = [np.ptp(block, axis=0) + 1 for block in parts]
    assert max(box.max() / box.min() for box in boxes) < 4
    assert np.median([box.prod() for box in boxes]) < 2 * size


@pytest.mark.parametrize("size", [1, 7, 8, 63])
def test_no_voxel_of_a_line_is_far_from_its_block(size: int) -> None:
    """Centers along one axis fall into consecutive stretches, also where the last block is short."""
    line = np.zeros((40, 3), int)
    line[:, 1] = np.arange(40)[::-1]
    ordered = line[order_centers(line, size)]
    for i in range(0, 40, size):
        assert np.ptp(ordered[i : i + size, 1]) == min(size, 40 - i) - 1


def test_windows_are_cut_at_the_grid() -> None:
    window = block_window(np.array([[0, 3, 8], [1, 4, 8]]), (1, 2, 5), (7, 8, 9))
    assert window == (slice(0, 3), slice(1, 7), slice(3, 9))
    assert window_shape(window) == (3, 6, 6)


@given(
    shape=GRIDS,
    density=st.sampled_from([0.02, 0.4, 1.0]),
    size=st.integers(1, 2000),
    least=st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)),
    seed=st.integers(0, 9),
)
@settings(max_examples=120, deadline=None)
def test_grid_chunks_cover_the_grid_and_are_never_thinner_than_their_overlap(
    shape: tuple[int, int, int], density: float, size: int, least: tuple[int, int, int], seed: int
) -> None:
    chunks = grid_chunks(shape, _centers(shape, density, seed), size, at_least=least)
    assert tuple(map(sum, chunks)) == shape
    for axis, wanted, whole in zip(chunks, least, shape, strict=True):
        assert min(axis) >= min(max(1, wanted), whole)
        assert max(axis) - min(axis) <= 1, "chunks of one axis are evened out"


def test_grid_chunks_follow_the_density_of_centers() -> None:
    shape = (40, 64, 64)
    full = np.argwhere(np.ones(shape, bool))
    few = full[:: len(full) // 100]
    for centers, size in ((full, 4096), (few, 4), (full[full[:, 2] == 30], 64)):
        n_cells = np.prod([len(axis) for axis in grid_chunks(shape, centers, size)])
        assert n_cells <= 40 * len(centers) / size
        assert n_cells >= 0.3 * len(centers) / size


def test_centers_of_a_window_are_positions_on_the_whole_grid() -> None:
    mask = np.random.default_rng(0).random((5, 6, 7)) > 0.5
    window = (slice(1, 4), slice(2, 3), slice(0, 7))
    found = centers_in(mask, window)
    assert mask[tuple(found.T)].all()
    assert len(found) == mask[window].sum()
    assert (found.min(axis=0) >= [1, 2, 0]).all()
    assert (found.max(axis=0) < [4, 3, 7]).all()
