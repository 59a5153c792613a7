"""The live map: pages that show a brain filling in while blocks finish. They read result stores, and change nothing.

``routes`` puts them on a Dask dashboard, ``server`` on a small server of their own; ``follower`` reads one store
and remembers what it has read, ``results`` says which stores may be read at all.
"""
