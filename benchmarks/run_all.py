"""All benchmarks one after the other, each with its own table and JSON file.

    SLCLUSTER_TEST_DATA=... python benchmarks/run_all.py results/    (an hour, 2 GB of scratch)
    python benchmarks/run_all.py --quick results/                    (minutes; its numbers mean nothing)

Exits with 1 where any of them did.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

BENCHMARKS = ("speed", "compare", "dropin", "overhead", "ingest", "tls")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to write a JSON file of each")
    parser.add_argument("--quick", action="store_true", help="small data, one round")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of each (default: 3)")
    parser.add_argument("--scratch", type=Path, help="folder for 2 GB of files (default: the system's)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    options = ["--repeat", str(arguments.repeat)]
    options += ["--quick"] if arguments.quick else []
    options += ["--scratch", str(arguments.scratch)] if arguments.scratch else []
    is_failed = False
    for name in BENCHMARKS:
        print(f"\n===== {name} =====", flush=True)
        script = str(Path(__file__).with_name(f"{name}.py"))
        out = str(arguments.folder / f"{name}.json")
        is_failed |= (
            subprocess.run([sys.executable, script, "--out", out, *options], check=False).returncode != 0
        )
    return int(is_failed)


if __name__ == "__main__":
    sys.exit(main())
