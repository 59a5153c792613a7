"""Notebooks run from top to bottom, in the interpreter that runs the tests, and are kept without outputs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture
def kernel(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a kernel that is this interpreter, whatever kernels are installed."""
    home = tmp_path_factory.mktemp("jupyter")
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (home / "kernels" / "running").mkdir(parents=True)
    (home / "kernels" / "running" / "kernel.json").write_text(
        json.dumps({"argv": command, "display_name": "running", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(home))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(home / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(home / "ipython"))
    return "running"


def _run(path: Path, kernel: str, folder: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=400, kernel_name=kernel, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return notebook


def _outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def _text(notebook: nbformat.NotebookNode) -> str:
    parts = [
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for output in _outputs(notebook)
    ]
    return "\n".join(parts)


def test_there_are_notebooks() -> None:
    assert "01_quickstart.ipynb" in [path.name for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not _outputs(notebook)
    assert all(cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")


def test_quickstart(kernel: str, tmp_path: Path) -> None:
    notebook = _run(FOLDER / "01_quickstart.ipynb", kernel, tmp_path)
    text = _text(notebook)
    pictures = [output for output in _outputs(notebook) if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
    assert re.search(r"http://127\.0\.0\.1:\d+/status", text)
    assert re.search(r"finished, \d+ of \d+ blocks done", text)
    auc = re.search(r"area under the ROC: ([\d.]+)", text)
    assert auc is not None
    assert float(auc[1]) >= 0.95
    warned = [output.text for output in _outputs(notebook) if output.get("name") == "stderr"]
    assert not any("Warning" in said for said in warned), warned
    assert sorted(child.name for child in (tmp_path / "quickstart").iterdir()) == [
        "files",
        "result.zarr",
        "sub-01.zarr",
        "sub-01_accuracy.nii.gz",
    ]
