"""``python -m slcluster.cluster.towards HOST`` prints by which address this machine reaches a host.

Workers in batch jobs listen there; left to themselves they listen on every interface of their node.
"""

from __future__ import annotations

import sys

from slcluster.cluster.addresses import address_towards

__all__: list[str] = []

if __name__ == "__main__":
    print(address_towards(sys.argv[1]))
