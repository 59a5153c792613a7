"""Commands that plan and compute: ``plan``, ``searchlight``, ``resume``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slcluster.cli.clusters import describe
from slcluster.cli.files import shown, write_all
from slcluster.cli.options import Sectioned, common, flags_of, given, imports, job_of, model_of
from slcluster.cli.submitting import single_job, submit_again
from slcluster.errors import InputError, SlclusterError, StorePathError
from slcluster.jobs import AnalysisOptions, ClusterOptions, IngestOptions, Job, OutputOptions, SelectOptions
from slcluster.jobs.paths import below, usable_subject

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["check_job", "plan", "resume", "resume_results", "run_job", "searchlight"]

#: Maps of one result that its last line speaks of.
_MAPS_TOLD = 6


@click.command(cls=Sectioned, short_help="Say what a searchlight would do and cost.")
@click.argument("inputs", nargs=-1, metavar="STORE... | JOB.yaml")
@flags_of(SelectOptions, "Samples")
@flags_of(AnalysisOptions, "Analysis")
@imports
@common
def plan(inputs: tuple[str, ...], **flags: Any) -> None:
    """Say what a searchlight would do and cost. Nothing is fitted.

    \b
    Examples:
      slcluster plan sub-01.zarr --conditions face,house --radius-mm 5.6
      slcluster plan job.yaml --memory-limit 2GB
    """
    job = job_of(inputs, flags)
    for path in job.store:
        click.echo(_planned(job, _subject(job, path)))


@click.command(cls=Sectioned, short_help="Map where conditions can be told apart.")
@click.argument("inputs", nargs=-1, metavar="STORE... | JOB.yaml")
@flags_of(SelectOptions, "Samples")
@flags_of(AnalysisOptions, "Analysis")
@flags_of(OutputOptions, "Results")
@flags_of(ClusterOptions, "Where to compute")
@flags_of(IngestOptions, "Files, where the store is absent")
@imports
@click.option(
    "--dry-run", is_flag=True, help="Print the plan, and the job script of a batch cluster; compute nothing."
)
@common
@click.pass_context
def searchlight(ctx: click.Context, inputs: tuple[str, ...], dry_run: bool, **flags: Any) -> None:
    """Map where in the brain conditions can be told apart.

    Give subject stores and flags, or a job file whose keys are the flags; flags win. Where --bold is given and
    the store is absent, it is written first. An interrupted run goes on with the same command, or with
    "slcluster resume OUT".

    \b
    Examples:
      slcluster searchlight sub-01.zarr --conditions face,house --radius-mm 5.6 --out maps.zarr --export maps
      slcluster searchlight job.yaml
      slcluster searchlight job.yaml --cluster slurm.yaml --workers 32 --dry-run
      slcluster searchlight sub-*.zarr --radius-mm 8 --estimator logistic --out results
    """
    job = job_of(inputs, flags)
    if dry_run:
        _dry_run(job)
        return
    run_job(job, ctx.meta["progress"])


@click.command(cls=Sectioned, short_help="Go on with an interrupted result.")
@click.argument("results", nargs=-1, required=True, metavar="RESULT...")
@flags_of(ClusterOptions)
@click.option(
    "--submit",
    "to_queue",
    is_flag=True,
    help="Leave it to the cluster, as slcluster submit does; to the one it was submitted to before, or --cluster.",
)
@single_job
@common
@click.pass_context
def resume(
    ctx: click.Context, results: tuple[str, ...], to_queue: bool, single_job: bool, **flags: Any
) -> None:
    """Go on with an interrupted result, from its store alone. Blocks that are done stay done.

    RESULT is a result store, or the folder of several.

    \b
    Examples:
      slcluster resume maps.zarr
      slcluster resume maps.zarr --cluster slurm.yaml --workers 32
      slcluster resume maps.zarr --submit
    """
    from slcluster.cli.results import stores_in

    options = model_of(ClusterOptions, flags)
    if to_queue:
        for path in results:
            submit_again(path, given(ClusterOptions, flags), single_job)
        return
    if single_job:
        raise click.UsageError("--single-job goes with --submit", ctx)
    resume_results(stores_in(results), options, ctx.meta["progress"])


def resume_results(results: Sequence[str | Path], options: ClusterOptions, progress: Any) -> None:
    """Go on with results that are not finished, and say what came out of all."""
    from slcluster.durable import check_out
    from slcluster.searchlight import open_result, status
    from slcluster.searchlight import resume as go_on

    unfinished = [path for path in results if not status(path).is_finished]
    for path in unfinished:
        check_out(path)
    for path in results:
        if path not in unfinished:
            click.echo(_summary(open_result(path), path))
    if unfinished:
        with _connected(options, unfinished) as client:
            for path in unfinished:
                click.echo(_summary(go_on(path, client=client, progress=progress), path))


def check_job(job: Job) -> list[Any]:
    """The plans of a job, also of a subject that is not ingested yet. Computes nothing, writes nothing.

    Raises
    ------
    SlclusterError
        What the job would fail with later, as far as that shows before samples are read: inputs that do not fit,
        a plan that cannot be, a place where no result can be.
    """
    from slcluster.durable import check_out

    if job.out is None:
        raise InputError("--out is missing: where the result store goes")
    is_there = [path.exists() for path in job.store]
    subjects = [
        _subject(job, path) if there else _preview(job, path)
        for path, there in zip(job.store, is_there, strict=True)
    ]
    plans = [
        _planned(job, subject, is_preview=not there)
        for subject, there in zip(subjects, is_there, strict=True)
    ]
    for target, plan, there in zip(_targets(job, subjects), plans, is_there, strict=True):
        check_out(target, plan=plan if there else None)
    return plans


def run_job(job: Job, progress: Any) -> list[xr.Dataset]:
    """Do what a job says, and say what came out.

    Returns
    -------
    list of xarray.Dataset
        The result of each subject.

    Raises
    ------
    SlclusterError
        As the functions that do the work. One subject of several that fails is told, and the others are done
        before this raises.
    """
    from slcluster.durable import check_out

    if job.out is None:
        raise InputError("--out is missing: where the result store goes")
    if len(job.store) == 1:
        check_out(job.out)  # before a subject is ingested for nothing
    subjects = _subjects(job, progress)
    targets = _targets(job, subjects)
    # A mistake must show before a cluster is waited for. One subject of several may fail later, by itself.
    plans = [_planned(job, subject) for subject in subjects]
    if len(plans) == 1:
        check_out(targets[0], plan=plans[0])
    is_done = all(_is_finished(target) for target in targets)
    with nullcontext() if is_done else _connected(job, [*job.store, *targets]) as client:
        return _compute_all(job, subjects, targets, client, progress)


@contextmanager
def _connected(options: ClusterOptions, paths: Sequence[str | Path]) -> Iterator[Any]:
    """A client whose workers see these stores, or the folders that they will be in."""
    from slcluster.cluster import check_sees, connect

    with connect(**options.connect_arguments()) as client:
        for path in paths:
            absolute = Path(path).absolute()
            check_sees(client, next(part for part in (absolute, *absolute.parents) if part.exists()))
        yield client


def _is_finished(path: Path) -> bool:
    from slcluster.searchlight import status

    try:
        return path.exists() and status(path).is_finished
    except SlclusterError:  # told when its turn comes
        return False


def _subject(job: Job, path: Path) -> xr.Dataset:
    from slcluster.store import open_store, select

    if not path.exists():
        raise StorePathError(f"no store at {path}; write it with slcluster ingest, or give --bold")
    return select(open_store(path), **job.select_arguments())


def _preview(job: Job, path: Path) -> xr.Dataset:
    """The subject that would be ingested to a path, without its samples."""
    from slcluster.ingest import preview
    from slcluster.store import select

    if job.bold is None:
        return _subject(job, path)  # says that nothing is there
    _refuse_several(job)
    return select(preview(**job.ingest_arguments()), **job.select_arguments())


def _planned(job: Job, subject: xr.Dataset, *, is_preview: bool = False) -> Any:
    from slcluster.planner import plan

    # A preview has no samples that could be non-finite.
    arguments = {**job.plan_arguments(), **({"nonfinite": "zero"} if is_preview else {})}
    return plan(subject, **arguments)


def _refuse_several(job: Job) -> None:
    if len(job.store) > 1:
        raise InputError(
            f"--bold is of one subject, but there are {len(job.store)} stores; ingest each by itself"
        )


def _subjects(job: Job, progress: Any) -> list[xr.Dataset]:
    """All subjects, ingested where asked."""
    if job.bold is not None:
        _refuse_several(job)
    subjects = []
    for path in job.store:
        if job.bold is not None and not path.exists():
            from slcluster.ingest import ingest

            ingest(store=path, progress=progress, **job.ingest_arguments())
        subjects.append(_subject(job, path))
    return subjects


def _targets(job: Job, subjects: list[xr.Dataset]) -> list[Path]:
    """Where each subject's result goes: ``out`` itself, or one store a subject in it."""
    assert job.out is not None
    if len(subjects) == 1:
        return [job.out]
    names = [str(subject.attrs["subject"]) for subject in subjects]
    for name in names:
        usable_subject(name)
        if names.count(name) > 1:
            raise InputError(
                f"{names.count(name)} stores are of subject {name!r}; each needs a name of its own"
            )
    return [below(job.out, f"{name}.zarr") for name in names]


