"""`pilotage-train pretrain`: domain-adaptive pretraining on plain text, before the policy; optional. All tokens count.

Comes out as a folder in Hugging Face's layout, which `baseModel` may then name. A text file is one document, or several
parted by lines that hold nothing but `---`. Not here: the loop (sft.py).
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.errors import EvidenceError, InvalidInputError, UnavailableError
from pilotage_trainer.artefact import Manifest, digest_bytes, require_replaceable
from pilotage_trainer.backends.transformers import find_maker
from pilotage_trainer.backends.transformers.asking.export import digest_base_of, write_transformer
from pilotage_trainer.backends.transformers.rows.packing import Row, pack
from pilotage_trainer.backends.transformers.rows.sequences import Sequence as Tokens
from pilotage_trainer.backends.transformers.rows.tokenizer import adapt_tokenizer, learn_tokenizer
from pilotage_trainer.backends.transformers.training.metrics_file import METRICS
from pilotage_trainer.backends.transformers.training.model import build_model, read_candidate
from pilotage_trainer.backends.transformers.training.processes import open_state
from pilotage_trainer.backends.transformers.training.sft import Trained, train
from pilotage_trainer.config import JobConfig, encode_config

KIND = "base"
SEPARATOR = "---"
DEVELOPMENT_EVERY = 20
"""Every so many rows one is kept for the development loss."""


def run_pretrain(paths: Sequence[Path], out: Path, config: JobConfig, max_tokens: int) -> Trained | None:
    """Train the base model (or one from scratch) on the texts, put it at `out`; None in all processes but the first.

    Raises InvalidInputError, EvidenceError, BaseModelError, NotANumberError, WorkerDiedError, OSError.
    """
    require_replaceable(out, KIND)
    state, settings = open_state(), config.pretraining
    texts = list(read_documents(paths))
    base = config.base_model
    tokenizer = adapt_tokenizer(base) if base else learn_tokenizer(texts, config.transformers.shape.vocabulary)
    rows = build_rows(texts, tokenizer, max_tokens)
    learned = [row for place, row in enumerate(rows) if place % DEVELOPMENT_EVERY != 1] or rows
    development = rows[1::DEVELOPMENT_EVERY]
    shape = config.transformers.shape
    longest = max(max_tokens, config.transformers.dataset.max_tokens)
    model = build_model(base, shape, tokenizer, settings, longest, state.num_processes)
    work = out.with_name(f"{out.name}-training")
    data = digest_bytes("\0".join(texts).encode())
    trained = train(model, learned, settings, work, development, identity=f"{data} {base} {shape.model_dump_json()}")
    if not state.is_main_process:
        sys.exit(0)
    maker = find_maker()
    manifest = Manifest(
        kind=KIND, process_cluster="", revision="", backend=maker.backend, data=data,
        config=digest_bytes(encode_config(config)), prompt_format=DEFAULT_FORMAT.digest,
        code=maker.code, files={}, base=digest_base_of(base),
    )  # fmt: skip
    whole = read_candidate(trained.candidates[-1].folder, base if settings.lora.rank else "")
    if settings.lora.rank:
        whole = whole.merge_and_unload()
    write_transformer(out, manifest, whole, tokenizer, extra={METRICS: (work / METRICS).read_bytes()})
    shutil.rmtree(work, ignore_errors=True)
    return trained


def read_documents(paths: Sequence[Path]) -> Iterator[str]:
    """The documents of text files. Raises InvalidInputError for one that is no UTF-8 text, UnavailableError."""
    for path in paths:
        try:
            lines = path.read_text().split("\n")
        except UnicodeDecodeError as error:
            raise InvalidInputError("is no UTF-8 text", where=str(path), remedy="convert it") from error
        except OSError as error:
            raise UnavailableError(f"cannot be read: {error.strerror}", where=str(path)) from error
        held: list[str] = []
        for line in [*lines, SEPARATOR]:
            if line.strip() != SEPARATOR:
                held.append(line)
                continue
            if text := "\n".join(held).strip():
                yield text
            held = []


def build_rows(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> list[Row]:
    """Packed rows with loss on every token; a document ends with the end token, a long one is cut.

    Raises EvidenceError where there is no text.
    """
    pieces = []
    for number, text in enumerate(texts):
        ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        parts = (ids[at : at + max_tokens] for at in range(0, len(ids), max_tokens))
        pieces += [Tokens(str(number), part, part) for part in parts if len(part) > 1]
    if not pieces:
        raise EvidenceError("there is no text to learn from", where="--text", remedy="give plain text files")
    return pack(pieces, max_tokens)
