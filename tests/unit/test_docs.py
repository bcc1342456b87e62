"""Pages do what they say: blocks marked `sh run` are run, and commands that a page shows exist with their options."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main

from pilotage.main import app as cli
from pilotage_trainer.main import app as trainer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = {"pilotage": cli, "pilotage-train": trainer}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
BLOCK = re.compile(r"^```sh( run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(run: bool) -> list[tuple[str, str]]:
    """Page and text of each shell block, those to be run or the others."""
    return [
        (page.relative_to(ROOT).as_posix(), text)
        for page in PAGES
        for mark, text in BLOCK.findall(page.read_text())
        if bool(mark) == run
    ]


@pytest.mark.parametrize(("page", "text"), blocks(run=True))
def test_what_a_page_says_can_be_run_runs(page, text, tmp_path):
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    folder = tmp_path if ".venv/" not in text else ROOT
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{page}: {done.stderr}"
    assert done.stdout.strip(), f"{page}: it says nothing"


@pytest.mark.parametrize(("page", "text"), blocks(run=False))
def test_every_command_that_a_page_shows_is_there_with_its_options(page, text):
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        words = [word.removeprefix(".venv/bin/") for word in words]
        if words[:1] == ["make"]:
            assert set(words[1:2]) <= TARGETS, f"{page}: make {words[1]}"
        elif words[:1] and words[0] in PROGRAMS:
            command = typer.main.get_command(PROGRAMS[words[0]])
            while hasattr(command, "commands"):
                words = words[1:]
                assert words[0] in command.commands, f"{page}: {line}"
                command = command.commands[words[0]]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, f"{page}: {line}"


def test_a_reader_who_only_has_the_readme_gets_through_it():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 110
    assert len(text.encode()) < 7_000
