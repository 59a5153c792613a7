"""The pages on the dashboards of real schedulers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest

import slcluster as slc
from slcluster.cluster import connect, live_map_link
from slcluster.cluster.settings import LIVE_MAP, dask_settings
from slcluster.store import open_store
from slcluster.store.result import read_result_attrs
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


def test_a_store_that_the_scheduler_does_not_see(client: Any, finished: Path, tmp_path: Path) -> None:
    """Words of what to do, and nothing read but what was announced."""
    page = Server(live_map_link(client))
    key = read_result_attrs(finished)["store_id"]
    assert refusal(page, f"result/{key}/about.json")[0] == 404
    client.set_metadata(["slcluster-results", key], {"path": str(tmp_path / "elsewhere"), "subject": "s"})
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
