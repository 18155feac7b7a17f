"""What one document names, another is; settings are those of hookcache; secrets are named, and nowhere told."""

import re

from documents import (
    WORKLOADS,
    backends,
    container,
    defaults,
    pod,
    pod_labels,
    pod_selector,
    ports,
    roles,
    selects,
    title,
)

# What an environment variable may be that is no setting.
ENV_OTHER = ("HOOKCACHE_CONFIG",)
# Settings whose value can hold a password.
ENV_SECRET = ("HOOKCACHE_STORE__URL", "HOOKCACHE_REGISTRY__URL", "HOOKCACHE_CONFIG_TEXT", "HOOKCACHE_TOKEN")


def secrets_are_referred_to(overlay):
    for secret in overlay.of("Secret"):
        yield f"{title(secret)}: secrets are made elsewhere"
    for workload in overlay.of(*WORKLOADS):
        for env in container(workload).get("env", []):
            if env["name"] in ENV_SECRET and "secretKeyRef" not in env.get("valueFrom", {}):
                yield f"{title(workload)}: {env['name']} may hold a password, and is not of a Secret"
    for document in overlay.documents:
        for text in texts(document):
            if re.search(r"://[^/\s@]*:[^/\s@]+@|-----BEGIN|AKIA[0-9A-Z]{16}", text):
                yield f"{title(document)}: there is a password or a key in it"


def texts(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(key)
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def settings_exist(overlay):
    known, given = defaults(), overlay.config()
    for key, value in given.items():
        for name in value if isinstance(value, dict) else [None]:
            of = known.get(key, {}) if name else known
            if (name or key) not in of and key != "keys":
                yield f"hookcache.toml: there is no setting {key}{'.' + name if name else ''}"
    names = {
        variable(key, name) for key, value in known.items() for name in (value if isinstance(value, dict) else [None])
    }
    for workload in overlay.of(*WORKLOADS):
        for env in container(workload).get("env", []):
            if env["name"] not in names and env["name"] not in ENV_OTHER:
                yield f"{title(workload)}: there is no setting {env['name']}"
        args = container(workload).get("args", [])
        if args[:1] != ["serve"] or any(arg.startswith("-") and arg != "--roles" for arg in args):
            yield f"{title(workload)}: {args} is not `serve` or `serve --roles`"
        for role in roles(workload, given):
            if role not in known["roles"]:
                yield f"{title(workload)}: there is no role {role}"
        if container(workload).get("command") != ["hookcache"]:
            yield f"{title(workload)}: it runs something else"


def variable(section, key):
    return f"HOOKCACHE_{section}__{key}".upper() if key else f"HOOKCACHE_{section}".upper()


def every_role_runs(overlay):
    config = overlay.config()
    run = {role for workload in overlay.of(*WORKLOADS) for role in roles(workload, config)}
    needed = {"set", "consume", "get", "admin"}
    if config.get("confluence", {}).get("enabled"):
        needed |= {"pages", "reindex"}
    for role in sorted(needed - run):
        yield f"nobody has the role {role}"


def references_hold(overlay):
    """What one document names, another is."""
    for workload in overlay.of(*WORKLOADS):
        account = pod(workload).get("serviceAccountName")
        if account and not overlay.named("ServiceAccount", account):
            yield f"{title(workload)}: there is no ServiceAccount {account}"
        volumes = {volume["name"]: volume for volume in pod(workload).get("volumes", [])}
        claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        for volume in volumes.values():
            name = volume.get("configMap", {}).get("name")
            if name and not overlay.named("ConfigMap", name):
                yield f"{title(workload)}: there is no ConfigMap {name}"
        for mount in container(workload).get("volumeMounts", []):
            if mount["name"] not in set(volumes) | claims:
                yield f"{title(workload)}: there is no volume {mount['name']}"
            if mount["name"] not in claims and mount.get("readOnly") is not True:
                yield f"{title(workload)}: {mount['mountPath']} is not mounted readOnly"
        if not selects(workload["spec"]["selector"]["matchLabels"], (), pod_labels(workload)):
            yield f"{title(workload)}: its selector is not that of its pods"
    for service in overlay.of("Service"):
        found = overlay.selected(service["spec"]["selector"])
        if not found:
            yield f"{title(service)}: it selects nothing"
        for port in service["spec"]["ports"]:
            for workload in found:
                if port.get("targetPort") not in ports(workload):
                    yield f"{title(service)}: {title(workload)} has no port {port.get('targetPort')}"
    for scaler in overlay.of("HorizontalPodAutoscaler", "ScaledObject"):
        name = scaler["spec"]["scaleTargetRef"]["name"]
        if not overlay.named("Deployment", name):
            yield f"{title(scaler)}: there is no Deployment {name}"
    for scaled in overlay.of("ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            name = trigger.get("authenticationRef", {}).get("name")
            if not overlay.named("TriggerAuthentication", name):
                yield f"{title(scaled)}: there is no TriggerAuthentication {name}"
    for budget in overlay.of("PodDisruptionBudget"):
        if not overlay.selected(budget["spec"]["selector"]["matchLabels"]):
            yield f"{title(budget)}: it selects nothing"
    for ingress in overlay.of("Ingress"):
        for backend in backends(ingress):
            service = overlay.named("Service", backend["name"])
            names = {port["name"] for port in service["spec"]["ports"]} if service else set()
            if backend["port"].get("name") not in names:
                yield f"{title(ingress)}: there is no Service {backend['name']} with such a port"
    for monitor in overlay.of("ServiceMonitor"):
        labels = monitor["spec"]["selector"]["matchLabels"]
        found = [s for s in overlay.of("Service") if selects(labels, (), s["metadata"].get("labels", {}))]
        if len(found) != 1:
            yield f"{title(monitor)}: it selects {len(found)} Services"
        for endpoint in monitor["spec"]["endpoints"]:
            for service in found:
                if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
                    yield f"{title(monitor)}: {title(service)} has no port {endpoint['port']}"
    for policy in overlay.of("NetworkPolicy"):
        found = overlay.selected(*pod_selector(policy))
        if not found:
            yield f"{title(policy)}: it selects nothing"
        named = {p["port"] for rule in policy["spec"].get("ingress", []) for p in rule.get("ports", [])}
        for port in named:
            if not any(port in ports(workload) for workload in found):
                yield f"{title(policy)}: none of its pods has a port {port}"
