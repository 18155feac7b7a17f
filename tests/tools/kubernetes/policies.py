"""What holds for every overlay of k8s/, whatever the schemas allow. Each policy yields what speaks against it; faults.py
plants a fault for each of them, which it must find."""

import re

from documents import WORKLOADS, component_of, container, defaults, pod, pod_labels, ports, roles, selects, title
from quantities import cpu_millis, memory_bytes, seconds

# hookcache's listeners: the data plane and the control plane.
DATA, CONTROL = 8080, 8081
# How long an append, and a webhook, may outlast its call, and the consumer and the pages worker what they give back: constants of
# src/app.rs, src/consumer and src/pages.
APPENDS_SECONDS, HOOKS_SECONDS, GIVING_BACK_SECONDS = 10, 10, 3
# What an environment variable may be that is no setting.
ENV_OTHER = ("HOOKCACHE_CONFIG",)
# Settings whose value can hold a password.
ENV_SECRET = ("HOOKCACHE_STORE__URL", "HOOKCACHE_REGISTRY__URL", "HOOKCACHE_CONFIG_TEXT", "HOOKCACHE_TOKEN")
SQS_TRIGGER = {
    "queueURL", "queueLength", "activationQueueLength", "awsRegion", "scaleOnInFlight", "scaleOnDelayed", "awsEndpoint",
}
# Roles that call whom they do not know: Confluence, and the public keys of its apps.
INTERNET = {"pages", "reindex", "set"}
PRIVATE = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"}


def workloads_and(check):
    """A policy over each workload."""

    def policy(overlay):
        for workload in overlay.of(*WORKLOADS):
            for fault in check(overlay, workload):
                yield f"{title(workload)}: {fault}"

    policy.__name__ = check.__name__
    return policy


@workloads_and
def pods_are_restricted(overlay, workload):
    """As Pod Security's `restricted` asks, and a little more."""
    spec = pod(workload)
    its = spec.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if spec.get(key):
            yield f"{key} is set"
    if its.get("runAsNonRoot") is not True or its.get("runAsUser", 0) == 0 or its.get("runAsGroup", 0) == 0:
        yield "it may run as root"
    if its.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "its system calls are not limited by seccomp"
    if spec.get("automountServiceAccountToken") is not False:
        yield "it gets a token for Kubernetes that it does not need"
    if spec.get("enableServiceLinks") is not False:
        yield "names of Services become environment variables"
    for volume in spec.get("volumes", []):
        if not set(volume) <= {"name", "configMap", "secret", "emptyDir", "persistentVolumeClaim"}:
            yield f"volume {volume['name']} is of a kind that is not allowed"
    if len(spec["containers"]) != 1 or spec.get("initContainers") or spec.get("ephemeralContainers"):
        yield "it has more than one container"
    rights = container(workload).get("securityContext", {})
    if rights.get("privileged") or rights.get("allowPrivilegeEscalation") is not False:
        yield "it is, or may become, privileged"
    if rights.get("readOnlyRootFilesystem") is not True:
        yield "its root can be written to"
    if rights.get("capabilities") != {"drop": ["ALL"]}:
        yield "not all capabilities are dropped"
    if set(rights) & {"runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile"}:
        yield "the container overrides what the pod says"


def namespaces_are_restricted(overlay):
    """Each document is in a namespace of the overlay, where Pod Security holds for whatever else is put there."""
    names = {document["metadata"]["name"] for document in overlay.of("Namespace")}
    for namespace in overlay.of("Namespace"):
        if namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{title(namespace)}: Pod Security does not enforce `restricted`"
    for document in overlay.documents:
        if document["kind"] != "Namespace" and document["metadata"].get("namespace") not in names:
            yield f"{title(document)}: it is in no namespace of the overlay"


@workloads_and
def images_are_pinned(overlay, workload):
    image = container(workload)["image"]
    last = image.rsplit("/", 1)[-1]
    if "@sha256:" not in image and (":" not in last or last.endswith(":latest")):
        yield f"{image} is not of one version"


@workloads_and
def resources_are_limited(overlay, workload):
    its = container(workload).get("resources", {})
    asked, limits = its.get("requests", {}), its.get("limits", {})
    for what, number in (("cpu", cpu_millis), ("memory", memory_bytes)):
        if what not in asked or what not in limits:
            yield f"{what} has no request, or no limit"
        elif number(asked[what]) > number(limits[what]):
            yield f"{what}: the request is above the limit"


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


@workloads_and
def probes_mean_different_things(overlay, workload):
    its = container(workload)
    start, ready, live = (its.get(key, {}) for key in ("startupProbe", "readinessProbe", "livenessProbe"))
    paths = [probe.get("httpGet", {}).get("path") for probe in (start, ready, live)]
    if paths != ["/healthz", "/readyz", "/healthz"]:
        yield f"startup, readiness and liveness ask {paths}"
    if any(probe.get("httpGet", {}).get("port") != CONTROL for probe in (start, ready, live)):
        yield f"a probe does not ask {CONTROL}, which requests for keys can't crowd out"
    if patience(start) < 120:
        yield "a start that opens a large file is killed"
    if patience(live) < 30:
        yield "a pod is killed while it may be busy only"
    if patience(ready) > 20:
        yield "a pod that can't work is sent requests for long"
    # src/app/health.rs waits 3 seconds for a backend.
    if ready.get("timeoutSeconds", 1) <= 3:
        yield "readiness is not waited for"


