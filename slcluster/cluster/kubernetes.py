"""Pods through the Dask operator of a Kubernetes cluster."""

from __future__ import annotations

import getpass
import re
import uuid
from typing import Any

from slcluster.cluster.kinds import KubernetesProfile
from slcluster.cluster.settings import dask_settings, job_environment, teaching
from slcluster.errors import InputError, SlclusterError, one_line

__all__ = ["cluster_spec", "start_kubernetes"]

#: What the operator sends its own requests to.
_COMM = {"name": "tcp-comm", "protocol": "TCP"}
_HTTP = {"name": "http-dashboard", "protocol": "TCP"}


def cluster_spec(profile: KubernetesProfile, name: str = "slcluster") -> dict[str, Any]:
    """The ``DaskCluster`` resource of a profile, as the Dask operator takes it.

    dask-kubernetes would write one that calls ``dask-scheduler`` and ``dask-worker``, which Dask no longer has.

    Parameters
    ----------
    profile : KubernetesProfile
    name : str
        Of the resource.

    Examples
    --------
    >>> cluster_spec(KubernetesProfile(image="lab/slcluster:1"))["spec"]["worker"]["replicas"]
    1
    """
    from dask.utils import parse_bytes

    memory = str(parse_bytes(profile.memory))
    worker = _container(profile, "worker", "distributed.cli.dask_worker", cores=profile.cores, memory=memory)
    worker["args"] = [
        *("--name", "$(DASK_WORKER_NAME)"),
        *("--nthreads", str(profile.cores)),
        *("--memory-limit", memory),
        *(("--local-directory", profile.local_directory) if profile.local_directory else ()),
    ]
    worker["ports"] = [{**_HTTP, "containerPort": 8788}]
    worker["args"] += ["--dashboard", "--dashboard-address", "8788"]
    scheduler = _container(profile, "scheduler", "distributed.cli.dask_scheduler", cores=1, memory=memory)
    health = {"port": "http-dashboard", "path": "/health"}
    scheduler |= {
        "args": ["--host", "0.0.0.0"],  # of the pod, which has a network of its own
        "ports": [{**_COMM, "containerPort": 8786}, {**_HTTP, "containerPort": 8787}],
        "readinessProbe": {"httpGet": health, "periodSeconds": 1, "timeoutSeconds": 300},
        "livenessProbe": {"httpGet": dict(health), "initialDelaySeconds": 15, "periodSeconds": 20},
    }
    service = {
        "type": "ClusterIP",
        "selector": {"dask.org/cluster-name": name, "dask.org/component": "scheduler"},
        "ports": [
            {**_COMM, "port": 8786, "targetPort": "tcp-comm"},
            {**_HTTP, "port": 8787, "targetPort": "http-dashboard"},
        ],
    }
    replicas = profile.adapt.minimum if profile.adapt else profile.workers or 1
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": name},
        "spec": {
            "worker": {"replicas": replicas, "spec": {"containers": [worker]}},
            "scheduler": {"spec": {"containers": [scheduler]}, "service": service},
        },
    }


def _container(
    profile: KubernetesProfile, name: str, module: str, *, cores: int, memory: str
) -> dict[str, Any]:
    wait = {"DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": profile.start_timeout}
    amounts = {"cpu": str(cores), "memory": memory}
    return {
        "name": name,
        "image": profile.image,
        "command": ["python", "-m", module],
        "env": [{"name": key, "value": value} for key, value in (wait | job_environment(profile)).items()],
        "resources": {"requests": amounts, "limits": dict(amounts)},
    }


def start_kubernetes(profile: KubernetesProfile) -> Any:
    """A cluster of pods.

    Raises
    ------
    InputError
        dask-kubernetes is not installed, or does not know a keyword under ``extra``.
    SlclusterError
        The Kubernetes cluster does not answer, has no Dask operator, or refuses the resource.
    """
    import dask

    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError:
        raise InputError(
            "kind: kubernetes needs dask-kubernetes; install it with: pip install 'slcluster[kubernetes]'"
        ) from None
    user = re.sub(r"[^a-z0-9]", "", getpass.getuser().lower())[:20] or "user"
    options = {
        "custom_cluster_spec": cluster_spec(profile, f"slcluster-{user}-{uuid.uuid4().hex[:8]}"),
        "namespace": profile.namespace,
        "quiet": True,
        **profile.extra,
    }
    others = set(KubeCluster._instances)
    try:
        with dask.config.set(dask_settings(profile.start_timeout)), teaching(profile):
            cluster = KubeCluster(**options)
    except InputError:
        raise
    except Exception as error:  # of a dozen kinds, most of them of libraries beneath
        # What has not started would be stopped when the process ends, with a traceback.
        KubeCluster._instances.intersection_update(others)
        raise SlclusterError(
            f"Kubernetes gives no cluster: {type(error).__name__}: {one_line(error)}; "
            "kubectl get daskclusters must work here, and show the operator's resources"
        ) from error
    if profile.adapt:
        cluster.adapt(minimum=profile.adapt.minimum, maximum=profile.adapt.maximum)
    return cluster
