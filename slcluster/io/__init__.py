"""Files to arrays and tables, and back: the only place with nibabel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slcluster.io.grid import check_same_grid, read_mask
from slcluster.io.nifti import NiftiHeader, read_header
from slcluster.io.volumes import read_volume

if TYPE_CHECKING:
    from slcluster.io.export import to_nifti

__all__ = ["NiftiHeader", "check_same_grid", "read_header", "read_mask", "read_volume", "to_nifti"]


def __getattr__(name: str) -> Any:
    # Writing maps needs Xarray, which a process that streams volumes does not.
    if name != "to_nifti":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from slcluster.io.export import to_nifti

    return to_nifti
