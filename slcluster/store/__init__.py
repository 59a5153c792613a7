"""Subject and result stores: the only place with Zarr."""

from slcluster.store.arrays import write_array_store
from slcluster.store.digest import subject_digest
from slcluster.store.lineage import Source, check_whole_runs, open_source, source_of
from slcluster.store.subject import open_store, read_window, select

__all__ = [
    "Source",
    "check_whole_runs",
    "open_source",
    "open_store",
    "read_window",
    "select",
    "source_of",
    "subject_digest",
    "write_array_store",
]
