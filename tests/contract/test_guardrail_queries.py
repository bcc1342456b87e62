"""What the controller asks Prometheus for each built-in figure, answered by the real PromQL engine (promtool)."""

import subprocess

import pytest
import yaml

from pilotage_operator.api.automation_gate import BuiltIn
from pilotage_operator.observe.figures import RATIOS
from pilotage_operator.observe.prometheus import build_guardrail_query

pytestmark = pytest.mark.kubernetes  # promtool comes with the Kubernetes of hack/cluster

OF = 'process_cluster="star/one",pair="r1",job="g",instance="a"'
RISES = {  # by each of five steps of 10 s
    "decided": 10, "deferred": 4, "handed_off": 1, "states_invalid": 1, "loops": 0, "verdicts": 10,
    "verdicts_against": 1, "executed_critical": 4, "corrections": 1, "finalizations_reviewed": 2,
    "finalizations_rejected": 0, "sessions_unasked": 2, "sessions_unasked_wrong": 1,
}  # fmt: skip
SERIES = {f"pilotage_{name}_total{{{OF}}}": f"0+{rise}x5" for name, rise in RISES.items()} | {
    "up{job='g',instance='a'}": "1x5"
}
WANTED = {
    BuiltIn.CORRECTIVE_INTERVENTION_RATE: 0.25,
    BuiltIn.FINALIZATION_REJECTION_RATE: 0.0,
    BuiltIn.UNASKED_WRONG_RATE: 0.5,
    BuiltIn.REJECTION_RATE: 0.1,
    BuiltIn.DEFERRAL_RATE: 0.4,
    BuiltIn.HAND_OFF_RATE: 0.1,
    BuiltIn.INVALID_STATE_RATE: 0.1,
    BuiltIn.LOOP_RATE: 0.0,
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
                    {"series": name, "values": values} for name, values in SERIES.items()
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
