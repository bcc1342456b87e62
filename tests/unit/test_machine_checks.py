"""What hack/check.sh and hack/cluster/check.sh find missing on a machine that has only the programs named here."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("bash", "cut", "dirname", "head", "sed", "sha256sum", "sort")


@pytest.fixture
def machine(tmp_path):
    """A checkout without .venv, and beside it the folder that is PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).symlink_to(shutil.which(name))
    for name in ("hack", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def add_program(machine, name, text):
    (machine / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
    (machine / "bin" / name).chmod(0o755)


def check(machine, script, *options, **environment):
    told = subprocess.run(
        [shutil.which("bash"), machine / "hack" / script, *options],
        env={
            "PATH": str(machine / "bin"),
            "PILOTAGE_CACHE": str(machine / "cache"),
            "PYTHON": sys.executable,
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return told.returncode, [line.removeprefix("missing: ") for line in told.stderr.splitlines() if "missing: " in line]


@pytest.mark.parametrize(
    ("environment", "go", "missing"),
    [
        ({"CLUSTER": "kind"}, "", ["Docker that answers", "openssl", "Go 1.24.0 or newer"]),
        ({"CLUSTER": "kind"}, "go1.22.3", ["Docker that answers", "openssl", "Go 1.24.0 or newer (this is go1.22.3)"]),
        ({"CLUSTER": "kind"}, "go1.26.0", ["Docker that answers", "openssl"]),
        ({"CLUSTER": "current"}, "", ["kubectl", "PILOTAGE_IMAGE"]),
        ({"CLUSTER": "current", "PILOTAGE_IMAGE": "registry.example/pilotage:1"}, "", ["kubectl"]),
    ],
)
def test_a_kubernetes_with_docker_or_given_says_at_once_what_it_lacks(machine, environment, go, missing):
    if go:
        add_program(machine, "go", f"echo {go}")
    assert check(machine, "cluster/check.sh", **environment) == (2, missing)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ((), ["2 GB of free disk here"]),
        (("--transformers",), ["10 GB of free disk here"]),
        (("--transformers", "--vllm"), ["10 GB of free disk here", "Linux on x86_64"]),
    ],
)
def test_disk_and_processor_are_asked_for_before_anything_is_installed(machine, options, missing):
    add_program(machine, "df", "true")
    add_program(machine, "awk", 'case "$1" in NR*) echo 1;; *) echo 99;; esac')
    add_program(machine, "uname", "echo Linux aarch64")
    code, said = check(machine, "check.sh", *options)
    assert (code, [one.partition(" (")[0] for one in said]) == (2, missing)


def test_what_scripts_call_a_version_is_the_one_that_is_built():
    """hack/cluster/lib.sh names files after versions; kubernetes/go.mod says what is compiled."""
    said = dict(re.findall(r"^(\w+)_VERSION=v(\S+)", (ROOT / "hack/cluster/lib.sh").read_text(), re.MULTILINE))
    built = dict(re.findall(r"^\t(\S+) v(\S+)", (ROOT / "hack/cluster/kubernetes/go.mod").read_text(), re.MULTILINE))
    _, minor, patch = said["PROMETHEUS"].split(".")
    assert built["k8s.io/kubernetes"] == said["KUBERNETES"]
    assert built["go.etcd.io/etcd/server/v3"] == said["ETCD"]
    assert built["github.com/coredns/coredns"] == said["COREDNS"]
    assert built["github.com/kserve/kserve"] == said["KSERVE"]
    assert built["github.com/prometheus/prometheus"] == f"0.3{int(minor):02}.{patch}"
    assert f"image: localhost/prometheus:v{said['PROMETHEUS']}" in (ROOT / "hack/cluster/prometheus.yaml").read_text()
