"""Alerts and their tests, by promtool; and each alert has its place in the runbook."""

import re
import subprocess
import tempfile
from pathlib import Path

import yaml

from documents import ROOT, TOOLS

OBSERVABILITY = ROOT / "k8s/observability"
# What each place in the runbook says.
PARTS = ("It means", "Look at", "Do")


def faults():
    spec = yaml.safe_load((OBSERVABILITY / "alerts.yaml").read_text())["spec"]
    tests = yaml.safe_load((OBSERVABILITY / "alerts.test.yaml").read_text())
    rules = [rule for group in spec["groups"] for rule in group["rules"]]
    names = [rule["alert"] for rule in rules]
    yield from promtool(spec, rules, tests)
    yield from untested(names, tests)
    yield from unexplained(rules, (ROOT / "k8s/RUNBOOK.md").read_text())


def promtool(spec, rules, tests):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "rules.yaml").write_text(yaml.safe_dump(spec))
        yield from run("check", "rules", path / "rules.yaml")
        # Texts hold values, which a test would have to compute.
        bare = [{key: value for key, value in rule.items() if key != "annotations"} for rule in rules]
        (path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": bare}]}))
        (path / "tests.yaml").write_text(yaml.safe_dump(tests))
        yield from run("test", "rules", path / "tests.yaml")


def run(*words):
    done = subprocess.run([TOOLS / "kubernetes/promtool", *words], capture_output=True, text=True)
    if done.returncode != 0:
        yield f"promtool {' '.join(words[:2])}: {done.stdout}{done.stderr}"


def untested(names, tests):
    fired, quiet = set(), set()
    for test in tests["tests"]:
        for its in test["alert_rule_test"]:
            (fired if its["exp_alerts"] else quiet).add(its["alertname"])
    for name in names:
        if name not in fired or name not in quiet:
            yield f"alerts.test.yaml: {name} has no series on which it fires, or none on which it does not"
    for name in (fired | quiet) - set(names):
        yield f"alerts.test.yaml: there is no alert {name}"


def unexplained(rules, runbook):
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", runbook, re.M | re.S))
    names = [rule["alert"] for rule in rules]
    for rule in rules:
        if rule["annotations"].get("runbook") != f"RUNBOOK.md#{rule['alert'].lower()}":
            yield f"alerts.yaml: {rule['alert']} does not lead to its place in the runbook"
    for name in names:
        for part in PARTS:
            if f"**{part}.**" not in sections.get(name, ""):
                yield f"RUNBOOK.md: {name} lacks its `{part}`"
    for name in set(sections) - set(names):
        yield f"RUNBOOK.md: there is no alert {name}"
