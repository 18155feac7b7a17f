"""What a pod may do and needs, and how it starts and stops."""

from documents import (
    CONTROL,
    container,
    defaults,
    pod,
    pod_labels,
    ports,
    pre_stop_seconds,
    selects,
    workloads_and,
)
from quantities import cpu_millis, memory_bytes, seconds

# How long an append, and a webhook, may outlast its call; the last take, and giving back, the drain of consumer and pages
# worker: constants of src/app.rs, src/buffer/work, src/consumer and src/pages.
APPENDS_SECONDS, HOOKS_SECONDS, LAST_TAKE_SECONDS, GIVING_BACK_SECONDS = 10, 10, 1, 3


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
    around = LAST_TAKE_SECONDS + GIVING_BACK_SECONDS
    needs = http + APPENDS_SECONDS + HOOKS_SECONDS + consumer + around + http
    needs += setting("pages", "drain_deadline") + around
    sleep = pre_stop_seconds(workload)
    given = pod(workload).get("terminationGracePeriodSeconds", 30)
    if given < needs + sleep:
        yield f"it is killed after {given} s, and stopping may take {needs + sleep:.0f} s"
    served = any(name in ports(workload) for name in ("http", "control"))
    if served and sleep < 5:
        yield "it stops accepting before those that send to it know"


@workloads_and
def pods_are_spread_and_guarded(overlay, workload):
    if workload["kind"] == "StatefulSet" or workload["spec"].get("replicas") == 1:
        return
    spread = pod(workload).get("topologySpreadConstraints", [])
    if {constraint["topologyKey"] for constraint in spread} != {
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    }:
        yield "its pods may all be in one zone, or on one node"
    labels = pod_labels(workload)
    budgets = [
        b for b in overlay.of("PodDisruptionBudget") if selects(b["spec"]["selector"]["matchLabels"], (), labels)
    ]
    if len(budgets) != 1:
        yield f"it has {len(budgets)} PodDisruptionBudgets"
    for budget in budgets:
        if (
            budget["spec"].get("maxUnavailable") != 1
            or budget["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow"
        ):
            yield "its PodDisruptionBudget keeps a node from being drained, or does not guard"
    if workload["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxUnavailable") != 0:
        yield "an update takes one away before the next is ready"
