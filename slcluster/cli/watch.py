"""The command that shows results as they fill in."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import click

from slcluster.cli.options import common

__all__ = ["watch"]


@click.command(short_help="Show results in the browser as they fill in.")
@click.argument("results", nargs=-1, required=True, metavar="RESULT...")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Where to listen on this machine; 0 is any free port.  [default: 8790, or any free one]",
)
@common
def watch(results: tuple[str, ...], port: int | None) -> None:
    """Show results in the browser while blocks finish, finished or interrupted. Reads the stores alone.

    RESULT is a result store, or the folder of several. The pages are served on this machine, to nobody else;
    Ctrl-C ends that. Computing does not need them: start and stop them at will.

    \b
    Examples:
      slcluster watch maps.zarr
      slcluster watch results/ --port 9000
    """
    from slcluster.cli.results import stores_in
    from slcluster.store.result import read_result_attrs
    from slcluster.watch.server import serve

    named = [Path(name).expanduser() for name in results]
    for path in stores_in(results):
        if path in named:  # of one damaged result in a folder the page itself tells
            read_result_attrs(path)
    try:
        serve(lambda: stores_in(results), port=port, ready=_tell)
    except KeyboardInterrupt:
        return


def _tell(address: str) -> None:
    click.echo(address)
    if "SSH_CONNECTION" in os.environ:
        port = address.rsplit(":", 1)[1].split("/")[0]
        click.echo(f"from your own machine: ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}")
    click.echo("Ctrl-C ends this")
