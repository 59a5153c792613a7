from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slcluster.errors import GeometryError
from slcluster.kernels import spheres as module
from slcluster.kernels.spheres import (
    find_spheres,
    nearest_offsets,
    sphere_halo,
    sphere_offsets,
    sphere_sizes,
)
from tests.conftest import OBLIQUE
from tests.witness import spheres_by_count, spheres_by_distance

FLIPPED = np.array([[0, 0, -2.4, 11], [1.9, 0, 0, 0.5], [0, -3.1, 0, 7], [0, 0, 0, 1.0]])
SHEARED = np.array([[0.8, 0.5, 0, -0.5], [0, 0.9, 0.3, 0.25], [0, 0, 1.1, 0], [0, 0, 0, 1.0]])
AFFINES = {"oblique": OBLIQUE, "flipped": FLIPPED, "sheared": SHEARED}
SHAPES = [(7, 8, 9), (1, 9, 4), (6, 1, 1), (5, 3, 8)]


@given(
    name=st.sampled_from(sorted(AFFINES)),
    shape=st.sampled_from(SHAPES),
    reach=st.floats(0.3, 3.5),
    density=st.sampled_from([0.2, 0.7, 1.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_spheres_are_what_distances_in_mm_say(
    name: str, shape: tuple[int, int, int], reach: float, density: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    affine = AFFINES[name]
    mask = rng.random(shape) <= density
    centers = np.argwhere(rng.random(shape) < 0.4)  # in the mask or not
    radius_mm = reach * np.linalg.norm(affine[:3, :3], axis=0).min()
    offsets = sphere_offsets(affine, radius_mm, shape)
    spheres = find_spheres(centers, mask, offsets)
    columns = np.flatnonzero(mask)
    expected = spheres_by_distance(centers, mask, affine, radius_mm)
    assert len(spheres.indptr) == len(centers) + 1
    for i, sphere in enumerate(expected):
        found = spheres.indices[spheres.indptr[i] : spheres.indptr[i + 1]]
        assert np.array_equal(columns[found], sphere)
    assert np.array_equal(sphere_sizes(centers, mask, offsets), [len(sphere) for sphere in expected])
    assert np.array_equal(spheres.sizes(), [len(sphere) for sphere in expected])


@pytest.mark.parametrize(
    ("radius_mm", "n_voxels"), [(0.99, 1), (1.0, 7), (1.5, 19), (2.0, 33), (3.0, 123), (3.2, 147)]
)
def test_known_sizes_on_one_millimetre(radius_mm: float, n_voxels: int) -> None:
    assert len(sphere_offsets(np.eye(4), radius_mm, (20, 21, 22))) == n_voxels


@pytest.mark.parametrize("spacing_mm", [2.4, 0.1, 1 / 3, 3.75])
@pytest.mark.parametrize("origin_mm", [0.0, -127.3, 1e4 / 7])
def test_a_radius_on_the_lattice_takes_the_rim_everywhere(spacing_mm: float, origin_mm: float) -> None:
    """Rounding of world coordinates must not decide who is on the rim: every interior sphere is the same."""
    affine = np.diag([-spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = origin_mm
    shape = (9, 8, 10)
    interior = np.argwhere(np.ones((5, 4, 6))) + 2
    offsets = sphere_offsets(affine, 2 * spacing_mm, shape)
    assert set(sphere_sizes(interior, np.ones(shape, bool), offsets)) == {33}


def test_the_rim_has_the_documented_tolerance() -> None:
    shape = (9, 9, 9)
    assert len(sphere_offsets(np.eye(4), 2.0 * (1 - 0.9e-6), shape)) == 33
    assert len(sphere_offsets(np.eye(4), 2.0 * (1 - 1.1e-6), shape)) == 27


def test_the_halo_follows_the_offsets_and_not_the_zooms() -> None:
    """Under shear a sphere reaches farther along an axis than the radius over the zoom."""
    offsets = sphere_offsets(SHEARED, 2.0, (20, 20, 20))
    halo = sphere_halo(offsets)
    zooms = np.linalg.norm(SHEARED[:3, :3], axis=0)
    assert halo == tuple(np.abs(offsets).max(axis=0))
    assert halo[2] <= 2.0 / zooms[2]
    assert halo[1] > 2.0 / zooms[1]


def test_offsets_and_halo_stay_on_the_grid() -> None:
    offsets = sphere_offsets(np.eye(4), 50.0, (3, 1, 4))
    assert sphere_halo(offsets) == (2, 0, 3)
    assert len(offsets) == 5 * 1 * 7


def test_no_center_and_no_voxel() -> None:
    offsets = sphere_offsets(np.eye(4), 1.0, (3, 4, 5))
    none = find_spheres(np.zeros((0, 3), int), np.ones((3, 4, 5), bool), offsets)
    assert none.indptr.tolist() == [0]
    assert len(none.indices) == 0
    empty = find_spheres(np.array([[1, 1, 1]]), np.zeros((3, 4, 5), bool), offsets)
    assert empty.indptr.tolist() == [0, 0]


def test_more_centers_than_are_looked_up_at_a_time() -> None:
    mask = np.ones((17, 18, 19), bool)
    mask[::3] = False
    centers = np.argwhere(np.ones(mask.shape))
    affine = np.diag([2.0, 3.0, 2.5, 1.0])
    spheres = find_spheres(centers, mask, sphere_offsets(affine, 3.1, mask.shape))
    some = [0, 4095, 4096, 4097, len(centers) - 1]
    for i, sphere in zip(some, spheres_by_distance(centers[some], mask, affine, 3.1), strict=True):
        found = spheres.indices[spheres.indptr[i] : spheres.indptr[i + 1]]
        assert np.array_equal(np.flatnonzero(mask)[found], sphere)


@pytest.mark.parametrize("radius_mm", [0, -1.0, float("nan"), float("inf")])
def test_a_radius_that_is_none(radius_mm: float) -> None:
    with pytest.raises(GeometryError, match=f"positive number of millimetres, got {radius_mm}"):
        sphere_offsets(np.eye(4), radius_mm, (3, 4, 5))


@pytest.mark.parametrize("bad", [np.diag([2.0, 0.0, 2.0, 1.0]), np.full((4, 4), np.nan)])
def test_an_affine_that_is_no_grid(bad: np.ndarray) -> None:
    with pytest.raises(GeometryError, match="affine cannot be inverted, its linear part is"):
        sphere_offsets(bad, 2.0, (3, 4, 5))


# --- a number of voxels

CUBES = np.diag([-2.4, 2.4, 2.4, 1.0])  # every distance is shared by many
FLAT = np.array([[0, 0, 6.5, 1], [0.9, 0, 0, 2], [0, -1.1, 0, 3], [0, 0, 0, 1.0]])


@given(
    affine=st.sampled_from([OBLIQUE, FLIPPED, SHEARED, CUBES, FLAT]),
    shape=st.sampled_from(SHAPES),
    share=st.floats(0.0, 1.0),
    reach=st.sampled_from([None, 0.6, 1.7, 3.2]),
    density=st.sampled_from([0.05, 0.3, 1.0]),
    at_once=st.sampled_from([150, 2**19]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_the_nearest_voxels_are_what_sorting_by_distance_says(
    affine: np.ndarray,
    shape: tuple[int, int, int],
    share: float,
    reach: float | None,
    density: float,
    at_once: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) <= density
    mask.flat[rng.integers(mask.size)] = True
    centers = np.argwhere(rng.random(shape) < 0.3)  # in the mask or not
    n_voxels = max(1, round(share * np.count_nonzero(mask)))
    radius_mm = None if reach is None else reach * float(np.linalg.norm(affine[:3, :3], axis=0).min())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PLACES_AT_ONCE", at_once)
        offsets = nearest_offsets(affine, centers, mask, n_voxels, radius_mm)
        spheres = find_spheres(centers, mask, offsets, n_voxels)
        sizes = sphere_sizes(centers, mask, offsets, n_voxels)
    expected = spheres_by_count(centers, mask, affine, n_voxels, radius_mm or np.inf)
    columns = np.flatnonzero(mask)
    for i, sphere in enumerate(expected):
        found = spheres.indices[spheres.indptr[i] : spheres.indptr[i + 1]]
        assert np.array_equal(columns[found], sphere)
    assert np.array_equal(sizes, [len(sphere) for sphere in expected])
    assert (sizes.dtype, spheres.indices.dtype) == (np.int32, np.int64)
    if len(centers):  # and reaches no farther than somebody needs
        used = [
            voxel - center for center, s in zip(centers, expected, strict=True) for voxel in _places(s, shape)
        ]
        assert len(offsets) == 1 or any((offsets[-1] == step).all() for step in used)


def _places(flat: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    return np.stack(np.unravel_index(flat, shape), axis=-1)


def test_of_equally_near_voxels_those_first_in_c_order_are_taken() -> None:
    """Turned by an angle and kept as a float32, a cube's sides are not equal to the last digit."""
    angle = np.deg2rad(31)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = (3.5 * turn).astype(np.float32)
    assert len(set(np.linalg.norm(affine[:3, :3], axis=0))) > 1
    mask = np.ones((7, 8, 9), bool)
    for matrix in (affine, np.diag([-3.5, 3.5, 3.5, 1])):
        offsets = nearest_offsets(matrix, np.array([[3, 3, 3]]), mask, 7)
        faces = [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
        assert offsets.tolist() == [[0, 0, 0], *faces]
        assert nearest_offsets(matrix, np.array([[3, 3, 3]]), mask, 3).tolist() == [[0, 0, 0], *faces[:2]]


def test_the_nearest_voxels_do_not_depend_on_who_else_is_asked() -> None:
    """Centers far out make the search reach farther, and windows of a grid have other columns."""
    mask = np.random.default_rng(4).random((9, 11, 10)) < 0.6
    mask[:, 8:] = False
    near, far = np.argwhere(mask[2:6, 2:6, 2:6]) + 2, np.array([[8, 10, 9], [0, 10, 0]])
    few = nearest_offsets(SHEARED, near, mask, 20)
    many = nearest_offsets(SHEARED, np.concatenate([near, far]), mask, 20)
    assert len(many) > 3 * len(few)
    assert np.array_equal(many[: len(few)], few)
    one = find_spheres(near, mask, few, 20)
    other = find_spheres(near[::-1], mask, many, 20)
    assert np.array_equal(one.indices.reshape(-1, 20), other.indices.reshape(-1, 20)[::-1])
    halo = np.array(sphere_halo(few))
    low, high = np.maximum(2 - halo, 0), 6 + halo
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    part = find_spheres(near - low, mask[window], few, 20)
    columns = np.flatnonzero(mask)
    inside = np.ravel_multi_index(tuple((np.argwhere(mask[window]) + low).T), mask.shape)
    assert np.array_equal(columns[one.indices], inside[part.indices])


def test_more_voxels_than_there_are() -> None:
    mask = np.zeros((3, 4, 5), bool)
    mask[1, :2, 0] = True
    with pytest.raises(GeometryError, match="n_voxels=3, but the mask has only 2 voxels; pass fewer"):
        nearest_offsets(OBLIQUE, np.array([[1, 1, 1]]), mask, 3)
    offsets = nearest_offsets(OBLIQUE, np.array([[1, 1, 1]]), mask, 3, 100.0)  # the radius says: at most
    assert find_spheres(np.array([[1, 1, 1]]), mask, offsets, 3).indices.tolist() == [0, 1]
    out_of_reach = nearest_offsets(OBLIQUE, np.array([[1, 3, 4]]), mask, 1, 0.5)
    assert out_of_reach.tolist() == [[0, 0, 0]]
    assert sphere_sizes(np.array([[1, 3, 4]]), mask, out_of_reach, 1).tolist() == [0]
    with pytest.raises(GeometryError, match="affine cannot be inverted"):
        nearest_offsets(np.diag([2.0, 0, 1, 1]), np.array([[1, 1, 1]]), mask, 1)
