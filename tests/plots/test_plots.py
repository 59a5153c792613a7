"""Figures show the right voxels, at the right place, in the right colours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import slcluster as slc
from slcluster.errors import InputError, StoreError
from slcluster.plots import plot_f_map, plot_score_map, plot_sphere_size, plot_summary
from tests.conftest import OBLIQUE

SHAPE = (7, 8, 9)

#: Flipped and anisotropic, along the axes of the world.
FLIPPED = np.array([[-3.0, 0, 0, 9], [0, 3.5, 0, -20], [0, 0, 4, -6], [0, 0, 0, 1.0]])

#: Voxel x runs along world z, y along -x, z along y.
PERMUTED = np.array([[0, -3.0, 0, 9], [0, 0, 3.5, -20], [4, 0, 0, -6], [0, 0, 0, 1.0]])


def _result(affine: np.ndarray = FLIPPED, shape: tuple[int, int, int] = SHAPE, **attrs: Any) -> xr.Dataset:
    """The Dataset of a searchlight, with one score nowhere else."""
    ds = slc.subject_dataset(np.zeros((*shape, 2), np.float32), affine=affine)
    score = np.full(shape, np.nan)
    inner = tuple(slice(0 if n == 1 else 1, n if n == 1 else n - 1) for n in shape)
    score[inner] = np.random.default_rng(0).uniform(0.3, 0.7, score[inner].shape)
    score[tuple(n // 2 for n in shape)] = 0.95
    size = np.where(np.isfinite(score), 9, 0).astype(np.int32)
    maps = {"score": (("x", "y", "z"), score), "sphere_size": (("x", "y", "z"), size)}
    coords = {**{name: ds[name] for name in ("x", "y", "z", "affine", "space")}, "metric": ["accuracy"]}
    made = {"slcluster": "result", "subject": "sub-01", "radius_mm": 5.6, "chance": 0.5, **attrs}
    return xr.Dataset(maps, coords, made)


def _f_maps(affine: np.ndarray = FLIPPED) -> xr.Dataset:
    values = np.random.default_rng(1).uniform(0, 10, SHAPE)
    values[0] = np.nan
    return _result(affine).drop_vars(["score", "sphere_size"]).assign(neg_log10_p=(("x", "y", "z"), values))


def _mean(result: xr.Dataset) -> xr.DataArray:
    return result["score"].copy(data=np.random.default_rng(2).uniform(600, 1200, result["score"].shape[-3:]))


def _pictures(axes: Any) -> list[Any]:
    """Pictures of the brain, background first; nilearn paints the black behind as one in colours."""
    return [image for image in axes.get_images() if image.get_array().ndim == 2]


def _panels(figure: Figure) -> list[Any]:
    return [axes for axes in figure.axes if _pictures(axes)]


def _shown(figure: Figure, panel: int = 0) -> np.ndarray:
    """What is drawn of the map: (row from the top, column from the left), NaN where it is transparent."""
    image = _pictures(_panels(figure)[panel])[-1]
    values = np.ma.getdata(image.get_array()).astype(float)
    return np.where(np.broadcast_to(image.get_alpha(), values.shape) > 0, values, np.nan)


def _expected(result: xr.Dataset, z: int, threshold: float) -> np.ndarray:
    """An axial slice of a FLIPPED map as it must appear: left is left (so x is reversed), front is up."""
    values = result["score"].values[:, :, z]
    return np.where(values > threshold, values, np.nan)[::-1, ::-1].T


def test_the_slice_asked_for_with_left_on_the_left() -> None:
    result = _result()
    for z in (2, 6):
        figure = plot_score_map(result, _mean(result), cut=z)
        np.testing.assert_allclose(_shown(figure), _expected(result, z, 0.5), rtol=1e-6)
        texts = [text.get_text() for axes in figure.axes for text in axes.texts]
        assert f"z={4 * z - 6:.1f}" in texts
        assert {"L", "R"} <= set(texts)


def test_a_position_in_mm_takes_the_slice_it_lies_in() -> None:
    result = _result()
    for mm in (2.0, 3.9, 0.1):  # slice 2 reaches from 0 to 4 mm
        figure = plot_score_map(result, cut=mm)
        np.testing.assert_allclose(_shown(figure), _expected(result, 2, 0.5), rtol=1e-6)


def test_integers_are_slices_and_floats_are_mm() -> None:
    result = _result()
    assert not np.allclose(
        np.nan_to_num(_shown(plot_score_map(result, cut=2))),
        np.nan_to_num(_shown(plot_score_map(result, cut=6.0))),
    )
    one, other = (_shown(plot_score_map(result, cut=cut)) for cut in (np.int64(3), np.float32(6.0)))
    np.testing.assert_array_equal(one, other)


def test_several_cuts_are_panels() -> None:
    result = _result()
    figure = plot_score_map(result, _mean(result), cut=[2, 14.0, 2])
    assert len(_panels(figure)) == 2
    for panel, z in enumerate((2, 5)):
        np.testing.assert_allclose(_shown(figure, panel), _expected(result, z, 0.5), rtol=1e-6)


@pytest.mark.parametrize("affine", [FLIPPED, PERMUTED, OBLIQUE], ids=["flipped", "permuted", "oblique"])
@pytest.mark.parametrize("mode", ["x", "y", "z", "ortho"])
def test_automatic_cuts_go_through_what_is_strongest(affine: np.ndarray, mode: str) -> None:
    result = _result(affine)
    score = result["score"].copy(data=np.full(SHAPE, 0.4))
    score.values[3:6, 4:7, 2:5] = 0.9
    figure = plot_score_map(result.assign(score=score), _mean(result), display_mode=mode)
    panels = _panels(figure)
    assert len(panels) == (3 if mode == "ortho" else 1)
    for panel in range(len(panels)):
        assert np.nanmax(_shown(figure, panel)) == pytest.approx(0.9)
        assert np.isnan(_shown(figure, panel)).any()


def test_a_few_high_scores_outweigh_many_just_over_chance() -> None:
    result = _result()
    score = result["score"].copy(data=np.full(SHAPE, 0.4))
    score.values[:, :, 2] = 0.52
    score.values[3, 4:6, 6] = 0.95
    figure = plot_score_map(result.assign(score=score), _mean(result))
    assert np.nanmax(_shown(figure)) == pytest.approx(0.95)


def test_slices_of_a_permuted_grid_are_counted_along_the_voxel_axis() -> None:
    result = _result(PERMUTED)
    figure = plot_score_map(result, cut=2, display_mode="z")  # world z is voxel axis x
    expected = result["score"].values[2]  # (voxel y = -world x, voxel z = world y)
    expected = np.where(expected > 0.5, expected, np.nan)[::-1, ::-1].T
    np.testing.assert_allclose(_shown(figure), expected, rtol=1e-6)


def test_an_oblique_map_shows_only_values_that_were_computed() -> None:
    result = _result(OBLIQUE)
    computed = result["score"].values[np.isfinite(result["score"].values)].astype(np.float32)
    figure = plot_score_map(result, _mean(result), display_mode="ortho", threshold=0.0)
    for panel in range(3):
        shown = _shown(figure, panel)
        shown = shown[np.isfinite(shown)].astype(np.float32)
        assert len(shown) > 10
        assert np.isin(shown, computed).all()


def test_scores_of_zero_and_below_are_scores() -> None:
    result = _result()
    result = result.assign(score=result["score"] * 2 - 1.1, metric=["r2"])
    result["score"].values[3, 4, 4] = 0.0
    figure = plot_score_map(result, _mean(result), cut=4)
    expected = result["score"].values[:, :, 4][::-1, ::-1].T
    np.testing.assert_allclose(_shown(figure), expected, rtol=1e-6)
    bar = figure.axes[-1]
    finite = result["score"].values[np.isfinite(result["score"].values)]
    np.testing.assert_allclose(bar.get_ylim(), (finite.min(), finite.max()), rtol=1e-6)
    assert bar.get_ylabel() == "r2"


@pytest.mark.parametrize(
    ("metric", "n_classes", "chance"),
    [
        ("accuracy", 2, 0.5),
        ("balanced_accuracy", 4, 0.25),
        ("roc_auc", 2, 0.5),
        ("roc_auc_ovr", 4, 0.5),
        ("f1", 2, None),
    ],
)
def test_threshold_is_chance_where_a_metric_has_one(
    metric: str, n_classes: int, chance: float | None
) -> None:
    result = _result(chance=1 / n_classes).assign_coords(metric=[metric])
    figure = plot_score_map(result, cut=4)
    low = np.nanmin(result["score"].values) if chance is None else chance
    np.testing.assert_allclose(_shown(figure), _expected(result, 4, low - 1e-9), rtol=1e-6)
    assert figure.axes[-1].get_ylim()[0] == pytest.approx(low)
    assert figure.axes[-1].get_ylabel() == (metric if chance is None else f"{metric} (chance {chance:g})")


def test_chance_is_marked_when_the_threshold_is_another() -> None:
    result = _result()
    for threshold, n_marks in ((0.4, 1), (0.5, 0), (0.6, 0)):
        figure = plot_score_map(result, cut=4, threshold=threshold)
        np.testing.assert_allclose(_shown(figure), _expected(result, 4, threshold), rtol=1e-6)
        marks = [line for line in figure.axes[-1].get_lines() if np.ptp(line.get_ydata()) == 0]
        assert len(marks) == n_marks
    result.attrs.pop("chance")
    assert plot_score_map(result, cut=4).axes[-1].get_ylabel() == "accuracy"


def test_colours_follow_the_bar() -> None:
    result = _result()
    figure = plot_score_map(result, cut=4)
    image = _pictures(_panels(figure)[0])[-1]
    assert image.get_clim() == (0.5, 0.95)
    assert figure.axes[-1].get_ylim() == (0.5, 0.95)
    red, green, blue, _ = image.cmap(image.norm(0.5))
    assert red > 0.5 > green == blue == 0  # dark red, not black
    assert min(image.cmap(image.norm(0.95))[:2]) > 0.99  # bright yellow


def test_a_metric_is_chosen_among_several() -> None:
    one = _result()
    both = xr.concat([one["score"], one["score"] / 2], "metric").assign_coords(metric=["accuracy", "f1"])
    result = one.drop_vars(["score", "metric"]).assign(score=both)
    figure = plot_score_map(result, metric="f1", cut=4)
    np.testing.assert_allclose(_shown(figure) * 2, _expected(one, 4, 0), rtol=1e-6)
    with pytest.raises(InputError, match=r"several maps; pass metric=, one of accuracy, f1"):
        plot_score_map(result)
    with pytest.raises(InputError, match=r"no metric 'r2' in the result; it has accuracy, f1"):
        plot_score_map(result, metric="r2")


def test_f_map_is_thresholded_at_p_of_a_thousandth() -> None:
    maps = _f_maps()
    figure = plot_f_map(maps, _mean(_result()), cut=4)
    values = maps["neg_log10_p"].values[:, :, 4]
    expected = np.where(values > 3, values, np.nan)[::-1, ::-1].T
    np.testing.assert_allclose(_shown(figure), expected, rtol=1e-6)
    assert figure.axes[-1].get_ylabel() == "-log10 p of F"
    assert np.isfinite(_shown(plot_f_map(maps, threshold=9.9, cut=4))).sum() < np.isfinite(expected).sum()


def test_sphere_size_shows_centers_alone() -> None:
    result = _result()
    figure = plot_sphere_size(result, cut=4)
    expected = np.where(result["sphere_size"].values[:, :, 4] > 0, 9.0, np.nan)[::-1, ::-1].T
    np.testing.assert_array_equal(_shown(figure), expected)
    assert figure.axes[-1].get_ylabel() == "voxels in the sphere"


def test_summary_cuts_both_maps_at_the_same_place() -> None:
    result, maps = _result(), _f_maps()
    figure = plot_summary(result, maps, _mean(result))
    assert len(_panels(figure)) == 2
    positions = [
        text.get_text() for axes in figure.axes for text in axes.texts if text.get_text().startswith("z=")
    ]
    assert positions == ["z=10.0", "z=10.0"]  # the slice of the one high score
    titles = [text.get_text() for text in figure.texts]
    assert titles == ["sub-01\nsearchlight accuracy, 5.6 mm", "sub-01\nF map, 5.6 mm"]


def test_lazy_maps_are_computed_once() -> None:
    import dask

    result = _result()
    calls = []

    def compute() -> np.ndarray:
        calls.append(1)
        return result["score"].values

    import dask.array as da

    lazy = da.from_delayed(dask.delayed(compute)(), SHAPE, float)
    plot_score_map(result.assign(score=(("x", "y", "z"), lazy)), cut=4)
    assert len(calls) == 1


def test_one_slice_like_the_haxby_slice() -> None:
    result = _result(shape=(7, 8, 1))
    figure = plot_score_map(result, _mean(result))
    np.testing.assert_allclose(_shown(figure), _expected(result, 0, 0.5), rtol=1e-6)
    with pytest.raises(InputError, match=r'one slice across z; draw it with display_mode="z"'):
        plot_score_map(result, display_mode="ortho")
    part = _result().isel(y=[3])
    assert np.isfinite(_shown(plot_score_map(part, display_mode="y"))).any()
    with pytest.raises(InputError, match=r"7 x 1 x 1 voxels: there is no slice to draw"):
        plot_score_map(part.isel(z=[4]))


def test_a_slice_taken_with_an_integer() -> None:
    result = _result()
    figure = plot_score_map(result.isel(z=4), _mean(result))
    np.testing.assert_allclose(_shown(figure), _expected(result, 4, 0.5), rtol=1e-6)


def test_a_part_counts_slices_as_the_whole_does() -> None:
    result = _result()
    part = result.isel(z=slice(3, 8, 2))
    figure = plot_score_map(part, _mean(result), cut=5)
    np.testing.assert_allclose(_shown(figure), _expected(result, 5, 0.5), rtol=1e-6)
    with pytest.raises(InputError, match=r"no slice z=1 in the map, which has 3 to 7"):
        plot_score_map(part, cut=1)


def test_background_may_have_another_grid() -> None:
    result = _result()
    fine = slc.subject_dataset(np.zeros((14, 16, 18, 1), "f4"), affine=FLIPPED @ np.diag([0.5, 0.5, 0.5, 1]))
    mean = fine["mean"].copy(data=np.random.default_rng(0).random((14, 16, 18)))
    figure = plot_score_map(result, mean, cut=4)
    below, above = _pictures(_panels(figure)[0])
    assert below.get_array().shape == (16, 14)
    assert above.get_array().shape == (8, 7)
    with pytest.raises(InputError, match=r"mean image does not reach the cut at z=26 mm"):
        plot_score_map(result, _mean(result).isel(z=slice(0, 5)), cut=8)


@pytest.mark.parametrize(
    ("shape", "mode"), [((7, 8, 1), "z"), ((9, 5, 1), "z"), (SHAPE, "z"), (SHAPE, "ortho")]
)
def test_labels_cover_no_voxel(shape: tuple[int, int, int], mode: str) -> None:
    result = _result(shape=shape)
    figure = plot_score_map(result, _mean(result), display_mode=mode)
    figure.canvas.draw()
    n_labels = 0
    for axes in _panels(figure):
        picture = _pictures(axes)[-1].get_window_extent()
        for text in axes.texts:
            label = text.get_window_extent()
            assert not picture.overlaps(label), text.get_text()
            assert figure.bbox.fully_contains(*label.min), text.get_text()
            assert figure.bbox.fully_contains(*label.max), text.get_text()
            n_labels += 1
    assert n_labels == (7 if mode == "ortho" else 3)


def test_nan_and_bright_voxels_in_the_background() -> None:
    result = _result()
    mean = _mean(result)
    mean.values[0] = np.nan
    mean.values[3, 3, 4] = 1e6
    figure = plot_score_map(result, mean, cut=4)
    below = _pictures(_panels(figure)[0])[0]
    assert np.isfinite(below.get_array()).all()
    low, high = below.get_clim()
    assert low == pytest.approx(np.nanmin(mean.values), rel=1e-6)
    assert high < 1e5


def test_nothing_above_the_threshold_still_draws() -> None:
    result = _result()
    figure = plot_score_map(result, _mean(result), threshold=2.0)
    assert np.isnan(_shown(figure)).all()
    assert "nothing over 2" in figure.texts[0].get_text()


def test_one_value_everywhere() -> None:
    result = _result()
    same = result.assign(score=result["score"] * 0 + 0.5).drop_attrs(deep=False)
    figure = plot_score_map(same, cut=4)
    assert np.nanmax(_shown(figure)) == np.nanmin(_shown(figure)) == 0.5
    low, high = figure.axes[-1].get_ylim()
    assert low < high


def test_infinite_scores_are_left_out() -> None:
    result = _result()
    result["score"].values[3, 4, 5] = np.inf
    figure = plot_score_map(result, cut=5)
    assert np.isfinite(figure.axes[-1].get_ylim()).all()
    expected = np.where(np.isinf(result["score"].values), np.nan, result["score"].values)[:, :, 5]
    expected = np.where(expected > 0.5, expected, np.nan)[::-1, ::-1].T
    np.testing.assert_allclose(_shown(figure), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cut": 9}, r"no slice z=9 in the map, which has 0 to 8"),
        ({"cut": -1}, r"no slice z=-1 in the map"),
        ({"cut": 28.5}, r"cut z=28.5 mm is outside the map, which spans -6 to 26 mm"),
        ({"cut": -9.0}, r"cut z=-9 mm is outside"),
        ({"cut": float("nan")}, r"cut z=nan mm is outside"),
        ({"cut": "4"}, r"slice indices \(int\) or positions in mm \(float\), got '4'"),
        ({"cut": True}, "got True"),
        ({"cut": []}, r"got \[\]"),
        ({"cut": [1, 2], "display_mode": "ortho"}, r"takes three cuts \(x, y, z\), got \[1, 2\]"),
        ({"display_mode": "mosaic"}, r"must be one of x, y, z, ortho, got 'mosaic'"),
        ({"path": "map.docx"}, r"cannot draw to map.docx; give it one of the endings .*png"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        plot_score_map(_result(), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda: plot_score_map(_f_maps()),
            r"Dataset of slcluster.searchlight, with 'score'; got variables neg_log10_p",
        ),
        (lambda: plot_f_map(_result()), r"Dataset of slcluster.f_score, with 'neg_log10_p'"),
        (lambda: plot_score_map(_result()["score"]), "got DataArray"),
        (lambda: plot_score_map(_result(), mean=_result()), "expected a mean image, .* got Dataset"),
        (lambda: plot_score_map(_empty()), "searchlight accuracy, 5.6 mm: the map holds no value"),
        (lambda: plot_sphere_size(_empty()), "sphere size, 5.6 mm: the map holds no value"),
    ],
)
def test_what_cannot_be_drawn(draw: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        draw()
    assert "\n" not in str(caught.value)


def _empty() -> xr.Dataset:
    result = _result()
    return result.assign(score=result["score"] * np.nan, sphere_size=result["sphere_size"] * 0)


def test_files_are_written_whole(tmp_path: Path) -> None:
    result = _result()
    path = tmp_path / "figures" / "map.png"
    figure = plot_score_map(result, _mean(result), path=path)
    assert path.read_bytes().startswith(b"\x89PNG")
    pixels = matplotlib.image.imread(path)
    width, height = figure.get_size_inches() * figure.dpi
    assert pixels.shape[:2] == (int(height), int(width))
    assert (pixels[0, :, :3] == 0).all()  # black around
    assert pixels[..., :3].max() > 0.9
    plot_score_map(result, path=tmp_path / "figures" / "map.pdf")
    assert sorted(os.listdir(tmp_path / "figures")) == ["map.pdf", "map.png"]
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write"):
        plot_score_map(result, path=tmp_path / "file" / "map.png")


def test_pyplot_and_its_backend_are_left_alone() -> None:
    code = """
