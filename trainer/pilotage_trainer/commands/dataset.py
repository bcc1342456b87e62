"""`pilotage-train dataset`: its options, checked and handed on (backends/transformers/rows/), torch-free until then."""

from pathlib import Path
from typing import Annotated

import msgspec
import pydantic
import typer

from pilotage_core.dialog import SnapshotKind
from pilotage_core.errors import InvalidInputError
from pilotage_core.training import LEAST_CHARS, MOST_CHARS, Balancing, DatasetSettings
from pilotage_trainer.commands.options import end_with_exit_code
from pilotage_trainer.results import tell

CHARS_PER_TOKEN = 3
"""What a token holds at least, nearly always (STAR: 10, learned tokenizer). What exceeds max_tokens even so is cut."""


def dataset(
    export: Annotated[str, typer.Option(help="a gateway's address, NDJSON, Parquet, a folder, star:PATH or desk:PATH")],
    out: Annotated[Path, typer.Option(help="the data set's folder; a data set that is there is replaced")],
    process_cluster: Annotated[str, typer.Option(help="namespace/name [default: all of the export]")] = "",
    since: Annotated[str, typer.Option(help="sessions closed from this time on (RFC 3339)")] = "",
    until: Annotated[str, typer.Option(help="sessions closed before this time")] = "",
    tokenizer: Annotated[str, typer.Option(help="the base model (a name or folder) whose tokenizer is used")] = "",
    vocabulary: Annotated[
        int, typer.Option(help="else one of so many tokens is learned", min=300, max=1_000_000)
    ] = 4096,
    snapshot: Annotated[SnapshotKind, typer.Option(help="how a changed screen is written")] = SnapshotKind.COMPACT,
    mix_rejections: Annotated[
        str,
        typer.Option(help="3:1: three logged actions to each rejected proposal; 500: the newest 500 rejections"),
    ] = "",
    balance: Annotated[Balancing, typer.Option(help="whether frequent tools or screens carry less loss")]
    = Balancing.NATURAL,
    development_share: Annotated[float, typer.Option(help="share of sessions, newer than those trained on")] = 0.05,
    held_out_share: Annotated[float, typer.Option(help="share of sessions, the newest")] = 0.0,
    max_tokens: Annotated[int, typer.Option(help="of a sequence and of a row")] = 32_768,
    max_chars: Annotated[
        int, typer.Option(help="of a dialog before a block is trimmed [default: 3 a token]", show_default=False)
    ] = 0,
    seed: Annotated[int, typer.Option(help="of the draws")] = 0,
    workers: Annotated[int, typer.Option(help="processes")] = 2,
) -> None:  # fmt: skip
    """Sessions as tokens that a transformer learns from: packed rows with loss on actions only, and a data card."""
    with end_with_exit_code():
        from pilotage_trainer.backends.transformers.rows.choice import DatasetRequest
        from pilotage_trainer.backends.transformers.rows.job import run_dataset
        from pilotage_trainer.backends.transformers.rows.selection import read_mix

        mix = read_mix(mix_rejections)
        settings = _read_settings(
            snapshot=snapshot,
            logs_per_rejection=mix.logs_per_rejection,
            rejections=mix.rejections,
            balancing=balance,
            max_tokens=max_tokens,
            max_chars=max_chars or min(max(LEAST_CHARS, CHARS_PER_TOKEN * max_tokens), MOST_CHARS),
            seed=seed,
        )
        shares = (development_share, held_out_share, workers)
        request = DatasetRequest(
            export, out, process_cluster, since, until, tokenizer, vocabulary, settings, *shares
        )  # fmt: skip
        card = run_dataset(request)
    for name, split in card.splits.items():
        tell(
            f"{name}: {split.sessions} sessions, {split.actions} actions, {split.tokens} tokens in {split.rows} rows, "
            f"{split.padding_share:.1%} padding"
        )
    typer.echo(msgspec.json.format(msgspec.json.encode({"out": str(out), **_summarise(card.splits)})).decode())


def _summarise(splits: object) -> dict[str, object]:
    return {
        name: {key: value for key, value in split.items() if not isinstance(value, dict)}
        for name, split in msgspec.to_builtins(splits).items()
    }


def _read_settings(**given: object) -> DatasetSettings:
    try:
        return DatasetSettings.model_validate(given)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "options"
        raise InvalidInputError(first["msg"], where=f"--{name.replace('_', '-')}") from error
