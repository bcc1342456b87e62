"""Tokenizers: one learned from dialogs (a model from scratch), or a base model's own, made to respect what we rely on.

Relied on: "\\n>" and "\\n!" are pieces of their own, so that the tokens of a prompt begin the tokens of every longer
one; NOTHING, ` accept` and ` reject` are one token each. No token with a meaning can come from what a customer writes:
special ones are never read in a text, every one that a base has added is made special, and NOTHING holds a brace that
the dialog escapes. ` accept` and ` reject` are words like any other. Not here: which tokens carry loss (sequences.py).
"""

from collections.abc import Iterable
from itertools import chain, repeat
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pilotage_core.dialog import ACCEPT, REJECT
from pilotage_trainer.artefact import MANIFEST
from pilotage_trainer.backends.transformers.rows.sequences import NOTHING
from pilotage_trainer.failures import BaseModelError, SplitLabelError

END, PAD = "<|end|>", "<|pad|>"
MARKS = Regex(r"\n[>!]")
LINE_MARKS = Regex(r"\n[>!]|\n")
"""For a base's own tokenizer: many would make one token of the end of an action and the line break after it."""
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""A chat is the dialog and nothing else: nothing is put around it or after it."""

ACTION = r'\{"tool":"[a-z_]*"(?:,"control_id":"[^"\\\n]*")?(?:\}|,"(?:value|text)":")'
"""An action whole, or up to its free text."""
VERDICTS = f"{ACCEPT}\n{REJECT}\n" * 1000
VERDICTS_REPEATED = 200
"""So often that both words become one token of the vocabulary, however small it is."""
PIECES = Regex(
    r"\n[>!]|" + ACTION + r'|"\}'
    r"|\n< ?"
    r"|\n[+-] (?:fact|announcement|input|select|combo_box) [^=\n]*=?"  # what comes after = is words
    r"|\n[+-] [^\n]*|\n%!? [^\n]*"
    r"| ?\p{L}+(?:'\p{L}+)?| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|[^\S\n]+|\n"
)
"""Screen lines, marks and actions are one piece each and may become one token each; all else is split into words."""


def learn_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer learned from dialogs, `vocabulary` tokens at most.

    Any text survives it: what was never seen falls back to bytes. Deterministic in the order of `texts`.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(MARKS, "isolated"),
            pre_tokenizers.Split(PIECES, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(chain(repeat(VERDICTS, VERDICTS_REPEATED), texts), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, split_special_tokens=True
    )
    return _complete(wrapped)


def adapt_tokenizer(base: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer of the base model `base`, with our marks kept apart and NOTHING one token.

    One that was made here (`pretrain`) is taken as it is: transformers would rebuild it as its model's kind has it.
    Raises SplitLabelError where it splits ACCEPT or REJECT, BaseModelError where it cannot be loaded or does not
    work on bytes (a dialog has to survive it).
    """
    if (Path(base) / MANIFEST).exists():
        return load_tokenizer(Path(base))
    try:
        tokenizer = AutoTokenizer.from_pretrained(base, split_special_tokens=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BaseModelError(f"has no tokenizer that can be loaded: {reason}", where=str(base)) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.pre_tokenizer is None:
        raise BaseModelError(
            "its tokenizer is none that works piece by piece on bytes",
            where=str(base),
            remedy="use a base model with a byte-level BPE tokenizer (tokenizer.json), as Qwen2.5 or SmolLM2",
        )
    own = pre_tokenizers.Split(LINE_MARKS, "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([own, backend.pre_tokenizer])
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": PAD})
    meant = [token for token in tokenizer.added_tokens_decoder.values() if not token.special]
    for token in meant:
        token.special = True
    backend.add_special_tokens(meant)
    return _complete(tokenizer)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of an artefact. Raises SplitLabelError where it is none of ours."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    label_token_ids(tokenizer)
    return tokenizer


def label_token_ids(tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    """The ids of ACCEPT and REJECT. Raises SplitLabelError where one of them is not exactly one token."""
    found = []
    for word in (ACCEPT, REJECT):
        ids = tokenizer(word, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise SplitLabelError(
                f"the tokenizer splits {word!r} into {len(ids)} tokens",
                where=str(tokenizer.name_or_path) or "tokenizer",
                remedy="use a base model whose tokenizer knows it, or let one be learned from the data",
            )
        found.append(ids[0])
    return found[0], found[1]


def _complete(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    tokenizer.add_tokens([AddedToken(NOTHING, normalized=False)])
    tokenizer.chat_template = CHAT_TEMPLATE
    label_token_ids(tokenizer)
    return tokenizer
