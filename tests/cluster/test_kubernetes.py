"""Pods, as far as they can be tried without a Kubernetes cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from slcluster.cluster import connect
from slcluster.errors import InputError

PROFILE = "kind: kubernetes\nimage: lab/slcluster:1\n"


@pytest.mark.parametrize(
    ("text", "module", "extra"),
    [(PROFILE, "dask_kubernetes.operator", "kubernetes"), ("kind: gateway\n", "dask_gateway", "gateway")],
)
def test_the_package_that_is_missing_is_named(
    text: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / "profile.yaml"
    path.write_text(text)
    with (
        pytest.raises(InputError, match=rf"pip install 'slcluster\[{extra}\]'"),
        connect(path),
    ):
        pass


def test_no_kubernetes_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, also when the process ends."""
    pytest.importorskip("dask_kubernetes", reason="no dask-kubernetes: pip install 'slcluster[kubernetes]'")
    path = tmp_path / "kubernetes.yaml"
    path.write_text(PROFILE)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    tried = subprocess.run(
        [sys.executable, "-m", "slcluster", "cluster", str(path)], capture_output=True, text=True, check=False
    )
    assert tried.returncode == 1
    assert tried.stderr.startswith("slcluster: error: Kubernetes gives no cluster: ")
    assert tried.stderr.count("\n") == 1
