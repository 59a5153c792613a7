"""The command itself: overview, help, versions, errors in one line, exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import slcluster
from slcluster.cli import _COMMANDS, cli
from slcluster.errors import BlockError, StoreError
from slcluster.jobs import Job
from tests.cli.conftest import Invoke, called, command


def test_the_overview_is_quick() -> None:
    """Without the libraries that compute: starting Python and click is all that it may take."""
    script = "import sys\nfrom slcluster.cli import main\ntry:\n    main()\nexcept SystemExit: pass\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True
    )
    heavy = {
        "numpy",
        "dask",
        "distributed",
        "xarray",
        "zarr",
        "sklearn",
        "nibabel",
        "pandas",
        "pydantic",
        "yaml",
    }
    assert not heavy & set(done.stdout.split())
    best = min(_seconds(command("--help")) for _ in range(5))
    assert best < 0.5


def _seconds(words: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(words, capture_output=True, check=True)
    return time.perf_counter() - began


def test_the_overview_names_every_command(invoke: Invoke) -> None:
    overview = invoke("--help").output
    assert invoke().output == overview  # alone it helps too
    assert invoke("-h").output == overview
    for name, (_, about) in _COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(about)}$", overview, re.MULTILINE)


def test_version() -> None:
    done = called("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"slcluster {slcluster.__version__}\n", "")


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_has_help_with_an_example(name: str, invoke: Invoke) -> None:
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: slcluster {name}" in result.stdout
    assert "Examples:\n" in result.stdout
    assert cli.get_command(click.Context(cli), name).short_help == _COMMANDS[name][1]


def test_searchlight_has_a_flag_for_every_key_of_a_job(invoke: Invoke) -> None:
    text = invoke("searchlight", "--help").stdout
    flags = set(re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE))
    keys = {f"--{name.replace('_', '-')}" for name in Job.model_fields}
    assert keys - flags == {"--store"}  # which is what the command is about
    assert flags - keys == {"--allow-import", "--dry-run", "--debug"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serchlight"], "unknown command 'serchlight'; did you mean searchlight?"),
        (["frobnicate"], "unknown command 'frobnicate'; known: demo, ingest, plan, searchlight, status"),
        (["--bogus"], "No such option '--bogus'; see slcluster --help"),
        (["plan"], "name a subject store, several, or a job file; see slcluster plan --help"),
        (["plan", "a.yaml", "b.yaml"], "give one job file, or stores, not a.yaml b.yaml"),
        (["plan", "a.zarr", "--radus", "3"], "No such option '--radus'"),
        (["plan", "a.zarr", "--radius-mm"], "Option '--radius-mm' requires an argument"),
        (["plan", "a.zarr"], "--radius-mm is missing: radius of the spheres in mm"),
        (["plan", "a.zarr", "--radius-mm", "wide"], "--radius-mm must be a number, got 'wide'"),
        (["plan", "a.zarr", "--n-voxels", "0"], "--n-voxels must be greater than 0, got '0'"),
        (["plan", "a.zarr", "--n-voxels", "2.5"], "--n-voxels must be a whole number, got '2.5'"),
        (
            ["plan", "a.zarr", "--n-voxels", "9", "--center-spacing", "x"],
            "--center-spacing must be a whole number",
        ),
        (["plan", "a.zarr", "--n-voxels", "9", "--center-spacing", "2,0,2"], "--center-spacing"),
        (
            ["plan", "a.zarr", "--radius-mm", "3", "--min-voxels", "0"],
            "--min-voxels must be greater than 0, got '0'",
        ),
        (
            ["plan", "a.zarr", "--radius-mm", "3", "--estimator", "svcc"],
            "unknown estimator 'svcc'; did you mean 'svc'",
        ),
        (
            ["plan", "a.zarr", "--radius-mm", "3", "--scoring", "acuracy"],
            "unknown scorer 'acuracy'; did you mean 'accuracy'",
        ),
        (["plan", "a.zarr", "--radius-mm", "3", "--cv", "{class: KFold"], "not valid YAML"),
        (["plan", "a.zarr", "--radius-mm", "3", "--cv", "{class: os.system}"], "not a class of scikit-learn"),
        (["plan", "gone.yaml"], "cannot read job file"),
        (["ingest", "bold.nii.gz"], "give the files and then the store to write, got bold.nii.gz alone"),
        (["ingest", "gone.nii.gz", "s.zarr", "--mask", "m.nii"], "gone.nii.gz"),
        (["cluster", "slrum", "--dry-run"], "unknown cluster 'slrum'; expected local, slurm"),
        (["cluster", "local", "--workers", "-1"], "--workers must be greater than 0, got '-1'"),
        (["searchlight", "a.zarr", "--radius-mm", "3"], "--out is missing"),
        (["status"], "Missing argument 'RESULT...'; see slcluster status --help"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str], message: str, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.fullmatch(r"slcluster: error: [^\n]+\n", result.stderr)
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["plan", "gone.zarr", "--radius-mm", "3"],
            "no store at gone.zarr; write it with slcluster ingest, or give --bold",
        ),
        (["status", "gone.zarr"], "no result at"),
        (["status", "."], "no result in ."),
        (["resume", "gone.zarr"], "no result at"),
        (["export", "gone.zarr", "maps"], "no result at"),
    ],
)
def test_what_is_not_there_is_one_line_and_exit_code_2(
    words: list[str], message: str, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*words)
    assert result.exit_code == 2
    assert re.fullmatch(r"slcluster: error: [^\n]+\n", result.stderr)
    assert message in result.stderr


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> object:
    """A command that ends as it is told."""

    def use(error: BaseException) -> click.testing.Result:
        @click.command()
        @click.option("--debug", is_flag=True, expose_value=False)
        def status() -> None:
            warnings.warn("something odd", stacklevel=1)
            raise error

        monkeypatch.setattr("slcluster.cli.results.status", status)
        return CliRunner().invoke(cli, ["status"], catch_exceptions=False)

    return use


@pytest.mark.parametrize(
    ("error", "code", "last"),
    [
        (StoreError("the disk\nis full"), 1, "slcluster: error: the disk is full"),
        (BlockError("sub-01, block 3: failed"), 1, "slcluster: error: sub-01, block 3: failed"),
        (OSError(28, "No space left on device"), 1, "slcluster: error: [Errno 28] No space left on device"),
        (BrokenPipeError(32, "Broken pipe"), 1, "slcluster: error: [Errno 32] Broken pipe"),
        (KeyError("x"), 1, "slcluster: error: unexpected KeyError: 'x'; --debug shows where"),
        (KeyboardInterrupt(), 130, "slcluster: interrupted"),
    ],
)
def test_how_a_command_ends(error: BaseException, code: int, last: str, failing: object) -> None:
    result = failing(error)  # type: ignore[operator]
    lines = result.stderr.splitlines()
    assert result.exit_code == code
    assert lines[0] == "slcluster: warning: something odd"
    assert lines[-1] == last
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback_anywhere_on_the_line() -> None:
    for words in (["--debug", "status", "gone.zarr"], ["status", "gone.zarr", "--debug"]):
        done = called(*words)
        assert done.returncode == 2
        assert done.stderr.startswith("Traceback (most recent call last):")
        assert done.stderr.splitlines()[-1].startswith("slcluster: error: no result at")


def test_a_reader_that_leaves_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command("searchlight", "--help"), stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_python_m_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slcluster", "xyzzy"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr[:44]) == (2, "slcluster: error: unknown command 'xyzzy'; k")


def test_help_ends_every_sentence_once() -> None:
    text = CliRunner().invoke(cli, ["searchlight", "--help"]).output
    assert "COLUMN=VALUE,..." in " ".join(text.split())
    assert "...." not in text
