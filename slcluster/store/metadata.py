"""What a store says of itself, read with as little as possible: whether it is ours, finished, of which kind."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from slcluster.errors import StoreError, StorePathError
from slcluster.schema import SCHEMA_VERSION, SUBJECT
from slcluster.store.digest import DIGEST_NAME, check_digest

__all__ = ["check_subject_store", "consolidate", "is_ours", "plain_attrs", "root_attrs"]


def root_attrs(root: Path) -> dict[str, Any]:
    """Attributes of the root group; empty where there is no readable group."""
    try:
        attrs = json.loads((root / "zarr.json").read_bytes())["attributes"]
        return dict(attrs)
    except (OSError, ValueError, KeyError, TypeError):
        # A foreign or a damaged file: the callers' answer is the same.
        return {}


def is_ours(root: Path) -> bool:
    """Whether a folder is a store of this package, finished or not, sound or not."""
    if root_attrs(root).get("slcluster"):
        return True
    try:
        return b'"slcluster": "digest"' in (root / DIGEST_NAME).read_bytes()
    except OSError:
        return False


def check_subject_store(root: Path) -> str:
    """Digest of the finished subject store at ``root``.

    Raises
    ------
    StoreError
        Where there is none, or it is not as it was written.
    """
    if not root.is_dir():
        raise StorePathError(f"no store at {root}; write one with slcluster.ingest(bold, store, mask=...)")
    attrs = root_attrs(root)
    kind, version = attrs.get("slcluster"), attrs.get("schema_version")
    if kind and isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(
            f"{root} has schema version {version}, this slcluster knows {SCHEMA_VERSION}; upgrade slcluster"
        )
    if not is_ours(root):
        raise StorePathError(
            f"{root} is not a slcluster store; expected a folder that slcluster.ingest wrote"
        )
    if kind is not None and kind != SUBJECT.kind:
        raise StorePathError(
            f"{root} is a {kind} store; expected a subject store, as slcluster.ingest writes it"
        )
    return check_digest(root)


def consolidate(root: Path) -> None:
    """Copy the metadata of all arrays into the root's, so that opening reads one file."""
    with warnings.catch_warnings():
        # zarr warns that format 3 does not standardise this yet; every reader here is ours or xarray.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(root, zarr_format=3)


def plain_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes as JSON has them: NumPy's numbers and arrays as Python's, anything odd as its text."""
    plain = {
        str(name): v.tolist() if isinstance(v, np.generic | np.ndarray) else v for name, v in attrs.items()
    }
    return {name: v if _is_json(v) else str(v) for name, v in plain.items()}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
