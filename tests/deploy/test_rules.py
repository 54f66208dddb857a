"""What can be checked of deploy/ without anything running."""

import subprocess

import pytest
import yaml
from expressions import DEPLOY, metric_names, panel_expressions, panels, rule_expressions, rules
from processes import REPOSITORY

# The metrics that a gateway has: what dashboards may depend on.
METRICS = {
    "weir_requests_total",
    "weir_tokens_total",
    "weir_cost_usd_total",
    "weir_unpriced_requests_total",
    "weir_request_duration_seconds",
    "weir_first_token_seconds",
    "weir_overhead_seconds",
    "weir_in_flight_requests",
    "weir_limit_rejections_total",
    "weir_limit_used_ratio",
    "weir_plan_accounts",
    "weir_plan_revenue_usd",
    "weir_plan_cost_usd",
    "weir_plan_margin_usd",
    "weir_plan_projected_margin_usd",
    "weir_plan_loss_making_accounts",
    "weir_account_margin_usd",
    "weir_ledger_queue",
    "weir_ledger_write_seconds",
    "weir_ledger_spooled_entries",
    "weir_upstream_errors_total",
    "weir_events_total",
    "weir_quota_up",
    "weir_config_reloads_total",
    "weir_build_info",
}


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", "deploy/prometheus/prometheus.yml"],
        ["check", "rules", "--lint=all", "--lint-fatal", "deploy/prometheus/recording.yml", "deploy/prometheus/alerts.yml"],
        ["test", "rules", "tests/deploy/alerts_test.yml"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_accepts(arguments):
    done = subprocess.run(["promtool", *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_unit_test_that_fires_and_one_that_does_not():
    tests = (REPOSITORY / "tests/deploy/alerts_test.yml").read_text()
    for rule in rules():
        if "alert" in rule:
            assert f"alertname: {rule['alert']}\n" in tests, f"{rule['alert']} never fires in a test"
            assert f"alertname: {rule['alert']}, exp_alerts: []" in tests, f"{rule['alert']} is never silent in a test"


def test_every_panel_has_a_unit_a_description_and_the_provisioned_data_source():
    provisioned = (DEPLOY / "grafana/provisioning/datasources/weir.yml").read_text()
    for place, panel in panels():
        assert panel["fieldConfig"]["defaults"].get("unit"), f"{place} has no unit"
        assert len(panel.get("description", "")) > 10, f"{place} has no description"
        assert f"uid: {panel['datasource']['uid']}\n" in provisioned, f"{place} asks an unknown data source"


def test_only_metrics_that_a_gateway_has_are_asked_for():
    for place, expression in panel_expressions() + rule_expressions():
        assert metric_names(expression) <= METRICS, place


def test_requests_without_an_upstream_are_told_by_the_label_that_they_have():
    """The gateway writes upstream="none" for them; what excludes upstream="" excludes nothing."""
    for place, expression in panel_expressions() + rule_expressions():
        assert 'upstream!=""' not in expression, place


def test_the_share_of_accounts_in_loss_stays_a_share_when_losers_have_left(tmp_path):
    [expression] = [expression for place, expression in panel_expressions() if "In loss, against accounts open now" in place]
    series = {"weir_plan_loss_making_accounts": 5, "weir_plan_accounts": 3}
    case = {
        "interval": "1m",
        "input_series": [{"series": f'{name}{{plan="pro"}}', "values": str(value)} for name, value in series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": "0m", "exp_samples": [{"labels": "{}", "value": 1}]}],
    }
    file = tmp_path / "share.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [case]}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_redis_never_comes_back_with_old_counters_or_fewer():
    """As OPERATIONS.md asks: every write is on the disk before it is answered, no snapshots, nothing evicted."""
    services = yaml.safe_load((DEPLOY / "docker/compose.yml").read_text())["services"]
    words = services["redis"]["command"][1:]
    assert dict(zip(words[::2], words[1::2], strict=True)) == {
        "--appendonly": "yes",
        "--appendfsync": "always",
        "--save": "",
        "--maxmemory-policy": "noeviction",
    }
