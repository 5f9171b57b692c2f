"""Dashboards and alert rules: consistent with each other, with the book, and with what the companion shows."""

import json
import re
import subprocess
import sys

import pytest
import yaml
from common import OBSERVE, ROOT, prometheus_program

RULES = sorted((OBSERVE / "prometheus").glob("*.rules.yaml"))
CASES = yaml.safe_load((OBSERVE / "prometheus/alerts.cases.yaml").read_text())
DASHBOARDS = sorted((OBSERVE / "grafana").glob("*.json"))


def rules(kind: str) -> dict[str, dict]:
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def queries(file) -> list[str]:
    panels = json.loads(file.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def used_metrics(text: str) -> set[str]:
    return set(re.findall(r"(?<![:\w])gw_[a-z0-9_]+\b(?!:)", re.sub(r'"[^"]*"', "", text)))


def exported_metrics() -> set[str]:
    # A test of the companion holds this table against what it exports.
    return set(re.findall(r"^\| `(gw_\w+)` \|", (ROOT / "docs/src/companion/metrics.md").read_text(), re.M))


def test_promtool_accepts_the_rules():
    subprocess.run([prometheus_program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *RULES], check=True)


def test_promtool_accepts_the_example_of_a_configuration():
    for file in ("prometheus.yaml", "redis-exporter.yaml"):
        subprocess.run([prometheus_program("promtool"), "check", "config", OBSERVE / "prometheus" / file], check=True)


def test_each_alert_has_a_case_and_a_section_in_the_book():
    assert set(CASES) == set(rules("alert"))
    page = (ROOT / "docs/src/operating/alerts.md").read_text()
    sections = re.split(r"^## (Gw\w+)\n", page, flags=re.M)
    sections = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert set(sections) == set(rules("alert"))
    for name, rule in rules("alert").items():
        assert rule["annotations"]["runbook_url"] == f"operating/alerts.html#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert "**Look at**" in sections[name] and "**Do**" in sections[name], name


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_should_and_not_before(name, tmp_path):
    case = CASES[name]
    minute = case["fires_at_minute"]
    firing = f'count(ALERTS{{alertname="{name}", alertstate="firing"}})'
    expected = [{"labels": "{}", "value": case.get("firing", 1)}]
    series = [{"series": key, "values": values} for key, values in (case["series"] | case.get("never", {})).items()]
    test = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {"expr": f"{firing} > 0", "eval_time": f"{earlier}m", "exp_samples": []}
            for earlier in range(max(0, minute - 60), minute)
        ]
        + [{"expr": firing, "eval_time": f"{minute}m", "exp_samples": expected}],
    }
    # What is recorded comes first; promtool takes groups in any order otherwise.
    order = [group["name"] for file in reversed(RULES) for group in yaml.safe_load(file.read_text())["groups"]]
    tests = {
        "rule_files": [str(file) for file in RULES],
        "evaluation_interval": "1m",
        "group_eval_order": order,
        "tests": [test],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(tests))
    told = subprocess.run([prometheus_program("promtool"), "test", "rules", file], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


def test_rules_and_dashboards_use_metrics_that_there_are():
    known, recorded = exported_metrics(), set(rules("record"))
    assert len(known) > 100
    sources = {file.name: queries(file) for file in DASHBOARDS}
    sources |= {name: [rule["expr"]] for kind in ("alert", "record") for name, rule in rules(kind).items()}
    for name, expressions in sources.items():
        for expression in expressions:
            assert used_metrics(expression) <= known, f"{name}: {used_metrics(expression) - known}"
            for record in re.findall(r"\b[a-z_]+:gw_\w+:\w+", expression):
                assert record in recorded, f"{name}: {record}"


def test_dashboards_are_what_their_source_makes(tmp_path):
    subprocess.run([sys.executable, OBSERVE / "dashboards", tmp_path], check=True)
    made = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert made == {file.name: file.read_text() for file in DASHBOARDS}, "run: make dashboards"


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_is_complete(file):
    board = json.loads(file.read_text())
    assert board["uid"] == f"redis-gateway-{file.stem}"
    variables = {variable["name"] for variable in board["templating"]["list"]}
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["title"] for panel in panels}) >= 8
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24 and panel["targets"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= variables, f"{panel['title']}: {used - variables}"
            # A metric without a selector would show what was not chosen.
            assert not re.search(r"\bgw_\w+(?![\w{:])", re.sub(r'"[^"]*"|\{\{.*?\}\}', "", target["expr"])), target["expr"]
