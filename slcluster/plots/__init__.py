"""Figures: maps over the mean image, as in nilearn's searchlight example.

Drawn by nilearn on figures of their own: nothing is registered with ``pyplot``, and the backend that was chosen
stays. Cuts are planes of world space. A grid whose axes are not those of the world (an oblique affine) is
resampled for drawing, by nearest neighbour, so that every colour is a value that was computed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from slcluster.errors import InputError
from slcluster.maps import chance_of, named_maps, named_scores
from slcluster.plots.cuts import Cut
from slcluster.plots.drawing import Layer, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_f_map", "plot_score_map", "plot_sphere_size", "plot_summary"]

#: -log10 p from which the F map is drawn: p < 0.001, not corrected for the number of voxels.
_F_THRESHOLD = 3.0


def plot_score_map(
    result: xr.Dataset,
    mean: xr.DataArray | None = None,
    *,
    metric: str | None = None,
    threshold: float | None = None,
    cut: Cut = None,
    display_mode: str = "z",
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw a searchlight's score map, hot and thresholded, over the mean image.

    Parameters
    ----------
    result : xarray.Dataset
        From :func:`slcluster.searchlight` or :func:`slcluster.open_result`, finished or not. Lazy maps are
        computed.
    mean : DataArray, dims (x, y, z), optional
        Drawn below in gray: ``mean`` of the subject, or any map of the same space, on whatever grid.
    metric : str, optional
        Which score, where there are several.
    threshold : float, optional
        Scores above it are drawn. Where not given, the chance level, for scores that have one; else all scores.
    cut : int, float or sequence, optional
        Where to cut: an ``int`` is the index of a slice, as the map's coordinates count them (of the voxel axis
        nearest to the one that ``display_mode`` names); a ``float`` is a position in mm. Several make several
        panels; ``"ortho"`` takes three (x, y, z). Where not given, through what is strongest.
    display_mode : {"x", "y", "z", "ortho"}
        Axis of the world that cuts stand on.
    title : str, optional
    path : path, optional
        Also written there: ``.png``, or another type that matplotlib knows.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        Not the maps of a searchlight, no value in them, an unknown metric, or a cut outside the map.
    StoreError
        ``path`` cannot be written.

    Examples
    --------
    >>> from slcluster import searchlight, select, simulate
    >>> ds = simulate(shape=(7, 8, 9), n_runs=2, seed=0)
    >>> maps = searchlight(select(ds, conditions=["face", "house"]), radius_mm=5.6)
    >>> figure = plot_score_map(maps, ds["mean"], cut=4)
    >>> figure.axes[-1].get_ylabel()
    'accuracy (chance 0.5)'
    """
    return draw([_score_layer(result, metric, threshold, title)], mean, cut, display_mode, path)


