"""vLLM's HTTP interface as types: the requests and replies that Pilotage uses, in vLLM's own shape.

Shape of /generative_scoring: vLLM's entrypoints/generate/generative_scoring; of the rest: its OpenAI-compatible server.
Fields that our models have no use for are accepted and passed over, as vLLM does with unknown ones.
"""

from typing import Any

import msgspec

from pilotage_core.dialog import ACCEPT, REJECT

REJECT_TOKEN_ID = 0
ACCEPT_TOKEN_ID = 1
VOCABULARY = (REJECT, ACCEPT)
"""A critic's whole vocabulary: a token's id is its place."""
POLICY = "policy"
CRITIC = "critic"
LONGEST_PROMPT = 1 << 20
"""A count model's max_model_len; in characters, since it reads lines, not tokens."""
LONGEST_REPLY = 512


# --- requests ---------------------------------------------------------------------------------------------------------
class ContentPart(msgspec.Struct):
    """One part of a message whose content is a list."""

    type: str
    text: str = ""


class ChatMessage(msgspec.Struct):
    """One message of a chat."""

    role: str
    content: str | list[ContentPart]


class JsonSchema(msgspec.Struct):
    """A named JSON schema."""

    name: str = ""
    schema: dict[str, Any] | None = None


class ResponseFormat(msgspec.Struct):
    """Structured output: `type` is text, json_object or json_schema."""

    type: str = "text"
    json_schema: JsonSchema | None = None


class ChatRequest(msgspec.Struct):
    """`POST /v1/chat/completions`."""

    messages: list[ChatMessage]
    model: str = POLICY
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    max_tokens: int | None = None
    stream: bool | None = None


class CompletionRequest(msgspec.Struct):
    """`POST /v1/completions`."""

    prompt: str
    model: str = POLICY
    response_format: ResponseFormat | None = None
    logprobs: int | None = None
    max_tokens: int | None = None
    stream: bool | None = None


class ScoringRequest(msgspec.Struct):
    """`POST /generative_scoring`: P(label) as the next token after query + item (item + query if `item_first`)."""

    query: str
    items: list[str]
    label_token_ids: list[int]
    model: str = CRITIC
    apply_softmax: bool = True
    item_first: bool = False


class TokenizeRequest(msgspec.Struct):
    """`POST /tokenize`: how a client finds the ids of accept and reject."""

    prompt: str
    model: str = CRITIC


# --- replies ----------------------------------------------------------------------------------------------------------
class Usage(msgspec.Struct):
    """Tokens; a count model's are lines."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class TokenLogprob(msgspec.Struct):
    """One token of a chat reply and its log probability."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[Any] = []


class ChatLogprobs(msgspec.Struct):
    """All tokens of a chat reply."""

    content: list[TokenLogprob]


class ReplyMessage(msgspec.Struct):
    """What the model said."""

    content: str
    role: str = "assistant"


class ChatChoice(msgspec.Struct):
    """One reply."""

    message: ReplyMessage
    logprobs: ChatLogprobs | None = None
    index: int = 0
    finish_reason: str = "stop"
    stop_reason: str | None = None


class ChatReply(msgspec.Struct):
    """The answer to a ChatRequest."""

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    object: str = "chat.completion"


class CompletionLogprobs(msgspec.Struct):
    """All tokens of a completion, in parallel lists."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(msgspec.Struct):
    """One completion."""

    text: str
    logprobs: CompletionLogprobs | None = None
    index: int = 0
    finish_reason: str = "stop"
    stop_reason: str | None = None


class CompletionReply(msgspec.Struct):
    """The answer to a CompletionRequest."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    object: str = "text_completion"


class ItemScore(msgspec.Struct):
    """The probability of the first label after one item."""

    index: int
    score: float
    object: str = "score"


class ScoringReply(msgspec.Struct):
    """The answer to a ScoringRequest."""

    id: str
    created: int
    model: str
    data: list[ItemScore]
    usage: Usage
    object: str = "list"


class TokenizeReply(msgspec.Struct):
    """The answer to a TokenizeRequest."""

    count: int
    tokens: list[int]
    max_model_len: int = LONGEST_PROMPT
    token_strs: list[str] | None = None


class ModelCard(msgspec.Struct):
    """One served model; `root` is the digest of its artefact (vLLM tells a path there)."""

    id: str
    root: str
    created: int
    object: str = "model"
    owned_by: str = "pilotage"
    parent: str | None = None
    max_model_len: int = LONGEST_PROMPT
    permission: list[Any] = []


class ModelList(msgspec.Struct):
    """The answer to `GET /v1/models`."""

    data: list[ModelCard]
    object: str = "list"


class ErrorInfo(msgspec.Struct):
    """What was wrong with a request."""

    message: str
    type: str
    code: int
    param: str | None = None


class ErrorReply(msgspec.Struct):
    """Any answer but 200."""

    error: ErrorInfo
