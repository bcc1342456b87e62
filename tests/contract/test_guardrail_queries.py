"""What the controller asks Prometheus for each built-in figure, answered by the real PromQL engine (promtool)."""

import subprocess

import pytest
import yaml

from pilotage_operator.api.automation_gate import BuiltIn
from pilotage_operator.observe.figures import RATIOS
from pilotage_operator.observe.prometheus import build_guardrail_query

pytestmark = pytest.mark.kubernetes  # promtool comes with the Kubernetes of hack/cluster

OF = 'process_cluster="star/one",pair="r1",job="g",instance="a"'
SERIES = {  # one sample every 10 s, six of them: five steps
    'pilotage_decisions_total{%s,stage="Automation",decision="execute",reason="certified"}': "0+6x5",
    'pilotage_decisions_total{%s,stage="Automation",decision="propose",reason="below-tau"}': "0+3x5",
    'pilotage_decisions_total{%s,stage="Automation",decision="hand_off",reason="state-invalid"}': "0+1x5",
    'pilotage_feedback_total{%s,tool="click_control",verdict="accept"}': "0+9x5",
    'pilotage_feedback_total{%s,tool="click_control",verdict="edit"}': "0+1x5",
    'pilotage_model_errors_total{%s,model="critic"}': "0+1x5",
    "pilotage_executed_critical_total{%s}": "0+4x5",
    "pilotage_corrections_total{%s}": "0+1x5",
    "pilotage_finalizations_reviewed_total{%s}": "0+2x5",
    "pilotage_finalizations_rejected_total{%s}": "0+0x5",
    "pilotage_sessions_unasked_total{%s}": "0+2x5",
    "pilotage_sessions_unasked_wrong_total{%s}": "0+1x5",
    "up{job='g',instance='a'}": "1x5",
}
WANTED = {
    BuiltIn.CORRECTIVE_INTERVENTION_RATE: 0.25,
    BuiltIn.FINALIZATION_REJECTION_RATE: 0.0,
    BuiltIn.UNASKED_WRONG_RATE: 0.5,
    BuiltIn.REJECTION_RATE: 0.1,
    BuiltIn.DEFERRAL_RATE: 0.4,
    BuiltIn.HAND_OFF_RATE: 0.1,
    BuiltIn.INVALID_STATE_RATE: 0.1,
    BuiltIn.LOOP_RATE: 0.0,  # there never was one: no series, and no rate either
    BuiltIn.MODEL_ERROR_RATE: 0.1,
}


def test_every_built_in_figure_has_a_query_here():
    assert WANTED.keys() == RATIOS.keys()


@pytest.mark.parametrize("keys", [(), ("star/one",)], ids=["fleet", "by-name"])
@pytest.mark.parametrize("builtin", list(RATIOS))
def test_a_query_gives_the_figure_also_of_what_never_happened(tmp_path, builtin, keys):
    value = build_guardrail_query(builtin, 50, keys)
    expected = {"labels": '{process_cluster="star/one", pair="r1", part="value"}', "value": WANTED[builtin]}
    test = {
        "evaluation_interval": "10s",
        "tests": [
            {
                "interval": "10s",
                "input_series": [
                    {"series": name % OF if "%s" in name else name, "values": values} for name, values in SERIES.items()
                ],
                "promql_expr_test": [
                    {"expr": f'round(({value}) and on (part) label_replace(vector(1), "part", "value", "", ""), 0.001)',
                     "eval_time": "50s", "exp_samples": [expected]}
                ],
            }
        ],
    }  # fmt: skip
    (tmp_path / "figure.test.yaml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        ["promtool", "test", "rules", "figure.test.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
