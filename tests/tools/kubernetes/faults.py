"""A check that can't fail says nothing. Here faults are planted, each of which must be found."""

import copy

import policies
import schemas
from documents import container, pod, title

# Below these anything may be called anything, so that no schema can know a typo.
FREE = {"labels", "annotations", "data", "matchLabels", "requests", "limits"}
# Fields that take a number or a word.
NUMBER_OR_WORD = {"port", "targetPort", "maxUnavailable", "maxSurge"}


def typos(document):
    """(where, copy) for each field with a letter too many, and for each number or truth value that is a word."""
    for path in fields(document, ()):
        where = ".".join(str(part) for part in path)
        changed = copy.deepcopy(document)
        parent = inner(changed, path[:-1])
        parent[f"{path[-1]}x"] = parent.pop(path[-1])
        yield f"{where}x", changed
        if isinstance(inner(document, path), (bool, int)) and path[-1] not in NUMBER_OR_WORD:
            changed = copy.deepcopy(document)
            inner(changed, path[:-1])[path[-1]] = "some"
            yield f"{where}: some", changed


def fields(value, path):
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from fields(item, (*path, index))
    elif isinstance(value, dict):
        free = path and (path[-1] in FREE or path == ("spec", "selector") and not set(value) & {"matchLabels"})
        if free or (len(path) > 1 and path[-1] == "metadata" and "triggers" in path):
            return
        for key, item in value.items():
            yield (*path, key)
            yield from fields(item, (*path, key))


def inner(value, path):
    for part in path:
        value = value[part]
    return value


def unseen_typos(overlay):
    """Typos in the documents of an overlay that no schema refuses."""
    for document in overlay.documents:
        for where, changed in typos(document):
            if not schemas.faults(changed):
                yield f"{title(document)}: {where} is taken for right"


