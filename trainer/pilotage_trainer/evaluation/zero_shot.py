"""The zero-shot baseline: a general model behind any OpenAI-compatible endpoint, told the tools and the session.

The prompt has the shape of the paper's: a role, the tools with their arguments, then state and history, and one call
asked for in return; its wording is ours. Structured output is not asked for: not every endpoint has it, so a reply that
is no action counts as invalid, and as a miss. Not here: measures.
"""

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_trainer.backends.interface import Ask, Reply
from pilotage_trainer.retry import ask_again

AT_ONCE = 8
TIMEOUT_SECONDS = 120.0
MAX_TOKENS = 256
KEY_VARIABLE = "OPENAI_API_KEY"
"""The environment variable with the endpoint's key; no key is sent where it is not set."""

ROLE = """You are a customer-support operator. You see one session: the case, the screen as it changes, the chat, and \
what was done so far. Decide the single next action that an experienced operator would take now.

Tools:
{tools}

How the session is written, a line each: "@" the case, "% " the name of the screen, "+"/"-" an element of the screen \
that appeared/went away (kind, id, value), "<" what the customer wrote, ">" an action that was taken, "?" an error.

Answer with one JSON object and nothing else: {{"tool": ..., "control_id": ..., "value": ..., "text": ...}}, with only \
the arguments that the tool takes. Answer {{"tool": ""}} if none of them should be used now."""
ARGUMENTS = {"control_id": "control_id (one of: {ids})", "value": "value (text)", "text": "text (optional)"}
MOST_IDS = 200


def build_messages(prompt: str, schema: dict[str, Any] | None) -> list[dict[str, str]]:
    """The chat that asks for the next action after `prompt`; the tools and ids are those of `schema`."""
    lines = []
    for branch in (schema or {}).get("anyOf", ()):
        properties = branch["properties"]
        if tool := properties["tool"]["const"]:
            ids = ", ".join(properties.get("control_id", {}).get("enum", ())[:MOST_IDS])
            told = [text.format(ids=ids) for name, text in ARGUMENTS.items() if name in properties]
            lines.append(f"- {tool}({'; '.join(told)})")
    body = prompt.rstrip(">").rstrip("\n")
    return [
        {"role": "system", "content": ROLE.format(tools="\n".join(lines))},
        {"role": "user", "content": f"{body}\n\nThe next action, as one JSON object:"},
    ]


def read_answer(text: str) -> str:
    """The first JSON object of an answer, which may stand in a fence or among words; the text itself without one.

    Small models go on talking after it, and play the next turns as well.
    """
    begin = text.find("{")
    try:
        given, _ = json.JSONDecoder().raw_decode(text, max(begin, 0))
    except ValueError:
        return text
    if not isinstance(given, dict):
        return text
    return json.dumps({k: v for k, v in given.items() if v is not None and (v != "" or k == "tool")})


class ZeroShot:
    """A model at an endpoint, asked without any training on the sessions."""

    def __init__(self, url: str, model: str) -> None:
        base = url.rstrip("/")
        self.url = base if base.endswith("/chat/completions") else f"{base}/chat/completions"
        self.model = model

    def ask(self, asks: Sequence[Ask]) -> list[Reply]:
        """The reply to each prompt. Raises UnavailableError where the endpoint does not answer."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda ask: Reply(read_answer(self._complete(*ask))), asks))

    def _complete(self, prompt: str, schema: dict[str, Any] | None) -> str:
        body = {
            "model": self.model,
            "messages": build_messages(prompt, schema),
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        return self._send(request)

    @ask_again
    def _send(self, request: urllib.request.Request) -> str:
        """The completion. Raises UnavailableError for one that is busy or gone, InvalidInputError if it refuses."""
        remedy = "check --zero-shot and --model"
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return str(json.load(answer)["choices"][0]["message"]["content"] or "")
        except urllib.error.HTTPError as error:
            refused = error.code < 500 and error.code != 429
            kind = InvalidInputError if refused else UnavailableError
            raise kind(f"no completion: {error}", where=self.url, remedy=remedy) from error
        except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
            raise UnavailableError(f"no completion: {error}", where=self.url, remedy=remedy) from error
