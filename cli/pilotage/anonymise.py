"""`pilotage anonymise`: a file of texts with what is personal in them masked; and a tagger trained for it."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from pilotage_core.errors import InvalidInputError
from pilotage_trainer.public import (
    Report,
    anonymise_lines,
    build_find,
    learn_tagger,
    load_tagger,
    read_lines,
    read_texts,
)


def run_anonymise(source: Path, out: Path, spans: Path | None, model: Path | None, rules_alone: bool) -> Report:
    """Mask the texts of `source` into `out`. Files appear whole, or not at all. Raises InvalidInputError."""
    if not source.is_file():
        raise InvalidInputError("there is no such file", where=str(source))
    find = build_find(None if rules_alone else load_tagger(model) if model else load_tagger())
    targets = [path for path in (out, spans) if path is not None]
    if len({path.resolve() for path in (source, *targets)}) <= len(targets):
        raise InvalidInputError("two of the files are one", where=str(out), remedy="read and write different files")
    parts: dict[Path, Path] = {}
    try:
        with ExitStack() as stack:
            given = stack.enter_context(source.open("rb"))
            files: dict[Path, BinaryIO] = {}
            for path in targets:
                handle, name = tempfile.mkstemp(dir=path.parent)
                parts[path] = Path(name)
                files[path] = stack.enter_context(os.fdopen(handle, "wb"))
            write, write_span = _writer(files[out]), _writer(files[spans]) if spans is not None else _drop
            report = anonymise_lines(read_lines(given, str(source)), find, write, write_span)
        if not report.leaks:
            for path, part in parts.items():
                part.chmod(0o666 & ~_umask())
                part.replace(path)
    except OSError as error:
        raise InvalidInputError(f"cannot be written: {error.strerror}", where=str(error.filename or out)) from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return report


def describe(report: Report, out: Path) -> Iterator[str]:
    """What was done, by type; and what leaked."""
    yield f"{report.texts} texts, {sum(report.spans.values())} spans masked"
    for name, count in sorted(report.spans.items(), key=lambda item: (-item[1], item[0])):
        yield f"  {name:<14} {count}"
    for name, kind in report.leaks[:20]:
        yield f"  leak in {name}: {kind} still stands"
    if report.leaks:
        yield f"{len(report.leaks)} leaks: {out} is not written"


def to_json(report: Report) -> str:
    """The same for machines. What leaked is not repeated."""
    leaks = [name for name, _ in report.leaks]
    return json.dumps({"texts": report.texts, "spans": dict(sorted(report.spans.items())), "leaks": leaks})


def run_train(data: list[Path], out: Path, copies: int, seed: int) -> int:
    """Learn a tagger from annotated files. Gives how many texts it was."""
    texts = [text for path in data for text in read_texts(path)]
    if not any(text.spans for text in texts):
        raise InvalidInputError("no span in any of them", where=", ".join(map(str, data)))
    learn_tagger(texts, out, copies, seed)
    return len(texts)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _writer(file: BinaryIO) -> Any:
    encoder = msgspec.json.Encoder()

    def write(item: object) -> None:
        file.write(encoder.encode(item) + b"\n")

    return write


def _drop(_: object) -> None:
    return
