"""Commands that look at results: ``status``, ``export``, ``plot``."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slcluster.archive import results_in
from slcluster.cli.options import common
from slcluster.errors import StorePathError

if TYPE_CHECKING:
    import xarray as xr

    from slcluster.filling import Method

__all__ = ["export", "plot", "status"]

log = logging.getLogger("slcluster")

_fill = click.option(
    "--fill",
    type=click.Choice(["nearest", "linear"]),
    help="Fill the voxels between the centers of a result with --center-spacing.",
)


@click.command(short_help="Say how far a result is.")
@click.argument("results", nargs=-1, required=True, metavar="RESULT...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@common
def status(results: tuple[str, ...], as_json: bool) -> None:
    """Say how far a result is: blocks done, rate, who computes it. Reads the store alone, also during the run.

    RESULT is a result store, or the folder of several. Of a run that was submitted also: what the queue says of its
    jobs, what it failed with, and how to reach its dashboard; before there is a result, too.

    \b
    Examples:
      slcluster status maps.zarr
      watch slcluster status results/
    """
    from slcluster.jobs.folder import RunFolder
    from slcluster.jobs.situation import situation
    from slcluster.searchlight import status as how_far

    for name in results:
        run = RunFolder.beside(name)
        left = situation(run) if run.exists else None
        for found in map(how_far, _stores(name, may_lack=run.exists)):
            click.echo(json.dumps(dataclasses.asdict(found)) if as_json else found)
        if left is not None:
            click.echo(json.dumps(dataclasses.asdict(left)) if as_json else left)


@click.command(short_help="Write a result's maps as NIfTI with sidecars.")
@click.argument("result", metavar="RESULT")
@click.argument("folder", metavar="DIR")
@click.option(
    "--background",
    type=click.Choice(["nan", "0"]),
    default="nan",
    show_default=True,
    help="What is written where there is no value.",
)
@click.option("--folds", is_flag=True, help="Also the scores of each fold, as the fourth axis.")
@_fill
@common
def export(result: str, folder: str, background: str, folds: bool, fill: Method | None) -> None:
    """Write a result's maps as NIfTI in the source's space, each with a JSON sidecar.

    \b
    Examples:
      slcluster export maps.zarr maps
      slcluster export maps.zarr maps --background 0 --folds
      slcluster export thin.zarr maps --fill linear
    """
    from slcluster.cli.files import shown, write_maps
    from slcluster.searchlight import open_result

    ds = _filled(open_result(result), fill)
    if ds.attrs["n_blocks_done"] < ds.attrs["n_blocks"]:
        log.warning("%d of %d blocks are done", ds.attrs["n_blocks_done"], ds.attrs["n_blocks"])
    for path in write_maps(ds, Path(folder).expanduser(), background=float(background), folds=folds):
        click.echo(shown(path))


@click.command(short_help="Draw a result's map over the mean image.")
@click.argument("result", metavar="RESULT")
@click.option("--out", "-o", required=True, metavar="FIGURE", help="File to write, such as score.png.")
@click.option(
    "--map", "name", type=click.Choice(["score", "sphere_size"]), default="score", show_default=True
)
@click.option(
    "--metric", help="Which score, where there are several, or a table's map such as hit_rate-face."
)
@click.option(
    "--slice", "slices", type=int, multiple=True, metavar="N", help="Slice to show; several make panels."
)
@click.option(
    "--axis",
    type=click.Choice(["x", "y", "z"]),
    default="z",
    show_default=True,
    help="Axis that slices stand on.",
)
@click.option(
    "--threshold", type=float, metavar="NUMBER", help="Scores above it are drawn; the chance level else."
)
@click.option("--store", metavar="STORE", help="Subject store with the mean image, where it has moved.")
@_fill
@common
def plot(
    result: str,
    out: str,
    name: str,
    metric: str | None,
    slices: tuple[int, ...],
    axis: str,
    threshold: float | None,
    store: str | None,
    fill: Method | None,
) -> None:
    """Draw a result's map over the subject's mean image.

    Without --slice it is cut where the map is strongest.

    \b
    Examples:
      slcluster plot maps.zarr -o score.png
      slcluster plot maps.zarr -o score.png --slice 29 --slice 31 --threshold 0.7
      slcluster plot maps.zarr -o sizes.png --map sphere_size --axis x
    """
    from slcluster.cli.files import shown
    from slcluster.plots import plot_score_map, plot_sphere_size
    from slcluster.searchlight import open_result

    ds = _filled(open_result(result), fill)
    place: dict[str, Any] = {"cut": list(slices) or None, "display_mode": axis, "path": Path(out)}
    if name == "sphere_size":
        if metric is not None or threshold is not None:
            raise click.UsageError(
                "--metric and --threshold are for --map score", click.get_current_context()
            )
        plot_sphere_size(ds, _mean(result, store), **place)
    else:
        plot_score_map(ds, _mean(result, store), metric=metric, threshold=threshold, **place)
    click.echo(shown(out))


def _filled(result: xr.Dataset, method: Method | None) -> xr.Dataset:
    from slcluster.filling import fill_centers

    return result if method is None else fill_centers(result, method=method)


def _mean(result: str, store: str | None) -> xr.DataArray | None:
    """The mean image of the subject, if its store is still where it was."""
    from slcluster.store import open_store
    from slcluster.store.result import read_result_attrs

    if store is not None:
        return open_store(store)["mean"]
    path = read_result_attrs(result)["source_path"]
    if Path(path).exists():
        return open_store(path)["mean"]
    log.warning("the subject store is no longer at %s; drawing without the mean image (see --store)", path)
    return None


def _stores(name: str, *, may_lack: bool) -> list[Path]:
    """The result store that was named, or those that lie in a folder that was named."""
    path = Path(name).expanduser()
    if (path / "zarr.json").exists() or not (path.is_dir() or may_lack):
        return [path]
    inside = results_in(path)
    if not inside and not may_lack:
        raise StorePathError(f"no result in {path}")
    return inside
