"""The dashboard, as far as it can be judged without Grafana: it has all that panels need, and none lies on another."""

import json

from documents import ROOT

COLUMNS = 24


def faults(dashboard=None):
    dashboard = dashboard or json.loads((ROOT / "k8s/observability/hookcache.json").read_text())
    panels, taken = dashboard["panels"], {}
    variables = {f"${{{variable['name']}}}" for variable in dashboard["templating"]["list"]}
    if len({panel["id"] for panel in panels}) != len(panels):
        yield "dashboard: two panels have one id"
    for panel in panels:
        title, at = f"dashboard: {panel['title']}", panel["gridPos"]
        if at["x"] + at["w"] > COLUMNS:
            yield f"{title}: it is wider than the page"
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            if cell in taken:
                yield f"{title}: it lies on {taken[cell]}"
                break
            taken[cell] = panel["title"]
        if panel["type"] == "row":
            continue
        if not panel["targets"] or len({target["refId"] for target in panel["targets"]}) != len(panel["targets"]):
            yield f"{title}: it has no queries, or two of one name"
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            if source["uid"] not in variables:
                yield f"{title}: its data source is that of one Grafana"
        for target in panel["targets"]:
            if (panel["type"] == "heatmap") != (target.get("format") == "heatmap"):
                yield f"{title}: a heat map takes buckets, and nothing else does"


def unseen():
    """Faults that are planted, and not found."""
    text = (ROOT / "k8s/observability/hookcache.json").read_text()
    planted = (
        (": 24", ": 25", 1),
        ("${datasource}", "prometheus-1", -1),
        ('"heatmap"', '"table"', 1),
        ('"y": 1,', '"y": 2,', 1),
    )
    for was, now, times in planted:
        if not list(faults(json.loads(text.replace(was, now, times)))):
            yield f"dashboard.py does not find {now} in place of {was}"
