"""Build the image of deploy/container for real, and compute a map with scheduler, worker and client of it.

Needs root, Debian's packages ``buildah`` and ``debootstrap``, and package registries as pip and apt know them:

    python tests/deploy/build_image.py [FOLDER]

Containers share this machine's network and are closed in by chroot alone, which works where namespaces do not. The
Python image is stood in for by a small Debian with its own Python. FOLDER (a temporary one where not given, removed at
the end) keeps it for a second run.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

import slcluster as slc
from slcluster.cluster.security import issue_credentials
from slcluster.io.export import write_images

ROOT = Path(__file__).parents[2]
USER = "10001"
DEADLINE_S = 300


class Buildah:
    """buildah with its images and containers in a folder of ours."""

    def __init__(self, folder: Path) -> None:
        self._words = ["buildah", "--storage-driver", "vfs", "--root", str(folder / "storage")]
        self._words += ["--runroot", str(folder / "run")]

    def words(self, *words: str) -> list[str]:
        return [*self._words, *words]

    def __call__(self, *words: str) -> str:
        return subprocess.run(
            self.words(*words), check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def base_image(buildah: Buildah, folder: Path) -> str:
    """A Debian with the Python that constraints.txt was tested with, as an image."""
    root = folder / "debian"
    if not root.exists():
        say("Debian 12")
        include = "--include=python3,python3-venv,ca-certificates"
        words = ["debootstrap", "--variant=minbase", include, "bookworm", str(root)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    container = buildah("from", "scratch")
    # Not shutil.copytree, which would read what devices give, and never end.
    subprocess.run(["cp", "-a", f"{root}/.", buildah("mount", container)], check=True)
    buildah("commit", "--quiet", container, "localhost/python-of-debian")
    buildah("rm", container)
    return "localhost/python-of-debian"


def build(buildah: Buildah, folder: Path) -> None:
    """The image, from the Containerfile as it is; pip trusts what it trusts here."""
    trusted = os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile
    settings = folder / "pip.conf"
    settings.write_text(f"[global]\ncert = {trusted}\n")
    mounts = [f"{Path(str(trusted)).parent}:{Path(str(trusted)).parent}:ro", f"{settings}:/etc/pip.conf:ro"]
    words = ["bud", "--format", "docker", "--isolation", "chroot", "--network", "host", "--tag", "slcluster"]
    words += [word for mount in mounts for word in ("--volume", mount)]
    words += ["--build-arg", f"BASE={base_image(buildah, folder)}"]
    say("the image")
    file = str(ROOT / "deploy" / "container" / "Containerfile")
    subprocess.run(buildah.words(*words, "--file", file, str(ROOT)), check=True, stdout=sys.stderr)
    (size,) = buildah("images", "--format", "{{.Size}}", "localhost/slcluster").splitlines()
    (base,) = buildah("images", "--format", "{{.Size}}", "localhost/python-of-debian").splitlines()
    say(f"the image has {size}, of which the base {base}")


def start(buildah: Buildah, folder: Path, *words: str) -> subprocess.Popen[str]:
    """A container of the image, as its user, with the certificates and the data mounted."""
    container = buildah("from", "localhost/slcluster")
    mounts = [f"{folder / 'tls'}:/run/slcluster/tls:ro", f"{folder / 'data'}:/data"]
    options = ["--isolation", "chroot", "--user", f"{USER}:{USER}"]
    options += [word for mount in mounts for word in ("--volume", mount)]
    return subprocess.Popen(
        buildah.words("run", *options, container, "--", "slcluster-container", *words),
        text=True,
        stdout=subprocess.PIPE if words[0] == "searchlight" else None,
    )


def compute(buildah: Buildah, folder: Path) -> None:
    """Scheduler, worker and client of the image, against this process."""
    brain = slc.simulate(shape=(7, 8, 9), n_runs=4, n_informative=1, seed=0)
    write_images(brain, folder / "data" / "files")
    issue_credentials(folder / "tls", hours=1)
    for part in (folder / "tls", folder / "data"):
        subprocess.run(["chown", "-R", f"{USER}:{USER}", str(part)], check=True)
    here = "127.0.0.1"
    with ExitStack() as stack:
        for words in (("scheduler", "--host", here), ("worker", "--host", here, f"tls://{here}:8786")):
            process = start(buildah, folder, *words)
            stack.callback(process.wait, DEADLINE_S)
            stack.callback(process.terminate)
        say("scheduler and worker")
        options = [
            "--bold",
            "files/bold.nii.gz",
            "--mask",
            "files/mask.nii.gz",
            "--labels",
            "files/labels.txt",
        ]
        options += ["--conditions", "face,house", "--radius-mm", "5.6", "--out", "result.zarr"]
        began = time.monotonic()
        client = start(
            buildah, folder, "searchlight", "subject.zarr", *options, "--cluster", f"tls://{here}:8786"
        )
        if client.wait(DEADLINE_S):
            raise SystemExit("the client failed")
        say(f"the client took {time.monotonic() - began:.0f} s")
    chosen = slc.select(brain, conditions=["face", "house"])
    alone = slc.searchlight(chosen, radius_mm=5.6).score.compute().values
    np.testing.assert_array_equal(slc.open_result(folder / "data" / "result.zarr").score.values, alone)
    say("the map of the image is that of this process, bit for bit")


def main() -> None:
    for command in ("buildah", "debootstrap"):
        if shutil.which(command) is None:
            raise SystemExit(f"{command} is missing: apt-get install --no-install-recommends {command}")
    with ExitStack() as stack:
        given = sys.argv[1] if len(sys.argv) > 1 else stack.enter_context(tempfile.TemporaryDirectory())
        folder = Path(given).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("data", "tls", "storage", "run"):
            shutil.rmtree(folder / part, ignore_errors=True)
        (folder / "data").mkdir()
        buildah = Buildah(folder)
        build(buildah, folder)
        compute(buildah, folder)


if __name__ == "__main__":
    main()