import matplotlib
matplotlib.use("svg")
from tests.plots.test_plots import _result, _mean
import matplotlib.pyplot as plt
mine = plt.figure()
from slcluster.plots import plot_score_map
plot_score_map(_result(), _mean(_result()), display_mode="ortho")
print(matplotlib.get_backend(), plt.get_fignums() == [mine.number], plt.gcf() is mine, len(mine.axes))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["svg", "True", "True", "0"]


def test_importing_plots_imports_nothing_that_draws() -> None:
    code = "import sys, slcluster.plots; print([m for m in ('matplotlib', 'nilearn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_without_the_libraries_that_draw() -> None:
    code = """
import sys
sys.modules["nilearn"] = None
from slcluster.errors import InputError
from slcluster.plots import plot_score_map
import numpy as np, xarray as xr
import slcluster as slc
ds = slc.subject_dataset(np.zeros((3, 4, 5, 2), "f4"), affine=np.eye(4))
maps = xr.Dataset({"score": ds["mean"]}).assign_coords(metric=["accuracy"])
try:
    plot_score_map(maps)
except InputError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "figures need nilearn; pip install 'slcluster[plot]'"


def test_the_real_slice(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "haxby2001"
    ds = slc.ingest(
        source / "subj1" / "bold.nii.gz",
        tmp_path / "s.zarr",
        mask=source / "mask.nii.gz",
        labels=source / "subj1" / "labels.txt",
    )
    maps = slc.f_score(slc.select(ds, conditions=["face", "house"]))
    figure = plot_f_map(maps, ds["mean"], path=tmp_path / "f.png")
    values = maps["neg_log10_p"].values[:, :, 0]
    expected = np.where(values > 3, values, np.nan)[::-1, ::-1].T
    assert np.isfinite(expected).sum() > 100
    np.testing.assert_allclose(_shown(figure), expected, rtol=1e-6)
