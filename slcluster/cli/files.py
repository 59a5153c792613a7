"""What a result leaves in a folder: NIfTI maps, a JSON sidecar beside each, and figures."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["can_draw", "shown", "sidecar", "write_all", "write_maps"]

log = logging.getLogger("slcluster")

#: Attributes that hold JSON as text, because a Zarr attribute must be plain.
_JSON = ("arguments", "class_counts", "identity", "versions")


def write_all(result: xr.Dataset, folder: Path, *, mean: xr.DataArray | None) -> list[Path]:
    """Maps, sidecars and, where the libraries that draw are installed, figures over the mean image."""
    return [*write_maps(result, folder), *(_draw(result, folder, mean) if can_draw() else [])]


def _draw(result: xr.Dataset, folder: Path, mean: xr.DataArray | None) -> list[Path]:
    from slcluster.maps import named_scores
    from slcluster.plots import plot_f_map, plot_score_map, plot_sphere_size

    start = _file_name(f"{result.attrs['subject']}_")
    if "score" not in result:
        path = folder / f"{start}F.png"
        plot_f_map(result, mean, path=path)
        return [path]
    paths = []
    names = named_scores(result)
    for name in names:
        label = "score" if len(names) == 1 else f"score-{name}"
        paths.append(folder / _file_name(f"{start}{label}.png"))
        plot_score_map(result, mean, metric=name, path=paths[-1])
    paths.append(folder / f"{start}sphere_size.png")
    plot_sphere_size(result, mean, path=paths[-1])
    return paths


def write_maps(
    result: xr.Dataset, folder: Path, *, background: float = math.nan, folds: bool = False
) -> list[Path]:
    """Write every map of a result as NIfTI with a sidecar.

    Parameters
    ----------
    result : xarray.Dataset
        Of a searchlight or :func:`slcluster.f_score`, computed.
    folder : Path
        Made where it is missing. Files are called ``<subject>_<map>.nii.gz``; those there are replaced.
    background : float
        Written where there is no value.
    folds : bool
        Also the scores of each fold, as the fourth axis.

    Returns
    -------
    list of Path
        The maps.
    """
    from slcluster.io.export import to_nifti, write_sidecar
    from slcluster.store.staging import refuse_inside_store

    written = []
    refuse_inside_store(folder.resolve() / "maps")
    for name, da in _named_maps(result, folds):
        start = folder / _file_name(f"{result.attrs['subject']}_{name}")
        path = to_nifti(da, f"{start}.nii.gz", background=background)
        about = {"file": path.name, "map": str(da.attrs.get("long_name", name)), "background": background}
        says = sidecar(result)
        if "filled" not in da.attrs:  # as counts and sizes of spheres are not, where scores are
            says.pop("filled", None)
        write_sidecar(f"{start}.json", {**about, **says})
        written.append(path)
    return written


def _file_name(text: str) -> str:
    """Text as a file may be called, in any folder: a subject or a metric may have any name."""
    return re.sub(r"[^\w.+-]", "-", text).lstrip(".") or "-"


def _named_maps(result: xr.Dataset, folds: bool) -> Iterator[tuple[str, xr.DataArray]]:
    """Every map in a file of its own, several metrics apart."""
    from slcluster.maps import single_maps

    for name, da in result.data_vars.items():
        if "fold" not in da.dims or folds:
            maps = list(single_maps(da))
            for label, one in maps:
                yield (str(name) if len(maps) == 1 else f"{name}-{label}"), one


def sidecar(result: xr.Dataset) -> dict[str, Any]:
    """Everything that a result says about how it was made, as plain data: parameters, digests, versions."""
    return {
        str(name): json.loads(value) if name in _JSON and isinstance(value, str) else value
        for name, value in result.attrs.items()
    }


def can_draw() -> bool:
    """Whether the libraries that draw are installed; says how to get them where not."""
    if find_spec("matplotlib") and find_spec("nilearn"):
        return True
    log.info("no figures: pip install 'slcluster[plot]'")
    return False


def shown(path: str | Path) -> str:
    """A path for people: from the current folder, where it lies below it."""
    absolute, here = Path(path).expanduser().absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)