# For each policy, what it must find in overlays/page-links, which has all there is.
def planted(overlay):
    """(policy, what, changed overlay)"""

    def plant(policy, what, change):
        changed = overlay.changed()
        change(changed)
        return policy, what, changed

    def in_pod(key, value):
        return lambda o: pod(o.role("get")).update({key: value})

    def in_container(key, value):
        return lambda o: container(o.role("get")).update({key: value})

    def in_rights(key, value):
        return lambda o: container(o.role("get"))["securityContext"].update({key: value})

    def in_probe(probe, key, value):
        return lambda o: container(o.role("get"))[probe].update({key: value})

    def in_spec(kind, name, key, value):
        return lambda o: o.named(kind, name)["spec"].update({key: value})

    def in_env(name, value):
        return lambda o: container(o.role("get"))["env"].append({"name": name, "value": value})

    def in_config(old, new):
        def change(o):
            for document in o.of("ConfigMap"):
                text = document["data"].get("hookcache.toml")
                if text is not None:
                    assert old in text
                    document["data"]["hookcache.toml"] = text.replace(old, new)

        return change

    def trigger(o):
        return o.of("ScaledObject")[0]["spec"]["triggers"][0]["metadata"]

    def rule(o, name, direction):
        return o.named("NetworkPolicy", name)["spec"][direction][0]

    def without(kind, name):
        return lambda o: o.documents.remove(o.named(kind, name))

    p = policies
    return [
        plant(p.pods_are_restricted, "privileged", in_rights("privileged", True)),
        plant(p.pods_are_restricted, "privilege escalation", in_rights("allowPrivilegeEscalation", True)),
        plant(p.pods_are_restricted, "a root to write to", in_rights("readOnlyRootFilesystem", False)),
        plant(p.pods_are_restricted, "a capability", in_rights("capabilities", {"drop": ["ALL"], "add": ["NET_RAW"]})),
        plant(p.pods_are_restricted, "root by the container", in_rights("runAsUser", 0)),
        plant(
            p.pods_are_restricted, "root", lambda o: pod(o.role("get"))["securityContext"].update(runAsNonRoot=False)
        ),
        plant(
            p.pods_are_restricted, "no seccomp", lambda o: pod(o.role("get"))["securityContext"].pop("seccompProfile")
        ),
        plant(p.pods_are_restricted, "the host's network", in_pod("hostNetwork", True)),
        plant(p.pods_are_restricted, "a token", in_pod("automountServiceAccountToken", True)),
        plant(p.pods_are_restricted, "service links", in_pod("enableServiceLinks", True)),
        plant(
            p.pods_are_restricted, "a folder of the host", in_pod("volumes", [{"name": "h", "hostPath": {"path": "/"}}])
        ),
        plant(
            p.namespaces_are_restricted,
            "a namespace that lets all in",
            lambda o: o.of("Namespace")[0]["metadata"].pop("labels"),
        ),
        plant(
            p.namespaces_are_restricted,
            "another namespace",
            lambda o: o.role("get")["metadata"].update(namespace="default"),
        ),
        plant(p.images_are_pinned, "latest", in_container("image", "registry.example.com/hookcache:latest")),
        plant(p.images_are_pinned, "no tag", in_container("image", "registry.example.com:5000/hookcache")),
        plant(p.resources_are_limited, "no limits", lambda o: container(o.role("get"))["resources"].pop("limits")),
        plant(
            p.resources_are_limited,
            "more than the limit",
            lambda o: container(o.role("get"))["resources"]["requests"].update(memory="2Gi"),
        ),
        plant(p.secrets_are_referred_to, "a password", in_env("HOOKCACHE_STORE__URL", "rediss://redis")),
        plant(p.secrets_are_referred_to, "a URL with a password", in_config("rediss://", "rediss://:secret@")),
        plant(
            p.secrets_are_referred_to,
            "a Secret",
            lambda o: o.documents.append({"kind": "Secret", "metadata": {"name": "store"}}),
        ),
        plant(
            p.probes_mean_different_things,
            "one probe for all",
            in_probe("livenessProbe", "httpGet", {"path": "/readyz"}),
        ),
        plant(p.probes_mean_different_things, "a hasty start", in_probe("startupProbe", "failureThreshold", 3)),
        plant(p.probes_mean_different_things, "a hasty death", in_probe("livenessProbe", "failureThreshold", 1)),
        plant(p.it_stops_in_time, "an early SIGKILL", in_pod("terminationGracePeriodSeconds", 30)),
        plant(p.it_stops_in_time, "a long drain", in_config("[store]", '[http]\ndrain_deadline = "1m"\n[store]')),
        plant(p.it_stops_in_time, "no preStop", lambda o: container(o.role("get")).pop("lifecycle")),
        plant(p.settings_exist, "a setting that is none", in_env("HOOKCACHE_STORE__ULR", "x")),
        plant(p.settings_exist, "a key that is none", in_config("queue_url", "queueurl")),
        plant(p.settings_exist, "a role that is none", in_container("args", ["serve", "--roles", "gett"])),
        plant(p.every_role_runs, "no consumer", lambda o: o.documents.remove(o.role("consume"))),
        plant(p.every_role_runs, "nobody who reads pages", lambda o: o.documents.remove(o.role("pages"))),
        plant(p.references_hold, "no ServiceAccount", without("ServiceAccount", "hookcache-get")),
        plant(p.references_hold, "no TriggerAuthentication", without("TriggerAuthentication", "hookcache-consume")),
        plant(
            p.references_hold, "another volume", lambda o: container(o.role("get"))["volumeMounts"][0].update(name="x")
        ),
        plant(
            p.references_hold,
            "a Service of nobody",
            lambda o: o.named("Service", "hookcache-get")["spec"]["selector"].update(
                {"app.kubernetes.io/component": "x"}
            ),
        ),
        plant(
            p.references_hold,
            "a port that is none",
            lambda o: o.named("Service", "hookcache-get")["spec"]["ports"][0].update(targetPort="https"),
        ),
        plant(p.references_hold, "an Ingress to nobody", without("Service", "hookcache-get")),
        plant(
            p.references_hold,
            "a HorizontalPodAutoscaler of nobody",
            lambda o: o.named("HorizontalPodAutoscaler", "hookcache-get")["spec"]["scaleTargetRef"].update(name="get"),
        ),
        plant(
            p.references_hold,
            "a ServiceMonitor of another port",
            lambda o: o.of("ServiceMonitor")[0]["spec"]["endpoints"][0].update(port="http"),
        ),
        plant(
            p.references_hold,
            "a NetworkPolicy of nobody",
            lambda o: o.named("NetworkPolicy", "hookcache-operators")["spec"]["podSelector"]["matchLabels"].update(
                a="b"
            ),
        ),
        plant(
            p.the_control_plane_is_closed,
            "an Ingress to the control plane",
            lambda o: o.of("Ingress")[0]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"].update(
                name="hookcache-admin"
            ),
        ),
        plant(
            p.the_control_plane_is_closed,
            "a path beside the API",
            lambda o: o.of("Ingress")[0]["spec"]["rules"][0]["http"]["paths"][0].update(path="/"),
        ),
        plant(p.the_control_plane_is_closed, "no TLS", lambda o: o.of("Ingress")[0]["spec"].pop("tls")),
        plant(
            p.the_control_plane_is_closed,
            "a LoadBalancer",
            in_spec("Service", "hookcache-admin", "type", "LoadBalancer"),
        ),
        plant(
            p.the_control_plane_is_closed,
            "clients at the control plane",
            lambda o: rule(o, "hookcache-clients", "ingress")["ports"][0].update(port="control"),
        ),
        plant(
            p.the_control_plane_is_closed,
            "Prometheus at the control plane",
            lambda o: container(o.role("admin")).update(ports=[{"name": "metrics", "containerPort": 8081}]),
        ),
        plant(
            p.the_api_is_behind_the_ingress,
            "page links that nobody reaches",
            lambda o: o.of("Ingress")[0]["spec"]["rules"][0]["http"]["paths"].pop(),
        ),
        plant(
            p.the_api_is_behind_the_ingress,
            "sets that go to who gets",
            lambda o: o.of("Ingress")[0]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"].update(
                name="hookcache-get"
            ),
        ),
        plant(p.traffic_is_denied_by_default, "an open namespace", without("NetworkPolicy", "hookcache-deny")),
        plant(
            p.traffic_is_denied_by_default,
            "the internet for consumers",
            lambda o: rule(o, "hookcache-store", "egress")["to"][0]["ipBlock"].update(cidr="0.0.0.0/0"),
        ),
        plant(
            p.traffic_is_denied_by_default,
            "out to anybody",
            lambda o: rule(o, "hookcache-store", "egress").pop("to"),
        ),
        plant(
            p.traffic_is_denied_by_default,
            "in from anybody",
            lambda o: rule(o, "hookcache-clients", "ingress").pop("from"),
        ),
        plant(p.scaling_is_safe, "replicas beside what scales", in_spec("Deployment", "hookcache-get", "replicas", 3)),
        plant(p.scaling_is_safe, "one alone", in_spec("HorizontalPodAutoscaler", "hookcache-get", "minReplicas", 1)),
        plant(
            p.scaling_is_safe,
            "gets down to none",
            lambda o: o.of("ScaledObject")[0]["spec"]["scaleTargetRef"].update(name="hookcache-get"),
        ),
        plant(p.scaling_is_safe, "another queue", lambda o: trigger(o).update(queueURL="https://sqs.example.com/1/x")),
        plant(p.scaling_is_safe, "a word that KEDA does not know", lambda o: trigger(o).update(queueUrl="x")),
        plant(p.pods_are_spread_and_guarded, "no budget", without("PodDisruptionBudget", "hookcache-get")),
        plant(
            p.pods_are_spread_and_guarded,
            "a budget that holds up drains",
            in_spec("PodDisruptionBudget", "hookcache-get", "maxUnavailable", 0),
        ),
        plant(
            p.pods_are_spread_and_guarded, "no spread", lambda o: pod(o.role("get")).pop("topologySpreadConstraints")
        ),
    ]


def unseen_plants(overlay):
    """Planted faults that their policy does not find, and policies for which none is planted."""
    seen = set()
    for policy, what, changed in planted(overlay):
        seen.add(policy)
        if not list(policy(changed)):
            yield f"{policy.__name__} does not find {what}"
    for policy in policies.ALL:
        if policy not in seen:
            yield f"for {policy.__name__} no fault is planted"
