"""The pages as a browser gets them from a server: what is served, and what is not."""

from __future__ import annotations

import gzip
import http.client
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

import slcluster as slc
from slcluster.cli import cli
from slcluster.store import open_store
from tests.cli.conftest import command
from tests.watch.conftest import OPTIONS, Serve
from tests.watch.test_follower import without_blocks


def refusal(server: Any, path: str, **options: Any) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as error:
        server.ask(path, **options)
    with error.value as answer:
        return answer.code, answer.read().decode()


def test_a_result_from_its_parts(serve: Serve, finished: Path) -> None:
    server = serve(finished)
    path = server.only()
    about, state = server.json(path + "about.json"), server.json(path + "state.json")
    assert about["path"] == str(finished)
    assert state["state"] == "finished"
    assert "connected" not in state
    with server.ask(path + "centers") as answer:
        centers = np.frombuffer(answer.read(), "<u4")
    with server.ask(f"{path}values?map=0&since=0&epoch={state['epoch']}") as answer:
        content = answer.read()
    n = int.from_bytes(content[:4], "little")
    assert n == state["n_blocks"]
    blocks = np.frombuffer(content, "<u4", n, 4)
    values = np.frombuffer(content, "<f4", offset=4 + 4 * n)
    assert sorted(blocks.tolist()) == list(range(n))
    flat = np.full(np.prod(about["shape"]), np.nan, "<f4")
    rows = [np.arange(len(centers))[b * about["block_centers"] :][: about["block_centers"]] for b in blocks]
    flat[centers[np.concatenate(rows)]] = values
    expected = slc.open_result(finished)["score"].sel(metric="accuracy").values.astype("<f4")
    np.testing.assert_array_equal(flat.reshape(about["shape"], order="F"), expected)
    with server.ask(f"{path}values?map=0&since={n}&epoch={state['epoch']}") as answer:
        assert answer.read() == bytes(4)


def test_before_the_first_block(serve: Serve, finished: Path, tmp_path: Path) -> None:
    server = serve(without_blocks(finished, tmp_path / "out.zarr"))
    state = server.json(server.only() + "state.json")
    assert (state["n_done"], state["state"], state["workers"]) == (0, "interrupted", [])


def test_several_results(serve: Serve, finished: Path, subject: Path, tmp_path: Path) -> None:
    begun, other = without_blocks(finished, tmp_path / "begun.zarr"), tmp_path / "other.zarr"
    slc.searchlight(open_store(subject), out=other, **OPTIONS)
    server = serve(begun, other, tmp_path / "gone.zarr")
    lines = server.json("results.json")
    assert not lines["has_scheduler"]
    assert [(line["path"], line["state"]) for line in lines["results"]] == [
        (str(other), "finished"),
        (str(begun), "interrupted"),
    ]


def test_nothing_else_can_be_read(serve: Serve, finished: Path, subject: Path) -> None:
    server = serve(finished)
    path = server.only()
    for asked in (
        f"result/{'0' * 32}/about.json",
        "result/..%2F..%2F..%2Fetc%2Fpasswd/about.json",
        f"result/{subject}/about.json",
        path + "zarr.json",
        path + "score/c/0/0/0",
        path + "_attrs",
        "../../etc/passwd",
        "handlers.py",
        "live.js/../../handlers.py",
        "static/live.js",
        "live/js",
        "liveXcss",
    ):
        assert refusal(server, asked)[0] == 404, asked


def test_requests_change_nothing(serve: Serve, finished: Path) -> None:
    server = serve(finished)
    path = server.only()
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for asked in ("", "results.json", path + "state.json", path + "values"):
            assert refusal(server, asked, method=method, data=b"")[0] == 405
    server.json(path + "state.json")
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("*")} == before


def test_a_page_may_load_from_here_alone(serve: Serve, finished: Path) -> None:
    server = serve(finished)
    path = server.only()
    for asked in ("", "live.js", "live.css", "results.json", path + "about.json", path + "centers"):
        with server.ask(asked) as answer:
            rules = answer.headers["Content-Security-Policy"].split("; ")
            assert "default-src 'none'" in rules
            assert "script-src 'self'" in rules
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    with server.ask("") as answer:
        page = answer.read().decode()
    assert "http" not in page  # nothing from elsewhere
    assert "<script>" not in page
    assert " style=" not in page


