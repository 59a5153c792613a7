"""Commands on one subject's samples: ``ingest``, ``fscore``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from pydantic import Field

from slcluster.cli.files import shown, write_all
from slcluster.cli.options import common, flags_of, given, is_job, model_of
from slcluster.jobs import ClusterOptions, IngestOptions, SelectOptions, load_job

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FScoreOptions", "f_maps", "fscore", "ingest"]


@click.command(short_help="Turn NIfTI files, labels and a mask into a subject store.")
@click.argument("paths", nargs=-1, required=True, metavar="BOLD... STORE | JOB.yaml")
@flags_of(IngestOptions, without=("bold",))
@click.option(
    "--overwrite", is_flag=True, help="Replace a store that is there, once the new one is complete."
)
@common
@click.pass_context
def ingest(ctx: click.Context, paths: tuple[str, ...], overwrite: bool, **flags: Any) -> None:
    """Turn NIfTI files, labels and a mask into a subject store.

    BOLD is a 4D image, several runs in order, 3D volumes in order, or a BIDS folder. The store appears when it
    is complete; an ingest that is interrupted leaves nothing behind.

    \b
    Examples:
      slcluster ingest bold.nii.gz sub-01.zarr --mask mask.nii.gz --labels labels.txt
      slcluster ingest run-1.nii.gz run-2.nii.gz sub-01.zarr --mask mask.nii.gz \\
          --events run-1_events.tsv --events run-2_events.tsv --shift-s 5
      slcluster ingest bids/ sub-01.zarr --subject 01
    """
    from slcluster.ingest import ingest as convert

    if len(paths) == 1 and is_job(paths[0]):
        job = load_job(paths[0], **given(IngestOptions, flags))
        if job.bold is None or len(job.store) != 1:
            raise click.UsageError(f"{paths[0]} must name bold and one store", ctx)
        options, store = job.ingest_arguments(), job.store[0]
    elif len(paths) == 1:
        raise click.UsageError(f"give the files and then the store to write, got {paths[0]} alone", ctx)
    else:
        *bold, target = paths
        options = model_of(IngestOptions, {**flags, "bold": tuple(bold)}).ingest_arguments()
        store = Path(target)
    ds = convert(store=store, overwrite=overwrite, progress=ctx.meta["progress"], **options)
    x, y, z, n_samples = (ds.sizes[dim] for dim in ("x", "y", "z", "sample"))
    conditions = ", ".join(sorted(set(map(str, ds["condition"].values))))
    click.echo(
        f"{ds.attrs['subject']}: {x} x {y} x {z} voxels, {int(ds['mask'].sum()):,} in the mask, {n_samples} samples "
        f"in {len(set(ds['run'].values.tolist()))} runs; conditions: {conditions}; {shown(store)}"
    )


class FScoreOptions(SelectOptions):
    """What :func:`slcluster.f_score` takes."""

    standardize: Literal["run"] | None = Field(
        default="run", description="z-score samples within each: run, or none"
    )
    detrend: bool = Field(
        default=False, description="remove the line through each run before samples are chosen"
    )
    target: str = Field(default="condition", description="column whose classes are compared")
    nonfinite: Literal["error", "zero", "exclude"] = Field(
        default="error", description="what to do with NaN in the mask: error, zero or exclude"
    )


@click.command(short_help="Map the one-way ANOVA F between conditions.")
@click.argument("store", metavar="STORE")
@click.option("--out", required=True, metavar="DIR", help="Folder for NIfTI maps, figure and sidecars.")
@flags_of(FScoreOptions)
@click.option("--cluster", help="As for searchlight; threads of this process where not given.")
@flags_of(ClusterOptions, without=("cluster",))
@common
def fscore(store: str, out: str, **flags: Any) -> None:
    """Map the one-way ANOVA F between conditions, its p and -log10 p, voxel by voxel.

    \b
    Examples:
      slcluster fscore sub-01.zarr --conditions face,house --out maps
    """
    from contextlib import nullcontext

    from slcluster.cluster import connect

    options = model_of(FScoreOptions, flags)
    where = model_of(ClusterOptions, flags)
    is_asked = any(flags[name] is not None for name in ClusterOptions.model_fields)
    with connect(**where.connect_arguments()) if is_asked else nullcontext():
        maps, mean = f_maps(Path(store), options)
    for path in write_all(maps, Path(out), mean=mean):
        click.echo(shown(path))


def f_maps(store: Path, options: FScoreOptions) -> tuple[xr.Dataset, xr.DataArray]:
    """The F maps of a store, computed, and the mean image to draw them over."""
    import numpy as np

    from slcluster.inference import f_score
    from slcluster.maps import versions
    from slcluster.store import open_store, select, subject_digest

    subject = select(open_store(store), **options.select_arguments())
    chosen = ("standardize", "detrend", "target", "nonfinite")
    maps = f_score(subject, **{name: getattr(options, name) for name in chosen}).compute()
    values, counts = np.unique([str(v) for v in subject[options.target].values], return_counts=True)
    maps.attrs.update(
        class_counts=json.dumps(dict(zip(values.tolist(), counts.tolist(), strict=True))),
        store_digest=subject_digest(store),
        versions=json.dumps(versions()),
    )
    return maps, subject["mean"]