def _compute_all(
    job: Job, subjects: list[xr.Dataset], targets: list[Path], client: Any, progress: Any
) -> list[xr.Dataset]:
    results, failed = [], []
    for subject, out in zip(subjects, targets, strict=True):
        name = str(subject.attrs["subject"])
        try:
            result = _compute(job, subject, out, client, progress)
        except SlclusterError as error:
            if len(subjects) == 1 or (client is not None and client.status != "running"):
                raise  # without its cluster the others need not be tried
            failed.append(name)
            click.echo(f"slcluster: {name}: {error}", err=True)
            continue
        results.append(result)
        if job.export is not None:
            folder = job.export if len(subjects) == 1 else below(job.export, name)
            for path in write_all(result, folder, mean=subject["mean"]):
                click.echo(f"  {shown(path)}")
    if failed:
        raise SlclusterError(f"{len(failed)} of {len(subjects)} subjects failed: {', '.join(failed)}")
    return results


def _compute(job: Job, subject: xr.Dataset, out: Path, client: Any, progress: Any) -> xr.Dataset:
    from slcluster.searchlight import searchlight

    result = searchlight(subject, out=out, client=client, progress=progress, **job.plan_arguments())
    click.echo(_summary(result, out))
    return result


def _summary(result: xr.Dataset, path: str | Path) -> str:
    """One line about a finished result."""
    from slcluster.maps import named_scores

    parts = [
        f"{name} mean {float(values.mean()):.3f}, highest {float(values.max()):.3f}"
        for name, values in named_scores(result).items()
    ]
    if len(parts) > _MAPS_TOLD:
        parts[_MAPS_TOLD:] = [f"and {len(parts) - _MAPS_TOLD} more maps"]
    chance = result.attrs.get("chance")
    text = f"{result.attrs['subject']}: {result.attrs['n_centers']:,} centers, {'; '.join(parts)}"
    return f"{text}{f' (chance {chance:.3g})' if chance else ''}; {shown(path)}"


def _dry_run(job: Job) -> None:
    for path in job.store:
        if job.bold is not None and not path.exists():
            click.echo(f"{path} would be written from {', '.join(map(str, job.bold))}")
            click.echo(_planned(job, _preview(job, path), is_preview=True))
        else:
            click.echo(_planned(job, _subject(job, path)))
    click.echo(f"\n{describe(job)}")
