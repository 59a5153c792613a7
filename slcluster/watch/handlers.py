"""What the pages ask for. Everything answers to GET alone and changes nothing.

Stores are read in one thread of their own: the event loop of a scheduler must not wait for a file system.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from slcluster.dispatch import announced
from slcluster.errors import SlclusterError, StoreError
from slcluster.watch.results import Place, Results

__all__ = ["ROUTES"]

_HEADERS = {
    # Scripts, styles and data from here alone; no plug-ins, forms or other base.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

_STATIC = Path(__file__).parent / "static"
_FILES = {"": "text/html", "live.css": "text/css", "live.js": "text/javascript"}

_READING = ThreadPoolExecutor(1, thread_name_prefix="slcluster-watch")

#: Of every scheduler in this process.
_OF_SCHEDULERS: WeakKeyDictionary[Any, Results] = WeakKeyDictionary()


def _of_scheduler(scheduler: Any) -> Results:
    if scheduler not in _OF_SCHEDULERS:
        seen = weakref.ref(scheduler)  # or the value would keep its key for ever

        def places() -> dict[str, Place]:
            return {key: Place(Path(about["path"]), key) for key, about in announced(seen()).items()}

        _OF_SCHEDULERS[scheduler] = Results(places)
    return _OF_SCHEDULERS[scheduler]


class _Handler(RequestHandler):
    """Base of all.

    Parameters
    ----------
    dask_server : distributed.Scheduler, optional
        Whose dashboard this is.
    results : Results, optional
        Of a server of our own.
    hosts : set of str, optional
        Names that this server may be called by: a page of another site that has its own name resolved to
        this machine (DNS rebinding) gets nothing.
    """

    def initialize(
        self, dask_server: Any = None, results: Results | None = None, hosts: frozenset[str] | None = None
    ) -> None:
        self._scheduler = dask_server
        self._results = results
        self._hosts = hosts

    def set_default_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        if self._hosts is not None and self.request.host_name not in self._hosts:
            raise HTTPError(403, reason=f"This server answers to {' and '.join(sorted(self._hosts))} alone")

    def results(self) -> Results:
        return self._results if self._results is not None else _of_scheduler(self._scheduler)

    async def reading(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call what reads stores in its thread. Ends the request where it can't."""
        try:
            return await asyncio.get_running_loop().run_in_executor(_READING, function, *arguments)
        except StoreError as error:
            status, problem = 404, str(error)
        except (SlclusterError, OSError) as error:
            status, problem = 500, str(error)
        self.set_status(status)
        await self._end({"problem": problem})
        return None

    async def give(self, content: bytes, kind: str) -> None:
        """Finish with bytes, compressed where the browser takes that and it is worth it."""
        self.set_header("Content-Type", kind)
        self.set_header("Vary", "Accept-Encoding")
        if len(content) > 1000 and "gzip" in self.request.headers.get("Accept-Encoding", ""):
            self.set_header("Content-Encoding", "gzip")
            content = await asyncio.get_running_loop().run_in_executor(_READING, gzip.compress, content, 1)
        await self._end(content)

    async def _end(self, content: bytes | dict[str, str]) -> None:
        with suppress(StreamClosedError):  # the page was closed meanwhile
            await self.finish(content)

    async def give_json(self, content: Any) -> None:
        await self.give(json.dumps(content, allow_nan=False).encode(), "application/json")


class _Home(_Handler):
    def get(self) -> None:
        # Relative: a proxy may have put something before our path.
        self.redirect("slcluster/")


class _File(_Handler):
    async def get(self, name: str) -> None:
        content = (_STATIC / (name or "index.html")).read_bytes()
        await self.give(content, f"{_FILES[name]}; charset=utf-8")


class _List(_Handler):
    async def get(self) -> None:
        found = await self.reading(self.results().listing)
        if found is not None:
            await self.give_json({"has_scheduler": self._scheduler is not None, "results": found})


class _About(_Handler):
    async def get(self, key: str) -> None:
        results = self.results()
        found = await self.reading(lambda: results.follow(key).about)
        if found is not None:
            await self.give_json(found)


class _State(_Handler):
    async def get(self, key: str) -> None:
        results = self.results()

        def read() -> dict[str, Any]:
            follower = results.follow(key)
            follower.refresh()
            return follower.state()

        found = await self.reading(read)
        if found is not None:
            if self._scheduler is not None:
                found["connected"] = sorted(str(worker.name) for worker in self._scheduler.workers.values())
            await self.give_json(found)


class _Bytes(_Handler):
    async def get(self, key: str, what: str) -> None:
        results = self.results()
        found = await self.reading(lambda: getattr(results.follow(key), what)())
        if found is not None:
            await self.give(found, "application/octet-stream")


class _Values(_Handler):
    """An increment: how many blocks (uint32), their numbers (uint32), their centers' values (float32)."""

    async def get(self, key: str) -> None:
        number, since = (self._number(name) for name in ("map", "since"))
        epoch, results = self.get_query_argument("epoch"), self.results()

        def read() -> bytes | None:
            follower = results.follow(key)
            is_ours = epoch == follower.epoch and number < follower.n_maps
            return None if not is_ours else _increment(follower.values(number, since))

        found = await self.reading(lambda: (read(),))
        if found is None:
            return
        if found[0] is None:
            raise HTTPError(
                409, reason="Counted from another beginning, or no such map: ask for the state again"
            )
        await self.give(found[0], "application/octet-stream")

    def _number(self, name: str) -> int:
        text = self.get_query_argument(name)
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise HTTPError(400, reason=f"{name} must be a number")
        return int(text)


def _increment(found: tuple[Any, Any]) -> bytes:
    blocks, values = found
    return len(blocks).to_bytes(4, "little") + blocks.tobytes() + values.tobytes()


_KEY = r"slcluster/result/([0-9a-f]{32})"

#: Paths below the dashboard's, and who answers.
ROUTES: list[tuple[str, type[_Handler]]] = [
    (r"slcluster", _Home),
    (rf"slcluster/({'|'.join(map(re.escape, _FILES))})", _File),
    (r"slcluster/results\.json", _List),
    (rf"{_KEY}/about\.json", _About),
    (rf"{_KEY}/state\.json", _State),
    (rf"{_KEY}/(centers|mean)", _Bytes),
    (rf"{_KEY}/values", _Values),
]
