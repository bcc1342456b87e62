"""Pages do what they say: blocks marked `sh run` are run, and commands that a page shows exist with their options."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main

from pilotage.main import app as cli
from pilotage.offline import DefaultCommand
from pilotage_trainer.main import app as trainer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHOWN = [*PAGES, *sorted((ROOT / "examples").rglob("*.md")), ROOT / "hack" / "cluster" / "README.md"]
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


def commands() -> list[tuple[str, str]]:
    """Page and text of every command of ours or make's: lines of blocks, fenced or indented, and words in backticks."""
    found = []
    for page in SHOWN:
        text = page.read_text()
        lines = [line for _, block in BLOCK.findall(text) for line in block.splitlines()]
        lines += [line[4:] for line in text.splitlines() if line.startswith("    ")]
        lines += re.findall(r"`((?:pilotage(?:-train)?|make) [^`]+)`", text)
        for line in lines:
            name = re.search(r"(?:^|[ /])(pilotage|pilotage-train|make) (?=[a-z-])", line)
            if name and "<" not in line:
                found.append((page.relative_to(ROOT).as_posix(), line[name.start(1) :]))
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_that_a_page_shows_is_there_with_its_options(page, line):
    words = shlex.split(line.replace("’", ""), comments=True)
    if words[0] == "make":
        assert words[1] in TARGETS, f"{page}: {line}"
        return
    command, words = typer.main.get_command(PROGRAMS[words[0]]), words[1:]
    while hasattr(command, "commands") and words:
        if "|" in words[0] or words[0] == "--help":
            return
        if words[0] not in command.commands and isinstance(command, DefaultCommand):
            command = next(iter(command.commands.values()))
            break
        assert words[0] in command.commands, f"{page}: {line}"
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--") and word != "--help"} <= known, f"{page}: {line}"


def test_there_are_dozens_of_them():
    assert len(commands()) > 40


def test_the_readme_stays_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 110
    assert len(text.encode()) < 7_000
