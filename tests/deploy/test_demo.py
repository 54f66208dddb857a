"""A real Prometheus scrapes the demo: every expression of every panel and every rule returns data, and no label runs wild."""

import re
import subprocess

import httpx
import pytest
import yaml
from expressions import DEPLOY, SILENT_WHEN_WELL, panel_expressions, rule_expressions
from processes import Program, free_port, wait_until, weir

# Values that one label may have in one family: what a price table, a route or the configured worst accounts can name.
LABEL_VALUES_MAX = 1_000


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The address of the demo's admin listener."""
    folder = tmp_path_factory.mktemp("demo")
    port, admin = free_port(), free_port()
    argv = [weir(), "demo", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    with Program(argv, folder, f"http://127.0.0.1:{admin}/readyz", seconds=120):
        yield f"127.0.0.1:{admin}"


@pytest.fixture(scope="module")
def prometheus(demo, tmp_path_factory):
    """deploy/prometheus as it stands, but for the target and for intervals of a second instead of a minute."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [demo]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    for name in config["rule_files"]:
        rules = yaml.safe_load((DEPLOY / "prometheus" / name).read_text())
        for group in rules["groups"]:
            group.pop("interval", None)
        (folder / name).write_text(yaml.safe_dump(rules))
    address = f"127.0.0.1:{free_port()}"
    argv = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with Program(argv, folder, f"http://{address}/-/ready"):
        yield f"http://{address}"


def test_promtool_accepts_the_metrics_page(demo):
    page = httpx.get(f"http://{demo}/metrics", timeout=10).text
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_labels_are_bounded(demo):
    page = httpx.get(f"http://{demo}/metrics", timeout=10).text
    values: dict[tuple[str, str], set[str]] = {}
    for name, labels in re.findall(r"^(weir_\w+)\{(.*)\} \S+$", page, re.MULTILINE):
        for label, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels):
            values.setdefault((name, label), set()).add(value)
    assert values
    assert {place: len(found) for place, found in values.items() if len(found) > LABEL_VALUES_MAX} == {}


def test_every_expression_returns_data(prometheus):
    """Asked again until all have answered: rates need two scrapes, rules an evaluation, the demo some traffic."""
    expressions = panel_expressions() + rule_expressions()
    silent = {place: expression for place, expression in expressions if place not in SILENT_WHEN_WELL}

    def all_answered() -> bool:
        for place, expression in list(silent.items()):
            answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": expression}, timeout=10).json()
            assert answer["status"] == "success", f"{place}: {answer}"
            if answer["data"]["result"]:
                del silent[place]
        return not silent

    try:
        wait_until(all_answered, 90, "every expression returns data")
    except AssertionError as late:
        pytest.fail(f"{late}; without data:\n" + "\n".join(f"{place}: {expression}" for place, expression in silent.items()))
