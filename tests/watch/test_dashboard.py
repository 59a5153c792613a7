"""The pages on the dashboards of real schedulers."""

from __future__ import annotations

import gc
import shlex
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client

import slcluster as slc
from slcluster.cluster import connect, live_map_link
from slcluster.cluster.settings import LIVE_MAP, dask_settings
from slcluster.dispatch import announce
from slcluster.store import open_store
from slcluster.store.result import read_result_attrs
from slcluster.watch.handlers import _of_scheduler
from tests.watch.conftest import OPTIONS, Server
from tests.watch.test_server import refusal


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with connect("local", workers=1) as client:
        yield client


def test_results_are_there_from_their_beginning(client: Any, subject: Path, tmp_path: Path) -> None:
    page = Server(live_map_link(client))
    assert page.json("results.json") == {"has_scheduler": True, "results": []}
    seen: list[dict[str, Any]] = []

    def look(step: Any) -> None:
        if step.done == 1:
            seen.extend(page.json("results.json")["results"])

    slc.searchlight(open_store(subject), out=tmp_path / "one.zarr", client=client, progress=look, **OPTIONS)
    assert [line["path"] for line in seen] == [str(tmp_path / "one.zarr")]
    slc.searchlight(open_store(subject), out=tmp_path / "two.zarr", client=client, **OPTIONS)
    lines = page.json("results.json")["results"]
    assert [Path(line["path"]).name for line in lines] == ["two.zarr", "one.zarr"]
    state = page.json(f"result/{lines[0]['id']}/state.json")
    assert state["state"] == "finished"
    assert state["connected"] == ["0"]
    (row,) = state["workers"]
    assert (row["worker"], row["n_done"]) == ("0", state["n_blocks"])
    with page.ask("") as answer:
        assert b"live.js" in answer.read()


def test_a_store_that_the_scheduler_does_not_see(client: Any, tmp_path: Path) -> None:
    """Words of what to do, and nothing read but what was announced."""
    page, key = Server(live_map_link(client)), "0123456789abcdef" * 2
    assert refusal(page, f"result/{key}/about.json")[0] == 404
    announce(client, key, {"path": str(tmp_path / "elsewhere"), "subject": "s"})
    code, text = refusal(page, f"result/{key}/state.json")
    assert code == 404
    assert f"is not seen from here; where it is seen, look at it with: slcluster watch {tmp_path}" in text
    line = next(line for line in page.json("results.json")["results"] if line["id"] == key)
    assert line["problem"] == "not seen from here, or replaced"


def test_a_scheduler_that_keeps_no_word_computes_all_the_same(
    client: Any, subject: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise OSError("no")

    monkeypatch.setattr(client, "set_metadata", fails)
    done = slc.searchlight(open_store(subject), out=tmp_path / "out.zarr", client=client, **OPTIONS)
    assert done.attrs["n_blocks_done"] == done.attrs["n_blocks"]


def test_routes_of_a_site_stay() -> None:
    name = "distributed.scheduler.http.routes"
    with dask.config.set({name: [LIVE_MAP, "a.site"]}):
        assert dask_settings("1s")[name] == ["a.site", LIVE_MAP]
    assert LIVE_MAP not in dask.config.get(name)


def test_a_scheduler_of_your_own(finished: Path, tmp_path: Path) -> None:
    """Another process, started with the line of the documentation; it sees the store by its path alone."""
    document = (Path(__file__).parents[2] / "docs" / "live-map.md").read_text()
    setting = next(line for line in document.splitlines() if line.startswith("export DASK_"))
    where = tmp_path / "scheduler.json"
    words = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    words += ["--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(where)]
    process = subprocess.Popen(
        ["bash", "-c", f"{setting}\nexec {shlex.join(words)}"], stderr=subprocess.DEVNULL, cwd=tmp_path
    )
    try:
        with Client(scheduler_file=str(where), timeout="300s", set_as_default=False) as client:
            key = read_result_attrs(finished)["store_id"]
            announce(client, key, {"path": str(finished), "subject": "sub"})
            page = Server(live_map_link(client))
            (line,) = page.json("results.json")["results"]
            assert (line["id"], line["state"]) == (key, "finished")
            assert page.json(f"result/{key}/state.json")["n_done"] == line["n_blocks"]
    finally:
        process.terminate()
        process.wait()


def test_a_scheduler_that_has_gone_is_not_kept() -> None:
    """A notebook's process may start many."""

    class Gone:
        pass

    scheduler = Gone()
    seen = weakref.ref(scheduler)
    _of_scheduler(scheduler)
    del scheduler
    gc.collect()
    assert seen() is None
