"""Commands for clusters: one is tried before work depends on it, or stays under a name."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from slcluster.cli.options import common, flags_of, model_of
from slcluster.cluster.kinds import KINDS
from slcluster.cluster.quantities import Duration
from slcluster.errors import SlclusterError
from slcluster.jobs import ClusterOptions

if TYPE_CHECKING:
    from slcluster.cluster.service import Service

__all__ = ["cluster", "describe"]

#: The command that a first word which is no command belongs to. Shown as such in the help.
_TRY = "PROFILE"


class _Profiles(click.Group):
    """Commands of their own, and one for a first word that is a profile."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else "--help"
        if first not in self.commands and first not in ctx.help_option_names:
            close = difflib.get_close_matches(first, set(self.commands) - {_TRY}, n=1, cutoff=0.75)
            if close and not (first in KINDS or Path(first).exists()):
                raise click.UsageError(
                    f"{first!r} is no command and no profile; did you mean {close[0]}?", ctx
                )
            args = [_TRY, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class _Stays(ClusterOptions):
    """A cluster with a name."""

    idle_timeout: Duration | None = None


@click.group(cls=_Profiles, short_help="Try a cluster, or keep one running under a name.")
def cluster() -> None:
    """Try a cluster before work depends on it, or keep one running for all your commands and notebooks.

    PROFILE is a kind (local, slurm, pbs, sge, lsf, oar, htcondor), a YAML profile, the address of a scheduler that
    runs already, or the name of a cluster that does. A file that is called as a command here is, needs its path:
    ./start

    \b
    Examples:
      slcluster cluster deploy/slurm.yaml --dry-run
      slcluster cluster slurm.yaml --workers 1
      slcluster cluster start slurm.yaml --name lab --workers 16 --idle-timeout 2h
      slcluster searchlight job.yaml --cluster lab
      slcluster cluster list
    """


@cluster.command(_TRY, short_help="Try a profile, or print its job script.")
@click.argument("profile", metavar="")
@flags_of(ClusterOptions, without=("cluster",))
@click.option(
    "--dry-run", is_flag=True, help="Start nothing; print the job script, or what would be started here."
)
@common
def try_profile(profile: str, dry_run: bool, **flags: Any) -> None:
    """Try a cluster: start it, wait for a worker, check that it has this slcluster, stop it.

    One that runs already, at an address or under a name, is not stopped.

    \b
    Examples:
      slcluster cluster deploy/slurm.yaml --dry-run
      slcluster cluster slurm.yaml --workers 1
      slcluster cluster lab
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


@cluster.command(short_help="Keep a cluster running under a name.")
@click.argument("profile")
@click.option("--name", required=True, metavar="NAME", help="What commands and notebooks attach to.")
@flags_of(ClusterOptions, without=("cluster", "credentials"))
@click.option(
    "--idle-timeout",
    metavar="TIME",
    help="Stop when nothing has been computed for so long, such as 2h. Clients that only stay connected do not count.",
)
@click.option(
    "--foreground", is_flag=True, help="Be the cluster, instead of leaving one behind: for systemd."
)
@click.option("--log", type=click.Path(path_type=Path), hidden=True)
@common
def start(
    profile: str, name: str, idle_timeout: str | None, foreground: bool, log: Path | None, **flags: Any
) -> None:
    """Keep a cluster running under a name, for every command and notebook of yours.

    It stays when you log out. Only you can use it: everything goes through TLS, with keys that nobody else can
    read, also on this machine. Runs that share it go on side by side, block for block. In Python:
    slc.attach("lab").

    \b
    Examples:
      slcluster cluster start local --name lab
      slcluster cluster start slurm.yaml --name lab --workers 16 --idle-timeout 2h
      slcluster searchlight job.yaml --cluster lab
    """
    from slcluster.cluster.serving import launch, serve

    options = model_of(_Stays, {**flags, "cluster": profile, "idle_timeout": idle_timeout})
    arguments = options.profile_arguments()
    profile = arguments.pop("cluster")
    if foreground:
        serve(name, profile, idle_timeout=idle_timeout, log_file=log, **arguments)
        return
    service = launch(name, profile, idle_timeout=idle_timeout, **arguments)
    click.echo(
        f"cluster {name} runs on {service.host}; use it with --cluster {name}, or slc.attach({name!r})"
    )
    click.echo(f"stop it with: slcluster cluster stop {name}; its log: {service.log}")


@cluster.command("list", short_help="Show the clusters that have a name.")
@common
def list_clusters() -> None:
    """Show the clusters that have a name: where they are, who works, how to see the dashboard.

    \b
    Example:
      slcluster cluster list
    """
    from slcluster.cluster.service import list_services

    services = list_services()
    for service in services:
        click.echo("\n".join(_lines(service)))
    if not services:
        click.echo("no clusters; start one with: slcluster cluster start PROFILE --name NAME")


def _lines(service: Service) -> list[str]:
    """What to say of a cluster."""
    from slcluster.cluster.service import describe_service

    head = f"{service.name}: {service.kind}, {service.state} on {service.host}, process {service.pid}"
    if service.state == "gone":
        return [head, f"  its log ends: {service.last_lines() or '(nothing)'}", f"  {_again(service)}"]
    if service.state == "starting":
        return [head]
    try:
        about = describe_service(service)
    except SlclusterError as error:
        return [head, f"  {error}"]
    runs = ", ".join(f"{run} ({left} blocks handed out)" for run, left in about["runs"])
    return [
        f"{head}, {about['workers']} of {about['wanted']} workers, {service.address}",
        f"  runs: {runs or 'none'}",
        f"  dashboard: {service.dashboard}; from another machine: {service.tunnel}",
    ]


def _again(service: Service) -> str:
    return (
        f"start it again with: slcluster cluster start {service.profile} --name {service.name}, or remove it with: "
        f"slcluster cluster stop {service.name}"
    )


@cluster.command(short_help="Give a cluster another number of workers.")
@click.argument("name")
@click.argument("workers", type=click.IntRange(min=0), metavar="N")
@common
def scale(name: str, workers: int) -> None:
    """Give a cluster another number of workers. Those that leave finish nothing; their blocks are done elsewhere.

    Of a batch profile, N is rounded up to whole jobs. A profile that adapts has a fixed number from then on. 0 keeps
    the cluster without workers.

    \b
    Example:
      slcluster cluster scale lab 32
    """
    from slcluster.cluster.service import scale_service

    scale_service(name, workers)
    click.echo(
        f"cluster {name} is to have {workers} workers; slcluster cluster list shows those that are there"
    )


@cluster.command(short_help="Stop a cluster.")
@click.argument("name")
@common
def stop(name: str) -> None:
    """Stop a cluster, with its workers and batch jobs, and remove its keys. Runs on it end, and can be resumed.

    \b
    Example:
      slcluster cluster stop lab
    """
    from slcluster.cluster.service import stop_service

    stop_service(name)
    click.echo(f"cluster {name} has stopped")


def describe(options: ClusterOptions) -> str:
    """What a cluster would be: its job script or resource, or a line about what would be started."""
    from slcluster.cluster.batch import job_script
    from slcluster.cluster.gateway import cluster_options
    from slcluster.cluster.kinds import GatewayProfile, KubernetesProfile, LocalProfile
    from slcluster.cluster.kubernetes import cluster_spec
    from slcluster.cluster.profiles import is_address, load_profile
    from slcluster.cluster.service import is_service

    if is_address(options.cluster):
        return f"the scheduler at {options.cluster}, which runs already"
    if is_service(options.cluster):
        return f"the cluster {options.cluster}, which runs already; see slcluster cluster list"
    arguments = options.profile_arguments()
    where = arguments.pop("cluster")
    profile = load_profile(where, **arguments)
    if isinstance(profile, LocalProfile):
        n_workers = profile.workers or "one for each core"
        return f"workers on this machine: {n_workers}, threads: {profile.threads}, memory: {profile.memory or 'even shares'}"
    if isinstance(profile, KubernetesProfile):
        return yaml.safe_dump(cluster_spec(profile), sort_keys=False).rstrip("\n")
    if isinstance(profile, GatewayProfile):
        where = profile.address or "Dask's configuration"
        wanted = ", ".join(f"{name}: {value}" for name, value in cluster_options(profile).items())
        return f"a cluster of the gateway at {where}; options: {wanted or 'its own defaults'}"
    return job_script(where, **arguments).rstrip("\n")
