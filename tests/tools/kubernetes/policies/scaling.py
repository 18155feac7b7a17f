"""How many there are."""

from documents import WORKLOADS, roles, title

SQS_TRIGGER = {
    "queueURL",
    "queueLength",
    "activationQueueLength",
    "awsRegion",
    "scaleOnInFlight",
    "scaleOnDelayed",
    "awsEndpoint",
}


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
        by_cpu = scaler["kind"] == "HorizontalPodAutoscaler"
        least = spec.get("minReplicas", 1) if by_cpu else spec.get("minReplicaCount", 0)
        most = spec["maxReplicas"] if by_cpu else spec.get("maxReplicaCount", 100)
        target = overlay.named("Deployment", spec["scaleTargetRef"]["name"])
        if least == 0 and (not target or roles(target, config) != ["consume"] or not queue):
            yield f"{title(scaler)}: only the role consume may go down to none, and only with SQS"
        if by_cpu and least < 2:
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
