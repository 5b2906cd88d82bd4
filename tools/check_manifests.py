"""Renders deploy/k8s with kustomize and checks the result offline: the Kubernetes schema, the rules of the house."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from deploy.local.home import Home
from deploy.local.ports import Ports
from deploy.local.processes import Plan, Secrets, process_table

ROOT = Path(__file__).resolve().parent.parent
KUSTOMIZE = ROOT / ".cache" / "tools" / "kustomize"
COLLECTOR = "IMAGEMESH_OTLP_ENDPOINT"
PROVIDER_KEYS = "imagemesh-provider-keys"
LAYERS = ("base",)
KUBERNETES = "1.37"
LOCAL = Plan(Home(ROOT / "home"), Ports(), Secrets("", ""), Path("nats-server"), "triton")

Manifest = dict[str, Any]


def render(layer: str) -> list[Manifest]:
    """The manifests of one kustomize layer."""
    folder = ROOT / "deploy" / "k8s" / layer
    built = subprocess.run([KUSTOMIZE, "build", folder], check=True, capture_output=True, text=True)
    return [document for document in yaml.safe_load_all(built.stdout) if document]


def schema_problems(manifest: Manifest) -> Iterator[str]:
    """What the Kubernetes schema of the pinned version says against the manifest."""
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{name_of(manifest)}: {error.message}"


def house_problems(manifest: Manifest) -> Iterator[str]:
    """Every container has probes, requests, a memory limit, and no more rights than it needs."""
    if manifest["kind"] not in ("Deployment", "StatefulSet"):
        return
    pod = manifest["spec"]["template"]["spec"]
    if not pod.get("securityContext", {}).get("runAsNonRoot"):
        yield f"{name_of(manifest)}: must run as another user than root"
    for container in pod["containers"]:
        where = f"{name_of(manifest)}/{container['name']}"
        missing = {"livenessProbe", "startupProbe", "resources", "securityContext"} - container.keys()
        if missing:
            yield f"{where}: lacks {', '.join(sorted(missing))}"
        if "memory" not in container.get("resources", {}).get("limits", {}):
            yield f"{where}: lacks a memory limit"
        if container["image"].startswith("imagemesh/") and not _knows_the_collector(container):
            yield f"{where}: lacks {COLLECTOR}, so traces would end before it"


def _knows_the_collector(container: Manifest) -> bool:
    return "envFrom" in container or COLLECTOR in {variable["name"] for variable in container.get("env", ())}


def process_problems(manifests: list[Manifest]) -> Iterator[str]:
    """The containers are the processes of the local launcher, one to one."""
    pods = [m["spec"]["template"]["spec"] for m in manifests if m["kind"] in ("Deployment", "StatefulSet")]
    containers = sorted(container["name"] for pod in pods for container in pod["containers"])
    processes = sorted(process.name for process in process_table(LOCAL))
    if containers != processes:
        yield f"the containers are {containers}, the local processes are {processes}"


def key_problems(manifests: list[Manifest]) -> Iterator[str]:
    """Providers' keys reach both processes of the router: one plans by them, the other calls with them."""
    for manifest in manifests:
        if manifest["kind"] == "Deployment" and manifest["metadata"]["name"].startswith("router-"):
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            secrets = {source.get("secretRef", {}).get("name") for source in container.get("envFrom", ())}
            if PROVIDER_KEYS not in secrets:
                yield f"{name_of(manifest)}: lacks the secret {PROVIDER_KEYS} in envFrom"


def name_of(manifest: Manifest) -> str:
    """Kind and name, for messages."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def main() -> None:
    """Prints every problem; exits with 1 when there is any."""
    problems: list[str] = []
    for layer in LAYERS:
        manifests = render(layer)
        for manifest in manifests:
            problems += [*schema_problems(manifest), *house_problems(manifest)]
        problems += [*process_problems(manifests), *key_problems(manifests)]
        print(f"{layer}: {len(manifests)} manifests")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