def plot_f_map(
    maps: xr.Dataset,
    mean: xr.DataArray | None = None,
    *,
    threshold: float = _F_THRESHOLD,
    cut: Cut = None,
    display_mode: str = "z",
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw -log10 p of an F map, hot and thresholded, over the mean image.

    Parameters
    ----------
    maps : xarray.Dataset
        From :func:`slcluster.f_score`. Lazy maps are computed.
    mean : DataArray, dims (x, y, z), optional
    threshold : float
        Of -log10 p. The default is p < 0.001, not corrected for the number of voxels.
    cut, display_mode, title, path
        As for :func:`plot_score_map`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError, StoreError
        As :func:`plot_score_map`.

    Examples
    --------
    >>> from slcluster import f_score, select, simulate
    >>> ds = select(simulate(shape=(7, 8, 9), n_runs=2, seed=0), conditions=["face", "house"])
    >>> figure = plot_f_map(f_score(ds), ds["mean"], cut=4)
    >>> figure.axes[-1].get_ylabel()
    '-log10 p of F'
    """
    return draw([_f_layer(maps, threshold, title)], mean, cut, display_mode, path)


def plot_sphere_size(
    result: xr.Dataset,
    mean: xr.DataArray | None = None,
    *,
    cut: Cut = None,
    display_mode: str = "z",
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw how many voxels each center's sphere holds: small ones, at the rim of the mask, score less surely.

    Parameters
    ----------
    result : xarray.Dataset
        From :func:`slcluster.searchlight`.
    mean : DataArray, dims (x, y, z), optional
    cut, display_mode, title, path
        As for :func:`plot_score_map`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError, StoreError
        As :func:`plot_score_map`.

    Examples
    --------
    >>> from slcluster import searchlight, select, simulate
    >>> ds = select(simulate(shape=(7, 8, 9), n_runs=2, seed=0), conditions=["face", "house"])
    >>> figure = plot_sphere_size(searchlight(ds, radius_mm=5.6), cut=4)
    >>> figure.axes[-1].get_ylabel()
    'voxels in the sphere'
    """
    size = _finite(_variable(result, "sphere_size", "searchlight"))
    title = title or _title(result, "sphere size")
    layer = _layer(size, size > 0, None, cmap="viridis", title=title, label="voxels in the sphere")
    return draw([layer], mean, cut, display_mode, path)


def plot_summary(
    result: xr.Dataset,
    f_maps: xr.Dataset,
    mean: xr.DataArray | None = None,
    *,
    metric: str | None = None,
    threshold: float | None = None,
    cut: Cut = None,
    display_mode: str = "z",
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw the score map and the F map side by side, cut at the same place.

    Parameters
    ----------
    result : xarray.Dataset
        From :func:`slcluster.searchlight`.
    f_maps : xarray.Dataset
        From :func:`slcluster.f_score`.
    mean : DataArray, dims (x, y, z), optional
    metric, threshold, cut, display_mode, path
        As for :func:`plot_score_map`. ``threshold`` is of the score.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError, StoreError
        As :func:`plot_score_map`.

    Examples
    --------
    >>> from slcluster import f_score, searchlight, select, simulate
    >>> ds = select(simulate(shape=(7, 8, 9), n_runs=2, seed=0), conditions=["face", "house"])
    >>> maps = searchlight(ds, radius_mm=5.6, estimator="gnb")
    >>> figure = plot_summary(maps, f_score(ds), ds["mean"], cut=4)
    >>> len([axes for axes in figure.axes if axes.get_ylabel()])
    2
    """
    layers = [_score_layer(result, metric, threshold, None), _f_layer(f_maps, _F_THRESHOLD, None)]
    return draw(layers, mean, cut, display_mode, path)


def _score_layer(result: xr.Dataset, metric: str | None, threshold: float | None, title: str | None) -> Layer:
    score, metric = _one_map(result, metric)
    score = _finite(score)
    chance = chance_of(result.attrs, metric)
    low = chance if threshold is None else _number(threshold)
    is_shown = score.notnull() if low is None else score > low
    label = metric if chance is None else f"{metric} (chance {chance:.3g})"
    title = title or _title(result, f"searchlight {metric}", filled=score.attrs.get("filled"))
    return _layer(score, is_shown, low, cmap="hot", title=title, label=label, mark=chance)


def _f_layer(maps: xr.Dataset, threshold: float, title: str | None) -> Layer:
    values = _finite(_variable(maps, "neg_log10_p", "f_score"))
    is_shown = values > _number(threshold)
    title = title or _title(maps, "F map")
    return _layer(values, is_shown, float(threshold), cmap="hot", title=title, label="-log10 p of F")


def _number(threshold: float) -> float:
    if not np.isfinite(threshold):
        raise InputError(f"threshold must be a number, got {threshold!r}")
    return float(threshold)


def _variable(ds: xr.Dataset, name: str, origin: str) -> xr.DataArray:
    if not isinstance(ds, xr.Dataset) or name not in ds:
        got = f"variables {', '.join(map(str, ds))}" if isinstance(ds, xr.Dataset) else type(ds).__name__
        raise InputError(f"expected the Dataset of slcluster.{origin}, with {name!r}; got {got}")
    return ds[name]


def _finite(da: xr.DataArray) -> xr.DataArray:
    """The map in memory, computed once: what is shown is derived from it. Infinities have no colour."""
    da = da.compute()
    return da.where(abs(da) < np.inf)


def _one_map(result: xr.Dataset, metric: str | None) -> tuple[xr.DataArray, str]:
    _variable(result, "score", "searchlight")
    maps = named_scores(result)
    if metric is None and len(maps) > 1:
        raise InputError(f"the result has several maps; pass metric=, one of {', '.join(maps)}")
    if metric is None:
        return next((one, name) for name, one in maps.items())
    maps = named_maps(result)
    if metric not in maps:
        raise InputError(f"no metric {metric!r} in the result; it has {', '.join(maps)}")
    return maps[metric], metric


def _title(ds: xr.Dataset, what: str, *, filled: str | None = None) -> str:
    radius, n_voxels = (ds.attrs.get(name) for name in ("radius_mm", "n_voxels"))
    parts = [what, *([f"{n_voxels} voxels"] if n_voxels else []), *([f"{radius:g} mm"] if radius else [])]
    parts += [f"filled ({filled})"] if filled else []
    return f"{ds.attrs.get('subject', '')}\n{', '.join(parts)}".strip()


def _layer(
    values: xr.DataArray, is_shown: xr.DataArray, low: float | None, *, title: str, **options: Any
) -> Layer:
    shown = values.values[is_shown.values]
    if not values.notnull().any() or (low is None and not len(shown)):
        raise InputError(f"{' '.join(title.split())}: the map holds no value, so there is nothing to draw")
    if not len(shown):
        title = f"{title}: nothing over {low:.3g}"
    bottom = low if low is not None else float(shown.min())
    top = float(shown.max()) if len(shown) else bottom
    if top <= bottom:  # one value is a range too
        top = bottom + max(abs(bottom), 1.0) * 0.1
    return Layer(values, is_shown, bottom, top, title=title, **options)
