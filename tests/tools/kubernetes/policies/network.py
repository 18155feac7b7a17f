"""Who reaches whom."""

import json

from documents import CONTROL, DATA, ROOT, WORKLOADS, backends, component_of, pod_selector, ports, roles, title

# Roles that call whom they do not know: Confluence, and the public keys of its apps.
INTERNET = {"pages", "reindex", "set"}
PRIVATE = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"}


def namespaces_are_restricted(overlay):
    """Each document is in a namespace of the overlay, where Pod Security holds for whatever else is put there."""
    names = {document["metadata"]["name"] for document in overlay.of("Namespace")}
    for namespace in overlay.of("Namespace"):
        if namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{title(namespace)}: Pod Security does not enforce `restricted`"
    for document in overlay.documents:
        if document["kind"] != "Namespace" and document["metadata"].get("namespace") not in names:
            yield f"{title(document)}: it is in no namespace of the overlay"


def the_control_plane_is_closed(overlay):
    """Nobody reaches the control plane but pods that say they are an operator's. Metrics are read where it is not."""
    config = overlay.config()
    for service in overlay.of("Service"):
        if service["spec"].get("type", "ClusterIP") != "ClusterIP":
            yield f"{title(service)}: it is open to the outside; an Ingress is the door"
        for port in service["spec"]["ports"]:
            if port["targetPort"] == "control" and component_of(service) != "admin":
                yield f"{title(service)}: it leads to a control plane"
    for workload in overlay.of(*WORKLOADS):
        if "admin" in roles(workload, config):
            names = [name for name, number in ports(workload).items() if number == CONTROL]
        else:
            names = ["control"] if "control" in ports(workload) else []
        if names not in ([], ["control"]):
            yield f"{title(workload)}: {CONTROL} is its control plane, and called {names}"
        if "metrics" in ports(workload) and ports(workload)["metrics"] == DATA and "http" in ports(workload):
            yield f"{title(workload)}: metrics and requests share a listener"
    for ingress in overlay.of("Ingress"):
        if not ingress["spec"].get("tls"):
            yield f"{title(ingress)}: tokens would go without TLS"
        for backend in backends(ingress):
            service = overlay.named("Service", backend["name"])
            if service and {port["targetPort"] for port in service["spec"]["ports"]} != {"http"}:
                yield f"{title(ingress)}: {backend['name']} is not for the outside"
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                if not path["path"].startswith("/v1/"):
                    yield f"{title(ingress)}: {path['path']} lets in more than the API"
    for policy in overlay.of("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            named = {port.get("port") for port in rule.get("ports", [])}
            operator = {"podSelector": {"matchLabels": {"hookcache/operator": "true"}}}
            if named & {"control", CONTROL} and any(peer != operator for peer in rule.get("from", [{}])):
                yield f"{title(policy)}: it lets others than operators to the control plane"


def the_api_is_behind_the_ingress(overlay):
    """Each call of the data plane that some role answers leads to a Service of that role; a `DELETE` has `POST /v1/delete`."""
    config = overlay.config()
    page_links = config.get("confluence", {}).get("enabled", False)
    calls = json.loads((ROOT / "config/openapi/data.json").read_text())["paths"]
    for ingress in overlay.of("Ingress"):
        rules = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
        for call in calls:
            if not call.startswith("/v1/") or (not page_links and call.startswith(("/v1/sites/", "/v1/hooks/"))):
                continue
            role = "set" if call.startswith(("/v1/set", "/v1/delete", "/v1/hooks/")) else "get"
            if role not in served_by(overlay, config, rules, call):
                yield f"{title(ingress)}: {call} leads to nobody with the role {role}"


def served_by(overlay, config, rules, call):
    """Roles behind the longest path that a call fits."""
    fits = [
        rule
        for rule in rules
        if call == rule["path"] or (rule["pathType"] == "Prefix" and call.startswith(rule["path"].rstrip("/") + "/"))
    ]
    if not fits:
        return []
    service = overlay.named("Service", max(fits, key=lambda rule: len(rule["path"]))["backend"]["service"]["name"])
    found = overlay.selected(service["spec"]["selector"]) if service else []
    return [role for workload in found for role in roles(workload, config)]


def traffic_is_denied_by_default(overlay):
    policies = overlay.of("NetworkPolicy")
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if not any(policy["spec"] == closed for policy in policies):
        yield "no NetworkPolicy closes the namespace"
    for policy in policies:
        spec = policy["spec"]
        for rule in spec.get("ingress", []):
            if not rule.get("from") or not rule.get("ports"):
                yield f"{title(policy)}: it lets anybody in, or to any port"
        for rule in spec.get("egress", []):
            if not rule.get("to") or not rule.get("ports"):
                yield f"{title(policy)}: it lets out to anybody, or to any port"
            for peer in rule.get("to", []):
                block = peer.get("ipBlock", {})
                if block.get("cidr") not in ("0.0.0.0/0", "::/0"):
                    continue
                found = {component_of(workload) for workload in overlay.selected(*pod_selector(policy))}
                if not found <= INTERNET or not PRIVATE <= set(block.get("except", [])):
                    yield f"{title(policy)}: it lets {sorted(found)} out to anybody"
                if {port.get("port") for port in rule.get("ports", [])} != {443}:
                    yield f"{title(policy)}: it lets out to anybody by more than 443"
