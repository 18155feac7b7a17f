#!/usr/bin/env python3
"""Do alerts and dashboard ask for what hookcache tells?

    queries.py PAGE...

Each PAGE is the text of a /metrics, of one process or of several that together do all there is. Every expression of
k8s/observability is parsed as Prometheus does; then each metric must be on a page, each label be one of that metric,
each value that is asked for be there, and each function fit the metric's type. Exits with 1 and says what does not.
"""

import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import promql_parser as promql
import yaml

OBSERVABILITY = Path(__file__).resolve().parents[3] / "k8s/observability"
# Labels that the scrape adds (k8s/observability/scrape.yaml), and the metric that it makes.
TARGET = {"job", "instance", "namespace", "pod", "container", "service", "endpoint", "role"}
UP = "up"
# Any of these may come, so it need not stand on a page: 5xx are rare.
ANY_VALUE = {"status"}
COUNTER_ONLY = {"rate", "increase", "irate"}
GAUGE_ONLY = {"deriv", "delta", "predict_linear"}
# What Grafana puts in.
VARIABLES = {"$__rate_interval": "5m", "$__interval": "5m", "$__range": "1h", "$namespace": ".*"}
NAME = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+$")
PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


@dataclass
class Metric:
    kind: str
    values: dict = field(default_factory=dict)


def metrics_of(pages):
    """Series by name: their type, and each label's values."""
    found, kinds = {UP: Metric("gauge")}, {}
    for page in pages:
        for line in page.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                kinds[name] = kind
            elif line and not line.startswith("#"):
                name, labels = NAME.match(line).groups()
                family = re.sub(r"_(bucket|sum|count)$", "", name)
                kind = kinds.get(name) or kinds[family]
                metric = found.setdefault(name, Metric("counter" if kind == "histogram" else kind))
                for label, value in PAIR.findall(labels or ""):
                    metric.values.setdefault(label, set()).add(value)
    return found


class Wrong(Exception):
    pass


class Reader:
    """Walks an expression and says which labels its result has; None where it is a number."""

    def __init__(self, metrics):
        self.metrics = metrics

    def labels(self, expression):
        return getattr(self, type(expression).__name__)(expression)

    def NumberLiteral(self, _):
        return None

    def StringLiteral(self, _):
        return None

    def ParenExpr(self, it):
        return self.labels(it.expr)

    def UnaryExpr(self, it):
        return self.labels(it.expr)

    def SubqueryExpr(self, it):
        return self.labels(it.expr)

    def MatrixSelector(self, it):
        return self.labels(it.vector_selector)

    def VectorSelector(self, it):
        metric = self.metrics.get(it.name)
        if metric is None:
            raise Wrong(f"there is no metric {it.name}")
        for matcher in it.matchers.matchers:
            self.matcher(it.name, metric, matcher)
        return set(metric.values) | TARGET

    def matcher(self, name, metric, matcher):
        if matcher.name in TARGET:
            return
        if matcher.name not in metric.values:
            raise Wrong(f"{name} has no label {matcher.name}")
        if matcher.name in ANY_VALUE:
            return
        for value in (
            matcher.value.split("|") if matcher.op in (promql.MatchOp.Re, promql.MatchOp.NotRe) else [matcher.value]
        ):
            if value not in metric.values[matcher.name]:
                raise Wrong(f"{name} has no {matcher.name}={value!r}, only {sorted(metric.values[matcher.name])}")

    def Call(self, it):
        function = it.func.name
        given = [labels for labels in map(self.labels, it.args) if labels is not None]
        if function in ("label_replace", "label_join"):
            raise Wrong(f"{function} makes labels that are not looked after here")
        for kinds, kind in ((COUNTER_ONLY, "counter"), (GAUGE_ONLY, "gauge")):
            for name in selected(it) if function in kinds else []:
                if self.metrics[name].kind != kind:
                    raise Wrong(f"{function} is for a {kind}; {name} is a {self.metrics[name].kind}")
        if function == "histogram_quantile":
            if "le" not in given[0]:
                raise Wrong("histogram_quantile needs the label le")
            return given[0] - {"le"}
        if function == "absent":
            matchers = it.args[0].matchers.matchers
            return {matcher.name for matcher in matchers if matcher.op == promql.MatchOp.Equal}
        return set().union(*given) if given else set()

    def AggregateExpr(self, it):
        inner, by = self.labels(it.expr), it.modifier
        if str(it.op) in ("topk", "bottomk"):
            return inner
        if by is None:
            return set()
        self.known(by.labels, inner)
        return set(by.labels) if "By" in str(by.type) else inner - set(by.labels)

    def BinaryExpr(self, it):
        left, right = self.labels(it.lhs), self.labels(it.rhs)
        if left is None or right is None:
            return left if right is None else right
        matching = it.modifier.matching if it.modifier else None
        if matching is not None:
            self.known(matching.labels, left)
            self.known(matching.labels, right)
        elif left != right and str(it.op) != "or":
            raise Wrong(f"nothing matches: {sorted(left)} on the left, {sorted(right)} on the right")
        return left | right if str(it.op) == "or" else left

    def known(self, asked, there):
        for label in asked:
            if label not in there:
                raise Wrong(f"there is no label {label}, only {sorted(there - TARGET)} and those of the scrape")


