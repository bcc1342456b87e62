"""The alerts in the real promtool: the rules are rules, and fire on what they say (alerts.test.yaml)."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.kubernetes  # promtool comes with the Kubernetes of hack/cluster
ROOT = Path(__file__).parents[2]


def test_alerts_fire_on_what_they_say_and_on_nothing_else(tmp_path):
    spec = yaml.safe_load((ROOT / "config/monitoring/alerts.yaml").read_text())["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))
    shutil.copy(Path(__file__).with_name("alerts.test.yaml"), tmp_path)
    for command in (("check", "rules", "rules.yaml"), ("test", "rules", "alerts.test.yaml")):
        done = subprocess.run(["promtool", *command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
