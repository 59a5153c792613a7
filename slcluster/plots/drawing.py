"""Layers to a figure: each a map over the mean image, with its title and colour bar."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from slcluster.errors import InputError
from slcluster.io.export import write_atomically
from slcluster.plots.cuts import Cut, choose_cuts, nearest_slice, on_world_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Layer", "draw"]

#: Inches.
_MARGIN, _PANEL, _BAR, _HEIGHT, _TITLE, _LABEL = 0.15, 3.4, 1.1, 4.0, 0.6, 0.25
_DPI = 150

#: Part of each colour map in use: both ends of "hot" would pass for the gray of the background.
_RANGE = {"hot": (0.2, 0.92), "viridis": (0.0, 1.0)}

#: Gray of the brightest background, so that the brightest colours stand out from it.
_BRIGHTEST = 0.7


@dataclass(frozen=True)
class Layer:
    """One map, ready to be drawn: values over ``low`` are shown, in colours from ``low`` to ``high``."""

    values: xr.DataArray
    is_shown: xr.DataArray
    low: float
    high: float
    cmap: str
    title: str
    label: str
    mark: float | None = None


def draw(
    layers: Sequence[Layer],
    mean: xr.DataArray | None,
    cut: Cut,
    display_mode: str,
    path: str | os.PathLike[str] | None,
) -> Figure:
    """A figure of all layers side by side, cut where the first one says.

    Raises
    ------
    InputError
        As :func:`slcluster.plots.cuts.choose_cuts`; or the libraries that draw are missing.
    StoreError
        ``path`` cannot be written.
    """
    try:
        import nilearn.plotting  # noqa: F401
        from matplotlib.figure import Figure
    except ImportError as error:
        missing = str(error.name).partition(".")[0]
        raise InputError(f"figures need {missing}; pip install 'slcluster[plot]'") from None

    first = layers[0]
    cuts = choose_cuts(first.values, first.is_shown, first.low, cut, display_mode)
    inches = _MARGIN + _PANEL * (3 if display_mode == "ortho" else len(cuts)) + _BAR
    figure = Figure(figsize=(inches * len(layers), _HEIGHT), facecolor="black", dpi=_DPI)
    for number, layer in enumerate(layers):
        _draw_layer(figure, inches * number, inches, layer, mean, cuts, display_mode)
    if path is not None:
        _save(figure, Path(path).expanduser())
    return figure


def _draw_layer(
    figure: Figure,
    left: float,
    inches: float,
    layer: Layer,
    mean: xr.DataArray | None,
    cuts: Sequence[float],
    display_mode: str,
) -> None:
    """One map, its title and its colour bar, on a strip of the figure: from ``left``, ``inches`` wide."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from nilearn.plotting import plot_img

    across, height = figure.get_size_inches()[0], 1 - _TITLE / _HEIGHT
    cmap = ListedColormap(colormaps[layer.cmap](np.linspace(*_RANGE[layer.cmap], 256)))
    display = plot_img(
        on_world_axes(layer.values.fillna(0)),
        cut_coords=tuple(cuts) if display_mode == "ortho" else list(cuts),
        display_mode=display_mode,
        figure=figure,
        axes=(
            (left + _MARGIN) / across,
            _LABEL / _HEIGHT,
            (inches - _MARGIN - _BAR) / across,
            height - 2 * _LABEL / _HEIGHT,
        ),
        cmap=cmap,
        vmin=layer.low,
        vmax=layer.high,
        # Not nilearn's threshold, which is of absolute values and takes a score of 0 for no score.
        transparency=on_world_axes(layer.is_shown) if layer.is_shown.any() else 0.0,
        colorbar=False,
        draw_cross=False,
        black_bg=True,
        decimals=1,
        **({} if mean is None else _background(mean, cuts, display_mode)),
    )
    for panel in display.axes.values():
        _uncover(panel.ax)
    title = figure.text((left + inches / 2) / across, 1 - _TITLE / _HEIGHT / 2, layer.title)
    title.set(color="white", size=11, horizontalalignment="center", verticalalignment="center")
    bar = figure.add_axes(((left + inches - 0.95 * _BAR) / across, 0.12, 0.15 / across, height - 0.2))
    _draw_bar(bar, layer, cmap)


def _uncover(axes: Any) -> None:
    """Move nilearn's labels off the picture: on a map that fills its grid they hide voxels."""
    for text in axes.texts:
        is_side = text.get_text() in ("L", "R")
        text.set_y(1.02 if is_side else -0.02)
        text.set_verticalalignment("bottom" if is_side else "top")


def _draw_bar(axes: Any, layer: Layer, cmap: Any) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = axes.figure.colorbar(ScalarMappable(Normalize(layer.low, layer.high), cmap), cax=axes)
    bar.set_label(layer.label, color="white", size=11)
    axes.tick_params(colors="white", labelsize=10)
    bar.outline.set_edgecolor("white")
    if layer.mark is not None and layer.low < layer.mark < layer.high:
        axes.axhline(layer.mark, color="cyan", linewidth=2)


def _background(mean: xr.DataArray, cuts: Sequence[float], display_mode: str) -> dict[str, Any]:
    if not isinstance(mean, xr.DataArray):
        raise InputError(
            f"expected a mean image, as the variable mean of a subject, got {type(mean).__name__}"
        )
    values = mean.compute()
    finite = values.values[np.isfinite(values.values)]
    # A few bright voxels (vessels, an edge) must not make the rest dark.
    low, high = np.percentile(finite, [0, 99.5]).tolist() if len(finite) else (0.0, 1.0)
    image = on_world_axes(values.fillna(low))
    axes = "xyz" if display_mode == "ortho" else display_mode * len(cuts)
    for axis, position in zip(axes, cuts, strict=True):
        if nearest_slice(image, axis, position) is None:  # nilearn would draw a slice from the other end
            raise InputError(
                f"the mean image does not reach the cut at {axis}={position:g} mm; pass a larger one"
            )
    return {"bg_img": image, "bg_vmin": low, "bg_vmax": low + max(high - low, 1e-6) / _BRIGHTEST}


def _save(figure: Figure, path: Path) -> None:
    known = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise InputError(f"cannot draw to {path.name}; give it one of the endings {', '.join(sorted(known))}")
    write_atomically(path, lambda partial: figure.savefig(partial, facecolor=figure.get_facecolor()))