def selected(expression):
    """Names of the metrics in an expression."""
    names = []

    class Selectors(Reader):
        def VectorSelector(self, it):
            names.append(it.name)
            return TARGET | {"le"}

        def known(self, asked, there):
            pass

    reader = Selectors({})
    for argument in expression.args:
        if type(argument).__name__ in ("MatrixSelector", "VectorSelector"):
            reader.labels(argument)
    return names


def expressions():
    """(where, expression, labels that texts beside it name)"""
    rules = yaml.safe_load((OBSERVABILITY / "alerts.yaml").read_text())
    for group in rules["spec"]["groups"]:
        for rule in group["rules"]:
            named = re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))
            yield f"alert {rule['alert']}", rule["expr"], named
    dashboard = json.loads((OBSERVABILITY / "hookcache.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"]
            for variable, value in VARIABLES.items():
                text = text.replace(variable, value)
            named = re.findall(r"\{\{\s*(\w+)\s*\}\}", target.get("legendFormat", ""))
            yield f"panel {panel['title']}", text, named
    for variable in dashboard["templating"]["list"]:
        values = (
            re.fullmatch(r"label_values\((\w+), (\w+)\)", variable.get("query", {}).get("query", ""))
            if isinstance(variable.get("query"), dict)
            else None
        )
        if values:
            yield f"variable {variable['name']}", values[1], [values[2]]


# What must be refused, or the rest says nothing.
PLANTED = [
    "sum(rate(hookcache_append_total[5m]))",
    "sum(rate(hookcache_appends_total[5m])",
    "rate(hookcache_appends_total)",
    "hookcache_appends_total{outcome='failed'}",
    "hookcache_appends_total{result='fail'}",
    "hookcache_http_requests_total{route=~'set|sets'}",
    "sum by (reason) (hookcache_appends_total)",
    "sum without (reason) (hookcache_appends_total)",
    "rate(hookcache_buffer_messages[5m])",
    "deriv(hookcache_appends_total[5m])",
    "increase(hookcache_set_to_readable_seconds[5m])",
    "histogram_quantile(0.9, sum by (namespace) (rate(hookcache_set_to_readable_seconds_bucket[5m])))",
    "histogram_quantile(0.9, rate(hookcache_appends_total[5m]))",
    "sum by (namespace) (up) / sum by (pod) (up)",
    "hookcache_consumer_paused and on (state) hookcache_buffer_messages",
]


def unseen(pages):
    reader = Reader(metrics_of(pages))
    for text in PLANTED:
        try:
            reader.labels(promql.parse(text))
            yield f"not refused: {text}"
        except (Wrong, ValueError):
            pass


def faults(pages):
    reader = Reader(metrics_of(pages))
    for where, text, named in expressions():
        try:
            there = reader.labels(promql.parse(text)) or set()
            reader.known(named, there)
        except (Wrong, ValueError) as wrong:
            yield f"{where}: {wrong}\n    {' '.join(text.split())}"


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    pages = [Path(page).read_text() for page in sys.argv[1:]]
    found = list(unseen(pages)) + list(faults(pages))
    print("\n".join(found), file=sys.stderr)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
