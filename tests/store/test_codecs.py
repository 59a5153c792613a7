"""Nothing is pickled into a store, and nothing unpickled from one."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import slcluster as slc
from slcluster.durable import resume
from slcluster.errors import StoreError
from slcluster.store import open_store, write_array_store
from slcluster.store.digest import write_digest
from tests.conftest import OBLIQUE
from tests.witness import noise_dataset

#: All that our stores are made of.
PLAIN = {"blosc", "bytes", "crc32c", "sharding_indexed", "vlen-utf8"}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A subject store, as ingest and staging write it, and a result."""
    folder = tmp_path_factory.mktemp("codecs")
    subject = write_array_store(noise_dataset(affine=OBLIQUE), folder / "subject.zarr")
    options: dict[str, Any] = {"radius_mm": 5.5, "estimator": "gnb", "block_centers": 8}
    slc.searchlight(open_store(subject), out=folder / "result.zarr", **options)
    return {"subject": subject, "result": folder / "result.zarr"}


def named(metadata: Any) -> Iterator[str]:
    """Names of codecs in a piece of metadata, those within shards too."""
    if isinstance(metadata, dict):
        for key, value in metadata.items():
            if key in ("codecs", "index_codecs"):
                yield from (codec["name"] for codec in value)
            yield from named(value)
    elif isinstance(metadata, list):
        for item in metadata:
            yield from named(item)


@pytest.mark.parametrize("kind", ["subject", "result"])
def test_stores_hold_plain_numbers_and_text(kind: str, stores: dict[str, Path]) -> None:
    files = list(stores[kind].rglob("zarr.json"))
    found = {name for file in files for name in named(json.loads(file.read_text()))}
    assert found
    assert found <= PLAIN
    assert not [file for file in files if '"object"' in file.read_text()]
    chunks = [file for file in stores[kind].rglob("*") if file.is_file() and file.suffix != ".json"]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        start = pickle.dumps((), protocol)[:2]
        assert not [file for file in chunks if file.read_bytes().startswith(start)]


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def look(root: Path) -> Any:
    return open_store(root)["bold"].values


@pytest.mark.parametrize("codec", ["pickle", "numcodecs.pickle"])
@pytest.mark.parametrize(
    ("kind", "array"),
    [("subject", "bold"), ("subject", "mask"), ("result", "center_ijk"), ("result", "score")],
)
def test_a_store_that_names_pickles_is_refused(
    kind: str, array: str, codec: str, stores: dict[str, Path], tmp_path: Path
) -> None:
    root = shutil.copytree(stores[kind], tmp_path / "store.zarr")
    sprung = tmp_path / "sprung"
    for file in (root / array).rglob("*"):
        if file.is_file() and file.name != "zarr.json":
            file.write_bytes(pickle.dumps(Trap(sprung)))
    for file in (root / "zarr.json", root / array / "zarr.json"):  # the root has a copy of all metadata
        metadata = json.loads(file.read_text())
        consolidated = metadata.get("consolidated_metadata") or {"metadata": {}}
        for about in (metadata, consolidated["metadata"].get(array, {})):
            if "codecs" in about:
                about["codecs"] = [{"name": codec, "configuration": {"protocol": 5}}]
        file.write_text(json.dumps(metadata))
    write_digest(root)  # whoever makes such a store makes its digest too
    for opens in (look,) if kind == "subject" else (slc.open_result, resume):
        with pytest.raises(StoreError, match=f"codec.*{codec}"):
            opens(root)
    assert not sprung.exists()


def test_an_array_of_the_old_format_is_refused(stores: dict[str, Path], tmp_path: Path) -> None:
    """Its metadata are elsewhere, and name codecs of their own."""
    root = shutil.copytree(stores["subject"], tmp_path / "store.zarr")
    shape = json.loads((root / "bold" / "zarr.json").read_text())["shape"]
    (root / "bold" / "zarr.json").unlink()
    old = {"zarr_format": 2, "shape": shape, "chunks": shape, "dtype": "<f4", "order": "C"}
    old |= {"compressor": None, "fill_value": 0.0, "filters": None}
    (root / "bold" / ".zarray").write_text(json.dumps(old))
    write_digest(root)
    with pytest.raises(StoreError, match="cannot open"):
        open_store(root)
