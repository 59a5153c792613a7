"""``python -m slcluster`` is the ``slcluster`` command."""

from slcluster.cli import main

if __name__ == "__main__":
    main()
