"""Structured output: a JSON schema as a mask over the next token, by the library that vLLM uses.

JSON is written without white space, as dialogs write actions; vLLM is served with `disable_any_whitespace` for that.
"""

import functools
import json
from collections.abc import Sequence
from typing import Any

import torch
import xgrammar
from transformers import PreTrainedTokenizerFast

KEPT = 1024
"""Compiled schemas that are kept: each screen has one."""
SEPARATORS = (",", ":")


class Grammars:
    """Compiles schemas for one tokenizer and the `vocabulary` of its model."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary)
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1)
        self._compile = functools.lru_cache(KEPT)(self._compile_text)

    def start(self, schema: dict[str, Any]) -> xgrammar.GrammarMatcher:
        """The grammar of `schema` at its start. Raises ValueError where it is none."""
        return xgrammar.GrammarMatcher(self._compile(json.dumps(schema)))

    def mask(self, scores: torch.Tensor, matchers: Sequence[xgrammar.GrammarMatcher | None]) -> torch.Tensor:
        """`scores` `[len(matchers), vocabulary]` with -inf wherever a grammar forbids the token; None allows all."""
        bits = xgrammar.allocate_token_bitmask(len(matchers), self.vocabulary)
        for row, matcher in enumerate(matchers):
            if matcher is not None:
                matcher.fill_next_token_bitmask(bits, row)
        masked = scores.clone()
        xgrammar.apply_token_bitmask_inplace(masked, bits.to(masked.device))
        return masked

    def _compile_text(self, schema: str) -> xgrammar.CompiledGrammar:
        try:
            return self._compiler.compile_json_schema(schema, any_whitespace=False, separators=SEPARATORS)
        except RuntimeError as error:
            raise ValueError(f"the schema cannot be compiled: {error}") from error