def patience(probe):
    return probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)


@workloads_and
def it_stops_in_time(overlay, workload):
    config = overlay.config()

    def setting(section, key):
        return seconds(config.get(section, {}).get(key, defaults()[section][key]))

    http, consumer = setting("http", "drain_deadline"), setting("consumer", "drain_deadline")
    needs = http + APPENDS_SECONDS + HOOKS_SECONDS + consumer + GIVING_BACK_SECONDS + http
    needs += setting("pages", "drain_deadline") + GIVING_BACK_SECONDS
    sleep = container(workload).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    given = pod(workload).get("terminationGracePeriodSeconds", 30)
    if given < needs + sleep:
        yield f"it is killed after {given} s, and stopping may take {needs + sleep:.0f} s"
    served = any(name in ports(workload) for name in ("http", "control"))
    if served and sleep < 5:
        yield "it stops accepting before those that send to it know"


def settings_exist(overlay):
    known, given = defaults(), overlay.config()
    for key, value in given.items():
        for name in value if isinstance(value, dict) else [None]:
            of = known.get(key, {}) if name else known
            if (name or key) not in of and key != "keys":
                yield f"hookcache.toml: there is no setting {key}{'.' + name if name else ''}"
    names = {variable(key, name) for key, value in known.items() for name in (value if isinstance(value, dict) else [None])}
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


def pod_selector(policy):
    selector = policy["spec"]["podSelector"]
    return selector.get("matchLabels", {}), selector.get("matchExpressions", [])


def backends(ingress):
    paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    default = ingress["spec"].get("defaultBackend")
    return [path["backend"]["service"] for path in paths] + ([default["service"]] if default else [])


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


def scaling_is_safe(overlay):
    config = overlay.config()
    queue = config.get("buffer", {}).get("queue_url")
    scalers = overlay.of("HorizontalPodAutoscaler", "ScaledObject")
    scaled = {scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers}
    for workload in overlay.of(*WORKLOADS):
        name, replicas = workload["metadata"]["name"], workload["spec"].get("replicas")
        if name in scaled and replicas is not None:
            yield f"{title(workload)}: each apply would undo what scales it"
        if name not in scaled and replicas is None:
            yield f"{title(workload)}: it does not say how many there are"
        if not queue and replicas != 1:
            yield f"{title(workload)}: an embedded buffer is one process"
        if workload["kind"] == "Deployment" and not queue:
            yield f"{title(workload)}: two could have its files at once"
    for scaler in scalers:
        spec = scaler["spec"]
        least = spec.get("minReplicas", spec.get("minReplicaCount", 1 if "minReplicas" in spec else 0))
        most = spec.get("maxReplicas", spec.get("maxReplicaCount", 100))
        target = overlay.named("Deployment", spec["scaleTargetRef"]["name"])
        if least == 0 and (not target or roles(target, config) != ["consume"] or not queue):
            yield f"{title(scaler)}: only the role consume may go down to none, and only with SQS"
        if scaler["kind"] == "HorizontalPodAutoscaler" and least < 2:
            yield f"{title(scaler)}: one alone is none while it is replaced"
        if most <= max(least, 1):
            yield f"{title(scaler)}: it does not scale"
    for scaler in overlay.of("ScaledObject"):
        for trigger in scaler["spec"]["triggers"]:
            its = trigger["metadata"]
            if trigger["type"] != "aws-sqs-queue" or not set(its) <= SQS_TRIGGER:
                yield f"{title(scaler)}: KEDA's aws-sqs-queue does not know {sorted(set(its) - SQS_TRIGGER)}"
            if its.get("queueURL") != queue or its.get("awsRegion") != config["buffer"].get("region"):
                yield f"{title(scaler)}: it asks another queue than buffer.queue_url"
            if not its.get("queueLength", "").isdecimal() or its.get("scaleOnInFlight") != "true":
                yield f"{title(scaler)}: queueLength is no number, or messages in hand do not count"


@workloads_and
def pods_are_spread_and_guarded(overlay, workload):
    if workload["kind"] == "StatefulSet" or workload["spec"].get("replicas") == 1:
        return
    spread = pod(workload).get("topologySpreadConstraints", [])
    if {constraint["topologyKey"] for constraint in spread} != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
        yield "its pods may all be in one zone, or on one node"
    labels = pod_labels(workload)
    budgets = [b for b in overlay.of("PodDisruptionBudget") if selects(b["spec"]["selector"]["matchLabels"], (), labels)]
    if len(budgets) != 1:
        yield f"it has {len(budgets)} PodDisruptionBudgets"
    for budget in budgets:
        if budget["spec"].get("maxUnavailable") != 1 or budget["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield "its PodDisruptionBudget keeps a node from being drained, or does not guard"
    if workload["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxUnavailable") != 0:
        yield "an update takes one away before the next is ready"


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


ALL = [
    pods_are_restricted,
    namespaces_are_restricted,
    images_are_pinned,
    resources_are_limited,
    secrets_are_referred_to,
    probes_mean_different_things,
    it_stops_in_time,
    settings_exist,
    every_role_runs,
    references_hold,
    the_control_plane_is_closed,
    traffic_is_denied_by_default,
    scaling_is_safe,
    pods_are_spread_and_guarded,
]
