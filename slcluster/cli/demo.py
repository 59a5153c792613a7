"""The command for a newcomer without data: everything once, on a simulated brain whose truth is known."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slcluster.cli.options import common
from slcluster.errors import InputError, cannot_write
from slcluster.jobs import Job, load_job

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["demo"]

#: Written first, so that a folder is known as the demo's own.
_MARK = "job.yaml"

_JOB = """\
# What "slcluster demo" did. Do it again, or change it, with: slcluster searchlight {mark}
# Written by slcluster demo; the folder is replaced when the demo runs again.
bold: files/bold.nii.gz
mask: files/mask.nii.gz
labels: files/labels.txt
subject: simulated
store: simulated.zarr

conditions: [face, house]
radius_mm: {radius_mm}
estimator: svc
cv: {{class: KFold, params: {{n_splits: 4}}}}

out: searchlight.zarr
export: maps
cluster: local
workers: 2
"""

#: Off the lattice of the simulated voxels (3.5 x 3.75 x 3.75 mm), as in the reference example: 19 voxels a sphere.
_RADIUS_MM = 5.6


@click.command(short_help="Simulate a brain and analyse it from end to end.")
@click.argument("folder", default="slcluster-demo", metavar="[FOLDER]")
@click.option("--seed", default=0, show_default=True, help="Equal seeds give equal brains.")
@common
@click.pass_context
def demo(ctx: click.Context, folder: str, seed: int) -> None:
    """Simulate a brain with known informative spheres and analyse it from end to end.

    Writes NIfTI files and labels as a scanner's would be, ingests them, runs the searchlight over the whole brain on
    two workers, maps F, and leaves NIfTI maps, figures and sidecars in FOLDER (slcluster-demo where not given).

    \b
    Examples:
      slcluster demo
      slcluster demo /tmp/demo --seed 7
    """
    from slcluster.cli.analyse import run_job

    began = time.monotonic()
    root = _own_folder(Path(folder).expanduser())
    truth = _simulate(root, seed)
    job = load_job(root / _MARK)
    (result,) = run_job(job, ctx.meta["progress"])
    _map_f(job, root, result)
    _report(root, truth, result, time.monotonic() - began)


def _own_folder(root: Path) -> Path:
    """The folder, empty but for the job file."""
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file; the demo needs a folder")
    if root.is_dir() and any(root.iterdir()):
        mark = root / _MARK
        if not mark.is_file() or "slcluster demo" not in mark.read_text(errors="replace"):
            raise InputError(f"{root} is not empty and not of an earlier demo; name another folder")
        for name in ("files", "maps", "simulated.zarr", "searchlight.zarr"):
            shutil.rmtree(root / name, ignore_errors=True)
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / _MARK).write_text(_JOB.format(mark=root / _MARK, radius_mm=_RADIUS_MM))
    except OSError as error:
        raise cannot_write(root, error) from error
    return root


def _simulate(root: Path, seed: int) -> xr.Dataset:
    from slcluster.io.export import write_images
    from slcluster.simulate import simulate

    click.echo(f"simulating a brain (seed {seed})", err=True)
    truth = simulate(seed=seed)
    write_images(truth, root / "files")
    return truth


def _map_f(job: Job, root: Path, result: xr.Dataset) -> None:
    from slcluster.cli.files import can_draw, shown, write_all
    from slcluster.cli.subject import FScoreOptions, f_maps

    maps, mean = f_maps(job.store[0], FScoreOptions(conditions=job.conditions))
    paths = write_all(maps, root / "maps", mean=mean)
    if can_draw():
        from slcluster.plots import plot_summary

        paths.append(root / "maps" / "simulated_summary.png")
        plot_summary(result, maps, mean, path=paths[-1])
    for path in paths:
        click.echo(f"  {shown(path)}")


def _report(root: Path, truth: xr.Dataset, result: xr.Dataset, seconds: float) -> None:
    from slcluster.simulate import planted_auc

    auc = planted_auc(truth, result["score"], radius_mm=_RADIUS_MM)
    lines = [
        f"Searchlight over {result.attrs['n_centers']:,} centers of {int(truth['mask'].sum()):,} mask voxels, {seconds:.0f} s in all.",
        f'Area under the ROC of accuracy against "inside a planted sphere": {auc.auc:.3f} '
        f"({auc.n_inside:,} centers inside, {auc.n_outside:,} outside).",
        "",
        f"  {root / 'files'}  the simulated scanner files",
        f"  {root / 'simulated.zarr'}  the subject store",
        f"  {root / 'searchlight.zarr'}  the result store",
        f"  {root / 'maps'}  NIfTI maps, figures, sidecars",
        f"  {root / _MARK}  the analysis as a job file: slcluster searchlight {root / _MARK}",
    ]
    click.echo("\n".join(lines))
