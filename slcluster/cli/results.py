"""Commands that look at stores: ``status``, ``fsck``, ``export``, ``plot``."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slcluster.archive import results_in
from slcluster.cli.options import common, flags_of, model_of
from slcluster.errors import SlclusterError, StorePathError
from slcluster.jobs import ClusterOptions

if TYPE_CHECKING:
    import xarray as xr

    from slcluster.filling import Method

__all__ = ["export", "fsck", "plot", "status", "stores_in"]

log = logging.getLogger("slcluster")

_fill = click.option(
    "--fill",
    type=click.Choice(["nearest", "linear"]),
    help="Fill the voxels between the centers of a result with --center-spacing.",
)


class _Turns:
    """Of several stores: what is wrong with one is told, and the others have their turn."""

    def __init__(self, n_stores: int) -> None:
        self._n_stores, self._failed = n_stores, list[str]()

    @contextmanager
    def of(self, path: str | Path) -> Iterator[None]:
        try:
            yield
        except SlclusterError as error:
            if self._n_stores == 1:
                raise
            self._failed.append(str(path))
            log.warning("%s", error)

    def end(self) -> None:
        if self._failed:
            raise SlclusterError(
                f"{len(self._failed)} of {self._n_stores} stores failed: {', '.join(self._failed)}"
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

    runs = {name: RunFolder.beside(name) for name in results}
    paths = {name: stores_in((name,), may_lack=run.exists) for name, run in runs.items()}
    turns = _Turns(sum(map(len, paths.values())))
    for name, run in runs.items():
        left = situation(run) if run.exists else None
        for path in paths[name]:
            with turns.of(path):
                found = how_far(path)
                click.echo(json.dumps(dataclasses.asdict(found)) if as_json else found)
        if left is not None:
            click.echo(json.dumps(dataclasses.asdict(left)) if as_json else left)
    turns.end()


@click.command(short_help="Check every chunk of a store, and repair results.")
@click.argument("stores", nargs=-1, required=True, metavar="STORE...")
@click.option(
    "--repair",
    is_flag=True,
    help="Compute damaged blocks of finished results again, remove those of others and what interrupted writers left.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@flags_of(ClusterOptions)
@common
@click.pass_context
def fsck(ctx: click.Context, stores: tuple[str, ...], repair: bool, as_json: bool, **flags: Any) -> None:
    """Check every chunk of subject stores and results against its checksum, and say what to do.

    STORE is a store, or the folder of several. The exit code is 0 where all are sound and 1 where one is not. The
    options of a cluster say where --repair computes.

    \b
    Examples:
      slcluster fsck sub-01.zarr results/
      slcluster fsck --repair maps.zarr
    """
    from slcluster.cluster import connect
    from slcluster.fsck import fsck as check

    paths, options = stores_in(stores, any_kind=True), model_of(ClusterOptions, flags)
    progress, turns, found = ctx.meta["progress"], _Turns(len(paths)), []
    for path in paths:
        with turns.of(path):
            found.append(check(path, progress=progress))
    if repair:
        # A cluster is started where there is something to compute.
        is_needed = any(one.blocks and one.is_finished for one in found)
        with connect(**options.connect_arguments()) if is_needed else nullcontext() as client:
            for number, one in enumerate(found):
                if one.partial or not one.is_sound:
                    with turns.of(one.path):
                        found[number] = check(one.path, repair=True, client=client, progress=progress)
    for one in found:
        click.echo(json.dumps(dataclasses.asdict(one)) if as_json else one)
    turns.end()
    if not all(one.is_sound for one in found):
        ctx.exit(1)


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


def stores_in(names: tuple[str, ...], *, any_kind: bool = False, may_lack: bool = False) -> list[Path]:
    """Result stores that were named, or that lie in a folder that was named; or stores of any kind of ours."""
    kinds = ("result", "subject") if any_kind else ("result",)
    paths = []
    for name in names:
        path = Path(name).expanduser()
        if (path / "zarr.json").exists() or not (path.is_dir() or may_lack):
            paths.append(path)
            continue
        inside = results_in(path, kinds)
        if not inside and not may_lack:
            raise StorePathError(f"no {' or '.join(kinds)} in {path}")
        paths += inside
    return paths
