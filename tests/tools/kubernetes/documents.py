"""What the overlays of k8s/ come to, as Kubernetes would get it, and what is asked of it again and again."""

import copy
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / ".tools"
OVERLAYS = ("dev", "production", "page-links")
WORKLOADS = ("Deployment", "StatefulSet")
# hookcache's listeners: the data plane and the control plane.
DATA, CONTROL = 8080, 8081


def fail(text):
    print(text, file=sys.stderr)
    sys.exit(1)


def render(overlay):
    """The documents of an overlay."""
    kubectl = [TOOLS / "venv/bin/kubectl", "kustomize", ROOT / "k8s/overlays" / overlay]
    done = subprocess.run(kubectl, capture_output=True, text=True)
    if done.returncode != 0:
        fail(f"k8s/overlays/{overlay}: {done.stderr}")
    if done.stderr:
        fail(f"k8s/overlays/{overlay}: kubectl kustomize warns: {done.stderr}")
    return list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


class Overlay:
    """Documents, and what one looks for in them. A policy reads it; planted faults change a copy."""

    def __init__(self, name, documents):
        self.name = name
        self.documents = documents

    def changed(self):
        return Overlay(self.name, copy.deepcopy(self.documents))

    def of(self, *kinds):
        return [document for document in self.documents if document["kind"] in kinds]

    def named(self, kind, name):
        return next((document for document in self.of(kind) if document["metadata"]["name"] == name), None)

    def role(self, component):
        """The workload with this label."""
        return next(workload for workload in self.of(*WORKLOADS) if component_of(workload) == component)

    def selected(self, labels, expressions=()):
        """Workloads whose pods a selector finds."""
        return [workload for workload in self.of(*WORKLOADS) if selects(labels, expressions, pod_labels(workload))]

    def config(self):
        """hookcache.toml, parsed."""
        return tomllib.loads(self.config_text())

    def config_text(self):
        return next(m["data"]["hookcache.toml"] for m in self.of("ConfigMap") if "hookcache.toml" in m["data"])


def title(document):
    return f"{document.get('kind')} {document.get('metadata', {}).get('name')}"


def component_of(document):
    return document["metadata"].get("labels", {}).get("app.kubernetes.io/component")


def pod(workload):
    return workload["spec"]["template"]["spec"]


def pod_labels(workload):
    return workload["spec"]["template"]["metadata"]["labels"]


def container(workload):
    """Each pod has one, which a policy holds."""
    return pod(workload)["containers"][0]


def ports(workload):
    return {port["name"]: port["containerPort"] for port in container(workload).get("ports", [])}


def pre_stop_seconds(workload):
    return container(workload).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)


def roles(workload, config):
    """The roles of `hookcache serve` that a workload runs; all of them where it says nothing."""
    args = container(workload).get("args", [])
    if "--roles" in args:
        return args[args.index("--roles") + 1].split(",")
    return config.get("roles") or defaults()["roles"]


def selects(labels, expressions, of_pod):
    for expression in expressions:
        assert expression["operator"] == "In", "no other operator is used"
        if of_pod.get(expression["key"]) not in expression["values"]:
            return False
    return all(of_pod.get(key) == value for key, value in labels.items())


def defaults():
    """config/hookcache.toml, which is also the list of all settings."""
    return tomllib.loads((ROOT / "config/hookcache.toml").read_text())


def pod_selector(policy):
    selector = policy["spec"]["podSelector"]
    return selector.get("matchLabels", {}), selector.get("matchExpressions", [])


def backends(ingress):
    paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    default = ingress["spec"].get("defaultBackend")
    return [path["backend"]["service"] for path in paths] + ([default["service"]] if default else [])


def workloads_and(check):
    """A policy over each workload."""

    def policy(overlay):
        for workload in overlay.of(*WORKLOADS):
            for fault in check(overlay, workload):
                yield f"{title(workload)}: {fault}"

    policy.__name__ = check.__name__
    return policy
