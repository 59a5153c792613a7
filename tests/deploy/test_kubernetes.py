"""The manifests: by Kubernetes' own schemas, the Dask operator's, and what one says of another."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, files
from typing import Any

import pytest
import yaml

from slcluster.cli import EXIT_INPUT
from slcluster.jobs import load_job
from tests.deploy.files import CONTAINER, KUBERNETES, command, documents, of_kind, parsed

KUSTOMIZATION = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
MANIFESTS = [
    document for name in KUSTOMIZATION["resources"] for document in documents((KUBERNETES / name).read_text())
]
#: The newest, and the oldest whose schema of a Job does not demand what the API server does not.
RELEASES = ("1.32", "1.37")
LABEL = {"app.kubernetes.io/part-of": "slcluster"}


def pods() -> dict[str, dict[str, Any]]:
    """The pod of each role, as it is written."""
    cluster = of_kind("DaskCluster", MANIFESTS)["spec"]
    return {
        "scheduler": cluster["scheduler"]["spec"],
        "worker": cluster["worker"]["spec"],
        "analysis": of_kind("Job", MANIFESTS)["spec"]["template"]["spec"],
    }


def strict(schema: Any) -> Any:
    """The schema, with keys that it does not name refused: Kubernetes drops them without a word."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: strict(item) for name, item in schema.items()}
    if isinstance(schema.get("properties"), dict):
        found.setdefault("additionalProperties", False)
    return found


