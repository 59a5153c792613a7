"""The command that tries a cluster before work depends on it."""

from __future__ import annotations

from typing import Any

import click

from slcluster.cli.options import common, flags_of, model_of
from slcluster.jobs import ClusterOptions

__all__ = ["cluster", "describe"]


@click.command(short_help="Try a cluster profile, or print its job script.")
@click.argument("profile", metavar="PROFILE")
@flags_of(ClusterOptions, without=("cluster",))
@click.option(
    "--dry-run", is_flag=True, help="Start nothing; print the job script, or what would be started here."
)
@common
def cluster(profile: str, dry_run: bool, **flags: Any) -> None:
    """Try a cluster: start it, wait for a worker, check that it has this slcluster, stop it.

    PROFILE is local, slurm, a YAML profile, or the address of a scheduler that runs already.

    \b
    Examples:
      slcluster cluster deploy/slurm.yaml --dry-run
      slcluster cluster slurm.yaml --workers 1
    """
    from slcluster.cluster import connect

    options = model_of(ClusterOptions, {**flags, "cluster": profile})
    if dry_run:
        click.echo(describe(options))
        return
    with connect(**options.connect_arguments()) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        for address, about in workers.items():
            memory = f"{about['memory_limit'] / 1e9:.3g} GB" if about["memory_limit"] else "unlimited memory"
            click.echo(f"{address}  {about['host']}, {about['nthreads']} threads, {memory}")
        click.echo(f"{len(workers)} workers, all with this slcluster")


def describe(options: ClusterOptions) -> str:
    """What a cluster would be: its job script, or a line about what would be started here."""
    from slcluster.cluster import job_script
    from slcluster.cluster.kinds import LocalProfile
    from slcluster.cluster.profiles import is_address, load_profile

    if is_address(options.cluster):
        return f"the scheduler at {options.cluster}, which runs already"
    arguments = options.connect_arguments()
    where = arguments.pop("cluster")
    profile = load_profile(where, **arguments)
    if isinstance(profile, LocalProfile):
        n_workers = profile.workers or "one for each core"
        return f"workers on this machine: {n_workers}, threads: {profile.threads}, memory: {profile.memory or 'even shares'}"
    return job_script(where, **arguments).rstrip("\n")
