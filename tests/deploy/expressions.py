"""Every PromQL expression that deploy/ holds, in a form that can be asked of a Prometheus at any moment."""

import json
import pathlib
import re

import yaml

from processes import REPOSITORY

DEPLOY = REPOSITORY / "deploy"


def dashboards() -> list[tuple[str, dict]]:
    return [(path.name, json.loads(path.read_text())) for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json"))]


def panels() -> list[tuple[str, dict]]:
    """Each panel that shows something, with its place: `dashboard: title`."""
    return [
        (f"{name}: {panel['title']}", panel)
        for name, dashboard in dashboards()
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    ]


def panel_expressions() -> list[tuple[str, str]]:
    """The expressions of all panels, with Grafana's variables replaced as for a dashboard that shows everything."""
    return [
        (f"{place} ({target['refId']})", substitute(target["expr"]))
        for place, panel in panels()
        for target in panel["targets"]
    ]


def rules() -> list[dict]:
    return [
        rule
        for file in ("recording.yml", "alerts.yml")
        for group in yaml.safe_load((DEPLOY / "prometheus" / file).read_text())["groups"]
        for rule in group["rules"]
    ]


# Alerts on what a gateway that is well has no series for: nothing is refused and no journal fails in the demo. Their unit
# tests in alerts_test.yml show them firing.
SILENT_WHEN_WELL = {"rule WeirJournalFails", "rule WeirRefusesRequests"}


def rule_expressions() -> list[tuple[str, str]]:
    """The expressions of all rules. An alert that does not fire returns nothing, so its comparisons are asked for their
    outcome (`bool`), 0 or 1: data, as long as both sides have any."""
    return [
        (f"rule {rule.get('alert') or rule['record']}", as_outcome(rule["expr"]) if "alert" in rule else rule["expr"])
        for rule in rules()
    ]


def substitute(expression: str) -> str:
    # The demo is a minute old: windows are as short as its life, whatever the dashboard's default.
    for variable, value in {"$__rate_interval": "1m", "$__range": "1m", "$plan": ".*", "$instance": ".*"}.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, f"a variable that this test does not know: {expression}"
    return expression


def as_outcome(expression: str) -> str:
    return re.sub(r" (<=|>=|<|>|==|!=) ", r" \1 bool ", expression)


def metric_names(expression: str) -> set[str]:
    """Weir's own metric names in it; a histogram's parts count as the histogram."""
    names = re.findall(r"(?<![\w:])weir_\w+", expression)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
