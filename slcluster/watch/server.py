"""The live map without any scheduler: a small server for whoever sees the stores."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from socket import socket

from slcluster.errors import InputError, one_line
from slcluster.watch.handlers import ROUTES
from slcluster.watch.results import Results, stored

__all__ = ["PORT", "serve", "serving"]

#: Where a server listens if nobody says otherwise and it is free.
PORT = 8790

_HOST = "127.0.0.1"


def serve(paths: Callable[[], list[Path]], *, port: int | None, ready: Callable[[str], None]) -> None:
    """Serve the live map of result stores on loopback, until the process is interrupted.

    Parameters
    ----------
    paths : callable
        The stores, asked for again whenever a page lists them.
    port : int, optional
        Where to listen. Where not given, :data:`PORT`, or any free one if that is taken.
    ready : callable
        Called with the address once pages are served.

    Raises
    ------
    InputError
        Nobody may listen on this port, or somebody does.
    """
    asyncio.run(serving(Results(stored(paths)), port, ready))


async def serving(results: Results, port: int | None, ready: Callable[[str], None]) -> None:
    """What :func:`serve` runs, until it is cancelled."""
    from tornado.httpserver import HTTPServer
    from tornado.web import Application, RedirectHandler

    arguments = {"results": results, "hosts": frozenset({_HOST, "localhost"})}
    routes = [(f"/{path}", handler, arguments) for path, handler in ROUTES]
    home = ("/", RedirectHandler, {"url": "slcluster/", "permanent": False})
    server = HTTPServer(Application([*routes, home], log_function=lambda _: None))
    sockets = _listen(port)
    server.add_sockets(sockets)
    try:
        ready(f"http://{_HOST}:{sockets[0].getsockname()[1]}/slcluster/")
        await asyncio.Event().wait()
    finally:
        server.stop()


def _listen(port: int | None) -> list[socket]:
    from tornado.netutil import bind_sockets

    try:
        return bind_sockets(PORT if port is None else port, _HOST)
    except OSError as error:
        if port is None and error.errno == errno.EADDRINUSE:
            return bind_sockets(0, _HOST)
        raise InputError(f"cannot listen on port {port}: {one_line(error)}; choose another --port") from error
