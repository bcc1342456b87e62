"""The house rules that no linter knows: packages are all watched, nothing shadows the standard library."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [Path(p) for p in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
TRACKED = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split()
SOURCES = [ROOT / name for name in TRACKED if name.endswith(".py") and (ROOT / name).exists()]
ROOMS = {
    "core/pilotage_core": set(),
    "operator/pilotage_operator": {"api", "apply", "decide", "manifests", "observe"},
    "gateway/pilotage_gateway": {"console", "migrations", "migrations/versions"},
    "trainer/pilotage_trainer": {
        "ablations", "backends", "backends/copier", "backends/counts", "backends/transformers",
        "backends/transformers/asking", "backends/transformers/critic", "backends/transformers/policy",
        "backends/transformers/rows", "backends/transformers/training", "certify", "certify/table", "commands",
        "evaluation", "measures", "privacy", "serving", "sessions", "trials",
    },
    "simulator/pilotage_simulator": {"desk"},
    "cli/pilotage": {"demo", "experiment", "forecast", "report", "templates"},
}  # fmt: skip
MOST_LINES, MOST_BODY, LONG_BODIES = 400, 40, 10
OF_OTHERS = {
    "operator/__init__.py",
    "api_router.py",
    "vllm/entrypoints/generate/generative_scoring/serving.py",
    "job_config.py",
}
"""Files of vLLM and torchtitan, and one that must not be."""


@pytest.mark.parametrize("package", [path.as_posix() for path in PACKAGES])
def test_every_room_is_named(package):
    found = {path.parent.relative_to(ROOT / package).as_posix() for path in (ROOT / package).rglob("*.py")} - {"."}
    assert found == ROOMS[package]


def test_no_file_is_long():
    long = {str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text().splitlines())) > MOST_LINES}
    assert long == {}


def test_hardly_a_function_is_long():
    long = []
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] in {package.parts[0] for package in PACKAGES}:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    body = node.body[1:] if ast.get_docstring(node) else node.body
                    lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                    if lines > MOST_BODY:
                        long.append(f"{path.name}: {node.name} has {lines} lines")
    assert len(long) < LONG_BODIES, long


def test_files_that_a_text_speaks_of_are_there():
    """Also in a docstring: a file that moved is named anew. With folders before it, it is that file and no other."""
    lost = []
    for path in [*SOURCES, *(ROOT / name for name in TRACKED if name.endswith(".md") and "LOG" not in name)]:
        package = path.relative_to(ROOT).parts[0]
        for named in re.findall(r"(?<![\w/.-])[\w-]+(?:/[\w-]+)*\.py\b", path.read_text()):
            short = {
                f"{p.parts[0]}/": f"{p.as_posix()}/" for p in PACKAGES
            }  # core/gate.py is core/pilotage_core/gate.py
            whole = next(
                (long + named.removeprefix(top) for top, long in short.items() if named.startswith(top)), named
            )
            found = [name for name in TRACKED if f"/{name}".endswith((f"/{named}", f"/{whole}"))]
            own = [name for name in found if name.startswith((f"{package}/", "core/", "tests/", "bench/", "hack/"))]
            if not (own if path.suffix == ".py" and "/" not in named else found) and named not in OF_OTHERS:
                lost.append(f"{path.relative_to(ROOT)}: {named}")
    assert lost == []


def test_import_linter_watches_exactly_the_packages_that_are_shipped():
    shipped = [Path(p).name for p in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
    assert shipped == PROJECT["tool"]["importlinter"]["root_packages"]
    assert {f"{Path(p).parent}" for p in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]} == set(
        PROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"]
    )


def test_no_folder_shadows_the_standard_library():
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not list((ROOT / "tests").rglob("operator/__init__.py"))


def test_modules_say_what_is_in_them():
    silent = [
        str(path.relative_to(ROOT))
        for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        for path in (ROOT / package).rglob("*.py")
        if not path.read_text().lstrip().startswith(('"""', "#!"))
    ]
    assert silent == []


def test_no_module_is_called_after_nothing():
    vague = {"utils", "helpers", "manager", "common", "misc"}
    found = [p for p in ROOT.rglob("*.py") if ".venv" not in p.parts and set(p.stem.split("_")) & vague]
    assert found == []
