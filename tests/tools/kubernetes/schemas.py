"""Is each document what Kubernetes, KEDA and the Prometheus operator take? Unknown fields are refused, too.

Kubernetes' own schemas come from the PyPI package kubernetes-validate (tests/tools/install), those of KEDA and the
Prometheus operator lie in crds/.
"""

import functools
import json
from pathlib import Path

import jsonschema_rs

from documents import TOOLS, title

# Oldest and newest that k8s/README.md promises.
VERSIONS = ("1.30", "1.37")
CRDS = Path(__file__).parent / "crds"


@functools.cache
def definitions(version):
    return json.loads((TOOLS / f"kubernetes/{version}/_definitions.json").read_text())["$defs"]


@functools.cache
def validators(api_version, kind):
    """A validator for each version; one for what comes from elsewhere."""
    crd = CRDS / f"{kind}.json"
    if "." in api_version.split("/")[0] and crd.exists():
        schema = json.loads(crd.read_text())
        schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
        return [(schema["properties"]["apiVersion"]["const"], jsonschema_rs.validator_for(schema))]
    group = api_version.split("/")[0].split(".")[0] + "-" if "/" in api_version else ""
    file = f"{kind.lower()}-{group}{api_version.split('/')[-1]}.json"
    found = []
    for version in VERSIONS:
        path = TOOLS / "kubernetes" / version / file
        if not path.exists():
            return []
        schema = json.loads(path.read_text().replace("/api/_definitions.json#", "#"))
        schema["$defs"] = definitions(version)
        found.append((f"Kubernetes {version}", jsonschema_rs.validator_for(schema)))
    return found


def faults(document):
    """Why a document is refused, the first reason of each version."""
    by_version = validators(document.get("apiVersion", "?"), document.get("kind", "?"))
    if not by_version:
        return [f"{title(document)}: nobody knows {document.get('apiVersion')} {document.get('kind')}"]
    said = []
    for version, validator in by_version:
        error = next(iter(validator.iter_errors(document)), None)
        if error is not None:
            path = ".".join(str(part) for part in error.instance_path)
            said.append(f"{title(document)}: {path or 'it'}: {error.message[:200]} ({version})")
    return said