def test_bad_questions(serve: Serve, finished: Path) -> None:
    server = serve(finished)
    path = server.only()
    epoch = server.json(path + "state.json")["epoch"]
    for question in ("map=x&since=0", "map=0&since=-1", "map=0", "map=0&since=99999999999"):
        assert refusal(server, f"{path}values?{question}&epoch={epoch}")[0] == 400
    assert refusal(server, f"{path}values?map=99&since=0&epoch={epoch}")[0] == 409
    assert refusal(server, f"{path}values?map=0&since=0&epoch=other")[0] == 409


def test_another_name_for_this_machine_gets_nothing(serve: Serve, finished: Path) -> None:
    """A page elsewhere whose name resolves to loopback must not read results."""
    server = serve(finished)
    host = urlsplit(server.address).netloc
    for name, expected in (("evil.example", 403), (host, 200), (f"localhost:{host.split(':')[1]}", 200)):
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("GET", "/slcluster/results.json", headers={"Host": name})
        assert connection.getresponse().status == expected
        connection.close()


def test_the_way_in_is_relative_and_compressed(serve: Serve, finished: Path) -> None:
    server = serve(finished)
    host = urlsplit(server.address).netloc
    for path in ("/", "/slcluster"):
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Location"]) == (302, "slcluster/")
        connection.close()
    with server.ask("live.js", headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert b"use strict" in gzip.decompress(answer.read())


def test_a_result_that_was_replaced(serve: Serve, finished: Path, subject: Path, tmp_path: Path) -> None:
    path = without_blocks(finished, tmp_path / "out.zarr")
    server = serve(path)
    old = server.only()
    assert server.json(old + "state.json")["n_done"] == 0
    shutil.rmtree(path)
    code, _ = refusal(server, old + "state.json")
    assert code == 404
    slc.searchlight(open_store(subject), out=path, **OPTIONS)
    assert server.only() != old
    assert server.json(server.only() + "state.json")["state"] == "finished"


@pytest.fixture
def watching(finished: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command("watch", finished.parent, "--port", 0),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "SSH_CONNECTION": "x"},
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_the_command(watching: subprocess.Popen[str], finished: Path, serve: Serve) -> None:
    assert watching.stdout is not None
    address = watching.stdout.readline().strip()
    port = urlsplit(address).port
    assert address == f"http://127.0.0.1:{port}/slcluster/"
    assert watching.stdout.readline().startswith(f"from your own machine: ssh -L {port}:127.0.0.1:{port} ")
    listening = [
        connection
        for connection in psutil.Process(watching.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert [connection.laddr.port for connection in listening] == [port]
    assert all(ipaddress.ip_address(connection.laddr.ip).is_loopback for connection in listening)
    taken = CliRunner().invoke(cli, ["watch", str(finished), "--port", str(port)])
    assert taken.exit_code == 2
    assert f"cannot listen on port {port}: Address already in use; choose another --port" in taken.stderr
    watching.send_signal(signal.SIGINT)
    _, stderr = watching.communicate(timeout=300)
    assert (watching.returncode, stderr) == (0, "")


def test_the_command_shows_a_folder_with_a_damaged_result(finished: Path, tmp_path: Path) -> None:
    """And no store that is being written."""
    results = tmp_path / "results"
    for name in ("good.zarr", "bad.zarr", "new.zarr.0a1b2c3d.partial"):
        shutil.copytree(finished, results / name)
    (results / "bad.zarr" / "digest.json").unlink()
    words = command("watch", results, "--port", 0)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            with urlopen(f"{address}results.json", timeout=60) as answer:
                shown = {Path(line["path"]).name for line in json.load(answer)["results"]}
        finally:
            process.kill()
    assert shown == {"good.zarr", "bad.zarr"}


def test_the_command_refuses_what_is_no_result(subject: Path, tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none.zarr", "no result at"), (subject, "is a subject store")):
        done = CliRunner().invoke(cli, ["watch", str(path)])
        assert (done.exit_code, done.stdout) == (2, "")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
