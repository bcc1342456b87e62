"""The house rules that no linter knows: packages are all watched, nothing shadows the standard library."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


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
