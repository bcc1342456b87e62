"""`pilotage-train dataset`: sessions of an export as packed rows of tokens, with a card that says what is in them.

Two rounds of worker processes with a decision between: dialogs to spools; what carries loss; spools to tokens, then to
rows. Not here: the rounds' work (dialog_spool.py), what is chosen (choice.py), the folder (folder.py).
"""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from pilotage_core.errors import InvalidInputError
from pilotage_trainer.artefact import place_artefact, require_replaceable
from pilotage_trainer.backends.transformers.rows.card import Card
from pilotage_trainer.backends.transformers.rows.choice import ChosenSessions, DatasetRequest, choose
from pilotage_trainer.backends.transformers.rows.dialog_spool import (
    DialogTask,
    Placed,
    TokenTask,
    Told,
    dialogs_file,
    read_placed,
    read_told,
    tokens_file,
    write_dialogs,
    write_tokens,
)
from pilotage_trainer.backends.transformers.rows.folder import KIND, describe_folder, fill_folder, load_base_tokenizer
from pilotage_trainer.backends.transformers.rows.selection import split_sessions
from pilotage_trainer.backends.transformers.rows.sequences import Encoder
from pilotage_trainer.failures import WorkerDiedError
from pilotage_trainer.results import tell
from pilotage_trainer.sessions.export import require_times
from pilotage_trainer.sessions.sources import fetch_export, is_gateway

T = TypeVar("T")


def run_dataset(request: DatasetRequest) -> Card:
    """Make the data set and put it at `request.out` whole. Raises PilotageError, OSError."""
    _check(request)
    request.out.parent.mkdir(parents=True, exist_ok=True)
    base = load_base_tokenizer(request.base)
    with tempfile.TemporaryDirectory(prefix=f".{request.out.name}-spool-", dir=request.out.parent) as spool:
        told = _write_dialogs(request, Path(spool))
        chosen = choose(told, request)
        actions = ", ".join(f"{side} {len(some)}" for side, some in chosen.decisions.items())
        tell(f"{len(chosen.sessions)} sessions; actions that carry loss: {actions}")
        card: list[Card] = []

        def fill(folder: Path) -> None:
            def tokenise(encoder: Encoder) -> list[list[Placed]]:
                return _write_tokens(Path(spool), chosen, encoder, request)

            card.append(fill_folder(folder, Path(spool), chosen, request, tokenise, base))

        place_artefact(request.out, describe_folder(chosen, request), fill)
    return card[0]


def _check(request: DatasetRequest) -> None:
    if request.workers < 1:
        raise InvalidInputError(f"{request.workers} workers do nothing", where="--workers")
    require_times(since=request.since, until=request.until)
    require_replaceable(request.out, KIND)
    split_sessions([], request.development_share, request.held_out_share)  # shares that cannot be, before the work


# --- the two rounds ---------------------------------------------------------------------------------------------------
def _write_dialogs(request: DatasetRequest, spool: Path) -> list[Told]:
    source = request.export
    if is_gateway(source):
        fetch_export(source, request.process_cluster, request.since, request.until, spool / "export.ndjson.gz")
        source = str(spool / "export.ndjson.gz")
    window = (source, request.process_cluster, request.since, request.until, request.settings.form)
    parts = [(i, request.workers) for i in range(request.workers)]
    tasks = [DialogTask(*window, part, dialogs_file(spool, part[0])) for part in parts]
    return [told for encoded in _share(write_dialogs, tasks) for told in read_told(encoded)]


def _write_tokens(spool: Path, chosen: ChosenSessions, encoder: Encoder, request: DatasetRequest) -> list[list[Placed]]:
    kept: dict[int, dict[int, dict[int, set[int]]]] = {part: {} for part in range(request.workers)}
    for decision in chain.from_iterable(chosen.decisions.values()):
        session = chosen.sessions[decision.session]
        segments = kept[session.part].setdefault(session.index, {})
        segments.setdefault(decision.segment, set()).add(decision.span)
    tasks = [
        TokenTask(
            dialogs_file(spool, part),
            tokens_file(spool, part),
            {i: {s: frozenset(spans) for s, spans in segments.items()} for i, segments in frames.items()},
            encoder,
            request.settings.max_tokens,
        )
        for part, frames in kept.items()
    ]
    return [read_placed(encoded) for encoded in _share(write_tokens, tasks)]


def _share(work: Callable[[T], bytes], tasks: Sequence[T]) -> list[bytes]:
    """`work` on each task, each in a process of its own where there are several."""
    if len(tasks) == 1:
        return [work(tasks[0])]
    try:
        with ProcessPoolExecutor(len(tasks), get_context("spawn")) as pool:
            return list(pool.map(work, tasks))
    except BrokenProcessPool as error:
        raise WorkerDiedError(
            "a worker process ended before its work was done", where=work.__name__, remedy="is there memory enough?"
        ) from error
