"""Results to watch, a server in this process, and how to ask it."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import slcluster as slc
from slcluster.store import open_store, write_array_store
from slcluster.watch.results import Results, stored
from slcluster.watch.server import serving
from tests.conftest import OBLIQUE
from tests.witness import noise_dataset

#: 60 voxels; the last of the blocks is short.
OPTIONS: dict[str, Any] = {"radius_mm": 5.5, "estimator": "gnb", "block_centers": 7}


class Server:
    """A server in this process, and what it answers."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **options: Any) -> Any:
        """An open answer."""
        return urllib.request.urlopen(urllib.request.Request(self.address + path, **options), timeout=60)

    def json(self, path: str) -> Any:
        with self.ask(path) as answer:
            return json.load(answer)

    def only(self) -> str:
        """Path of the one result there is."""
        (line,) = self.json("results.json")["results"]
        return f"result/{line['id']}/"


Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_array_store(
        noise_dataset(affine=OBLIQUE), tmp_path_factory.mktemp("subject") / "subject.zarr"
    )


@pytest.fixture(scope="module")
def finished(subject: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished result of two metrics and two tables."""
    path = tmp_path_factory.mktemp("result") / "out.zarr"
    scoring = ["accuracy", "roc_auc", "hit_rate", "confusion"]
    slc.searchlight(open_store(subject), out=path, scoring=scoring, **OPTIONS)
    return path


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve stores in a thread of this process until the test is over."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    running = []  # the loop itself would let them be collected

    def begin(*paths: Path) -> Server:
        found: list[str] = []
        is_ready = threading.Event()

        def ready(address: str) -> None:
            found.append(address)
            is_ready.set()

        results = Results(stored(lambda: list(paths)))
        running.append(asyncio.run_coroutine_threadsafe(serving(results, 0, ready), loop))
        assert is_ready.wait(60)
        return Server(found[0])

    yield begin
    asyncio.run_coroutine_threadsafe(_ended(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def _ended() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