def operator_schema(kind: str) -> Any:
    """The schema of a kind of the Dask operator. The chart in its wheel has it with all references resolved."""
    try:
        shipped = files("dask-kubernetes") or []
    except PackageNotFoundError:
        pytest.skip(
            "dask-kubernetes is not installed; it brings the schemas of DaskCluster and DaskAutoscaler"
        )
    (chart,) = (path for path in shipped if path.parent.name == "crds" and path.stem == kind.lower())
    # The parser in C: the file is long.
    definition = yaml.load(chart.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = definition["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def complaints(schema: Any, document: dict[str, Any]) -> list[str]:
    from jsonschema import Draft202012Validator

    body = {name: item for name, item in document.items() if name not in ("apiVersion", "kind", "metadata")}
    return [
        f"{'.'.join(map(str, error.path))}: {error.message}"
        for error in Draft202012Validator(strict(schema)).iter_errors(body)
    ]


@pytest.mark.parametrize("release", RELEASES)
def test_kubernetes_takes_the_manifests(release: str) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    core = [document for document in MANIFESTS if "dask.org" not in document["apiVersion"]]
    assert {"Namespace", "PersistentVolumeClaim", "NetworkPolicy", "Job"} == {item["kind"] for item in core}
    for document in core:
        validate(document, release, strict=True)


def test_kubernetes_would_refuse_a_mistake() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    job = yaml.safe_load((KUBERNETES / "analysis.yaml").read_text())
    job["spec"]["template"]["spec"]["containers"][0]["imagee"] = "slcluster"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagee"):
        kubernetes_validate.validate(job, RELEASES[-1], strict=True)


@pytest.mark.parametrize("kind", ["DaskCluster", "DaskAutoscaler"])
def test_the_operator_takes_its_resources(kind: str) -> None:
    schema, document = operator_schema(kind), of_kind(kind, MANIFESTS)
    assert complaints(schema, document) == []
    document = yaml.safe_load(yaml.safe_dump(document))
    document["spec"]["clusterr"] = "slcluster"
    assert any("clusterr" in complaint for complaint in complaints(schema, document))


def test_kustomize_puts_everything_together() -> None:
    kubectl = command("kubectl", "Kubernetes' client")
    told = subprocess.run([kubectl, "kustomize", KUBERNETES], capture_output=True, text=True, check=True)
    built = documents(told.stdout)
    names = {document["metadata"].get("namespace", "slcluster") for document in built}
    assert names == {"slcluster"}
    settings = of_kind("ConfigMap", built)
    assert settings["data"]["job.yaml"] == (KUBERNETES / "job.yaml").read_text()
    mounted = of_kind("Job", built)["spec"]["template"]["spec"]["volumes"]
    assert {"name": settings["metadata"]["name"]} in [volume.get("configMap") for volume in mounted]
    (image,) = KUSTOMIZATION["images"]
    assert told.stdout.count(f"image: {image['newName']}:{image['newTag']}\n") == 3


def test_pods_ask_for_no_more_than_the_namespace_allows() -> None:
    """What Pod Security's level "restricted" demands, and a root that cannot be written."""
    namespace = of_kind("Namespace", MANIFESTS)["metadata"]
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in pods().values():
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert f"USER {pod['securityContext']['runAsUser']}:" in (CONTAINER / "Containerfile").read_text()
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
        assert {"secret", "emptyDir", "persistentVolumeClaim", "configMap", "name"} >= {
            key for volume in pod["volumes"] for key in volume
        }


def test_every_volume_and_mount_has_its_other_half() -> None:
    claims = {item["metadata"]["name"] for item in MANIFESTS if item["kind"] == "PersistentVolumeClaim"}
    entrypoint = (CONTAINER / "entrypoint.sh").read_text()
    for pod in pods().values():
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
        assert f":-{mounts['tls']}}}" in entrypoint, "where the entry point looks for certificates"
        assert "HOME=/tmp " in (CONTAINER / "Containerfile").read_text()
        assert mounts["tmp"] == "/tmp"
        wanted = {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["volumes"]
            if "persistentVolumeClaim" in volume
        }
        assert wanted <= claims


def test_addresses_are_those_of_the_service() -> None:
    """The operator calls the scheduler's service NAME-scheduler."""
    cluster = of_kind("DaskCluster", MANIFESTS)
    name = cluster["metadata"]["name"]
    service = cluster["spec"]["scheduler"]["service"]
    assert service["type"] == "ClusterIP"
    assert service["selector"] == {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    ports = {port["targetPort"]: port["port"] for port in service["ports"]}
    (container,) = pods()["scheduler"]["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == ports
    address = f"tls://{name}-scheduler:{ports['tcp-comm']}"
    (worker,) = pods()["worker"]["containers"]
    assert {"name": "DASK_SCHEDULER_ADDRESS", "value": address} in worker["env"]
    (analysis,) = pods()["analysis"]["containers"]
    assert analysis["args"][-2:] == ["--cluster", address]
    assert of_kind("DaskAutoscaler", MANIFESTS)["spec"]["cluster"] == name


def test_only_pods_of_the_analysis_reach_the_scheduler() -> None:
    policies = {
        item["metadata"]["name"]: item["spec"] for item in MANIFESTS if item["kind"] == "NetworkPolicy"
    }
    closed = policies.pop("slcluster-closed")
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}, (
        "nothing, but for what follows"
    )
    from_elsewhere = []
    for policy in policies.values():
        for rule in policy["ingress"]:
            for peer in rule["from"]:
                if peer != {"podSelector": {"matchLabels": LABEL}}:
                    from_elsewhere.append((peer, [port["port"] for port in rule["ports"]]))
    operator = {"matchLabels": {"kubernetes.io/metadata.name": "dask-operator"}}
    assert from_elsewhere == [({"namespaceSelector": operator}, [8787])]
    # The operator gives pods the labels of their DaskCluster.
    assert LABEL.items() <= of_kind("DaskCluster", MANIFESTS)["metadata"]["labels"].items()
    assert LABEL.items() <= of_kind("Job", MANIFESTS)["spec"]["template"]["metadata"]["labels"].items()


def test_the_operator_makes_pods_that_the_policies_know() -> None:
    """By the operator's own code, which needs no Kubernetes for it."""
    controller = pytest.importorskip("dask_kubernetes.operator.controller.controller")
    cluster = of_kind("DaskCluster", MANIFESTS)
    labels = cluster["metadata"]["labels"]
    name, spec = cluster["metadata"]["name"], cluster["spec"]
    scheduler = controller.build_scheduler_deployment_spec(name, spec["scheduler"]["spec"], {}, labels)
    worker = controller.build_worker_deployment_spec(
        f"{name}-default", "slcluster", name, "0", spec["worker"]["spec"], {}, labels
    )
    policies = {
        item["metadata"]["name"]: item["spec"] for item in MANIFESTS if item["kind"] == "NetworkPolicy"
    }
    for deployment in (scheduler, worker):
        assert LABEL.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    watched = policies["slcluster-operator"]["podSelector"]["matchLabels"].items()
    assert watched <= scheduler["spec"]["template"]["metadata"]["labels"].items()
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    given = {variable["name"]: variable["value"] for variable in container["env"]}
    assert given["DASK_SCHEDULER_ADDRESS"].startswith("tls://"), "ours, not the operator's tcp://"
    assert "$(DASK_WORKER_NAME)" in container["args"]
    assert given["DASK_WORKER_NAME"].startswith(f"{name}-default-worker-"), (
        "which the operator deletes by name"
    )


def test_the_job_is_one_that_the_command_takes() -> None:
    load_job(KUBERNETES / "job.yaml")
    (container,) = pods()["analysis"]["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    (file,) = of_kind("Kustomization", [KUSTOMIZATION])["configMapGenerator"][0]["files"]
    assert mounts["job"]["subPath"] == file
    # What a job file writes stays beside it, and so in the volume.
    assert mounts["job"]["mountPath"] == f"{mounts['data']['mountPath']}/{file}"
    assert parsed(container["args"])["inputs"] == (mounts["job"]["mountPath"],)


def test_a_mistake_is_not_tried_again() -> None:
    job = of_kind("Job", MANIFESTS)["spec"]
    fail = job["podFailurePolicy"]["rules"][0]
    assert fail["action"] == "FailJob"
    assert fail["onExitCodes"]["values"] == [EXIT_INPUT]
    assert fail["onExitCodes"]["containerName"] == job["template"]["spec"]["containers"][0]["name"]
    assert job["template"]["spec"]["restartPolicy"] == "Never", "or the policy does not hold"
