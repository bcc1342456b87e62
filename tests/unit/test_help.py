"""What `--help` says of defaults is what happens."""

import pytest
import typer.main

from pilotage.demo.command import FAULTS_LIMIT_SECONDS, LIMIT_SECONDS
from pilotage.forecast.measure import TARGETS
from pilotage.main import app as cli
from pilotage_trainer.main import app as trainer

OPTIONS = {
    f"{name} {option.opts[0]}": option
    for app in (cli, trainer)
    for name, command in typer.main.get_command(app).commands.items()
    for option in command.params
    if getattr(option, "help", None)
}


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if "[default: " in option.help])
def test_a_default_that_is_put_in_words_is_not_contradicted_by_a_number(name):
    option = OPTIONS[name]
    assert not option.show_default or option.default in (None, "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("forecast --target", ", ".join(f"{target:g}" for target in TARGETS)),
        ("demo --limit-seconds", f"{LIMIT_SECONDS[True]:g} with --local, else {LIMIT_SECONDS[False]:g}"),
        *[
            ("demo --limit-seconds", f"{FAULTS_LIMIT_SECONDS[local] - LIMIT_SECONDS[local]:g} more with --faults")
            for local in (True, False)
        ],
    ],
)
def test_a_default_in_words_is_the_one_in_code(name, words):
    assert words in OPTIONS[name].help
