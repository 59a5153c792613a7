"""Commands of runs that are left to a cluster: ``submit``, ``logs``, ``cancel``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slcluster.cli.options import Sectioned, common, flags_of, imports, job_of
from slcluster.errors import StorePathError
from slcluster.jobs import AnalysisOptions, ClusterOptions, IngestOptions, OutputOptions, SelectOptions

if TYPE_CHECKING:
    from slcluster.jobs.folder import RunFolder

__all__ = ["cancel", "coordinate", "logs", "single_job", "submit", "submit_again"]

single_job = click.option(
    "--single-job",
    is_flag=True,
    help="Compute inside the coordinator's job, which is then as large as one worker job. For small runs.",
)


@click.command(cls=Sectioned, short_help="Leave a searchlight to a cluster and go.")
@click.argument("inputs", nargs=-1, metavar="JOB.yaml | STORE...")
@flags_of(SelectOptions, "Samples")
@flags_of(AnalysisOptions, "Analysis")
@flags_of(OutputOptions, "Results")
@flags_of(ClusterOptions, "Where to compute")
@flags_of(IngestOptions, "Files, where the store is absent")
@imports
@single_job
@click.option(
    "--dry-run", is_flag=True, help="Check everything; print the plan and the coordinator's job script."
)
@common
def submit(inputs: tuple[str, ...], single_job: bool, dry_run: bool, **flags: Any) -> None:
    """Leave a searchlight to a cluster: check it, hand it in, return at once.

    A coordinator, itself a batch job, computes it with workers in jobs of their own, and goes on in a follow-up job
    where its walltime is too short. With --cluster local it is a process of this machine that outlives the terminal.
    The options are those of slcluster searchlight. What is kept of the run lies in OUT.run, beside the result.

    \b
    Examples:
      slcluster submit job.yaml --cluster slurm.yaml
      slcluster status maps.zarr
      slcluster logs maps.zarr --follow
      slcluster cancel maps.zarr
      slcluster resume maps.zarr --submit
    """
    from slcluster.cli.analyse import check_job
    from slcluster.cluster.profiles import load_profile
    from slcluster.jobs.folder import RunFolder
    from slcluster.jobs.submission import coordinator_script
    from slcluster.jobs.submission import submit as leave

    job = job_of(inputs, flags)
    plans = check_job(job)
    if not dry_run:
        _tell(leave(job, single_job=single_job))
        return
    for plan in plans:
        click.echo(plan)
    options = job.profile_arguments()
    profile = load_profile(options.pop("cluster"), **options)
    assert job.out is not None  # it has been checked
    run = RunFolder.beside(job.out)
    script = coordinator_script(run, profile, single_job=single_job, packages=job.packages)
    click.echo(f"\n{script.rstrip()}")


def submit_again(result: str, asked: dict[str, Any], single_job: bool) -> None:
    """Leave an unfinished result to a cluster."""
    from slcluster.archive import results_in, status
    from slcluster.durable import check_out
    from slcluster.jobs.folder import RunFolder
    from slcluster.jobs.submission import resubmit

    found = results_in(result)
    if not found and not RunFolder.beside(result).exists:
        raise StorePathError(f"no result at {result}, and no run was submitted for it; see slcluster submit")
    for path in found:
        if not status(path).is_finished:
            check_out(path)
    _tell(resubmit(result, single_job=single_job, **asked))


def _tell(run: RunFolder) -> None:
    from slcluster.cli.files import shown
    from slcluster.cluster.queues import queue_of

    out = shown(run.out)
    click.echo(f"submitted to {queue_of(run.record()['kind']).title}: job {run.jobs()[-1]['job']}")
    for verb, what in (("status", "how far it is"), ("logs", "what it says"), ("cancel", "ends it")):
        click.echo(f"  slcluster {verb} {out}  {what}")


@click.command(short_help="Show what the jobs of a submitted run print.")
@click.argument("result", metavar="RESULT")
@click.option("--follow", "-f", is_flag=True, help="Go on until the run ends.")
@click.option("--coordinator", "only", is_flag=True, help="Not those of workers.")
@common
def logs(result: str, follow: bool, only: bool) -> None:
    """Show what the jobs of a submitted run print: the coordinators' log, then those of workers.

    \b
    Examples:
      slcluster logs maps.zarr
      slcluster logs maps.zarr --follow --coordinator
    """
    from slcluster.jobs.folder import RunFolder
    from slcluster.jobs.situation import situation

    run = RunFolder.beside(result)
    run.record()
    reader = _LogReader(run, only)
    reader.show()
    while follow and situation(run).is_going_on:
        time.sleep(1.0)
        reader.show()
    reader.show()


class _LogReader:
    """Prints what was added to the logs since it last did."""

    def __init__(self, run: RunFolder, only_coordinator: bool) -> None:
        self._run, self._only = run, only_coordinator
        self._seen: dict[Path, int] = {}
        self._last: Path | None = None

    def show(self) -> None:
        for path in self._run.log_files():
            if self._only and path != self._run.coordinator_log:
                continue
            with path.open("rb") as file:
                file.seek(self._seen.get(path, 0))
                fresh = file.read()
            if not fresh:
                continue
            self._seen[path] = self._seen.get(path, 0) + len(fresh)
            if path != self._last:
                click.echo(f"==> {path.name} <==")
                self._last = path
            click.echo(fresh.decode(errors="replace"), nl=False)


@click.command(short_help="Call a submitted run off; it can be resumed.")
@click.argument("results", nargs=-1, required=True, metavar="RESULT...")
@common
def cancel(results: tuple[str, ...]) -> None:
    """Call a submitted run off: its coordinator, the follow-up, and its workers' jobs. Finished blocks stay.

    \b
    Examples:
      slcluster cancel maps.zarr
      slcluster resume maps.zarr --submit
    """
    from slcluster.cli.files import shown
    from slcluster.jobs.folder import RunFolder
    from slcluster.jobs.submission import cancel as call_off

    for path in results:
        ended = call_off(path)
        if not RunFolder.beside(path).is_cancelled:
            click.echo(f"{shown(path)}: it has finished; nothing is cancelled")
            continue
        what = f"cancelled job {', '.join(ended)}" if ended else "cancelled; no job was seen in the queue"
        click.echo(f"{shown(path)}: {what}; to go on: slcluster resume {shown(path)} --submit")


@click.command(hidden=True)
@click.argument("folder")
@click.option("--stop-after", type=float, help="Seconds after which the rest is left to a follow-up job.")
@imports
@common
def coordinate(folder: str, stop_after: float | None, allow_import: tuple[str, ...]) -> None:
    """Compute a submitted run. The job script in its folder calls this."""
    from slcluster.archive import results_in
    from slcluster.cli.analyse import resume_results, run_job
    from slcluster.jobs import load_job
    from slcluster.jobs.coordinator import lead
    from slcluster.jobs.folder import RunFolder

    run = RunFolder(folder)
    where = str(run.cluster_file)

    def work() -> None:
        if run.job_file.exists():
            job = load_job(run.job_file, allow_import=allow_import, is_checked=True, cluster=where)
            run_job(job, True)
        else:
            resume_results(results_in(run.out), ClusterOptions(cluster=where), True)

    lead(run, work, stop_after_s=stop_after)
