"""Alerts, runbooks and dashboard hold together: an alert has its page, a page its alert, and figures are exported."""

import json
import re
from pathlib import Path

import pytest
import yaml

from pilotage_gateway.metrics import Metrics as GatewayMetrics
from pilotage_operator.server import Metrics as ControllerMetrics

ROOT = Path(__file__).parents[2]
ALERTS = yaml.safe_load((ROOT / "config/monitoring/alerts.yaml").read_text())["spec"]["groups"][0]["rules"]
PANELS = json.loads((ROOT / "config/monitoring/dashboard.json").read_text())["panels"]
EXPRESSIONS = [rule["expr"] for rule in ALERTS] + [target["expr"] for one in PANELS for target in one["targets"]]
PARTS = ("First look", "What to do", "What not to do")


def exported() -> set[str]:
    """Every series that controller and gateway export, with the endings that Prometheus gives them."""
    names = set()
    for registry in (ControllerMetrics().registry, GatewayMetrics().registry):
        for family in registry.collect():
            endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            names |= {family.name + ending for ending in endings}
    return names


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_says_what_it_is_and_where_to_read_on(rule):
    assert rule["labels"]["severity"] in ("page", "ticket")
    page = ROOT / rule["annotations"]["runbook_url"]
    text = page.read_text()
    assert text.startswith(f"# {rule['alert']}\n")
    assert [part for part in PARTS if f"\n## {part}\n" in text] == list(PARTS)
    assert (
        f"| {rule['alert']} | {rule['labels']['severity']} | [{page.stem}]" in (page.parent / "README.md").read_text()
    )


def test_each_page_has_its_alert():
    pages = {path.name for path in (ROOT / "docs/runbooks").glob("*.md")} - {"README.md"}
    assert pages == {Path(rule["annotations"]["runbook_url"]).name for rule in ALERTS}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_figure_that_is_asked_for_is_exported(expression):
    asked = set(re.findall(r"\bpilotage_[a-z_]+", expression))
    assert asked
    assert asked <= exported()
