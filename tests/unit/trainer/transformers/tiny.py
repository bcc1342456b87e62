"""Tiny models for tests: a Qwen2 of a few thousand weights with a tokenizer learned from a handful of dialogs."""

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from pilotage_core.actions import Action, ActionRules, Tool
from pilotage_core.dialog import DEFAULT_FORMAT, encode_action
from pilotage_core.proposal import build_action_schema
from pilotage_core.screen import Control, ControlKind, Screen
from pilotage_trainer.backends.transformers.rows.tokenizer import learn_tokenizer

QWEN_PIECES = (  # Qwen2's own: punctuation swallows the line breaks after it
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SCREEN = Screen(
    "form",
    controls=(
        Control("submit", ControlKind.BUTTON),
        Control("cancel", ControlKind.BUTTON),
        Control("input:City", ControlKind.INPUT),
        Control("reply:hello", ControlKind.REPLY, label="Hello."),
    ),
)
SCHEMA = build_action_schema(ActionRules(), SCREEN)
ACTIONS = (
    Action(Tool.CLICK_CONTROL, "submit"),
    Action(Tool.CLICK_CONTROL, "cancel"),
    Action(Tool.FILL_INPUT, "input:City", value="Rome"),
    Action(Tool.SEND_TEXT_TO_CHAT, "reply:hello"),
    Action(Tool.CLOSE_CHAT),
)


def build_dialog(turns: int, city: str = "Rome") -> str:
    """A dialog of `turns` actions, whose last line is an action."""
    lines = ["@ domains=weather", "% form", f"+ input input:City={city}", "+ button submit", "+ reply reply:hello"]
    for turn in range(turns):
        lines += [
            f"< what is the weather on day {turn} in {city}?",
            ">" + encode_action(ACTIONS[turn % len(ACTIONS)], DEFAULT_FORMAT),
        ]
    return "\n".join(lines)


def build_prompts(turns: int, city: str = "Rome") -> list[str]:
    """The prompts of that dialog, each of which begins the next one."""
    dialog = build_dialog(turns, city)
    ends = [place + 2 for place in range(len(dialog)) if dialog.startswith("\n>", place)]
    return [dialog[:end] for end in ends]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Learned from a few dialogs."""
    return learn_tokenizer((build_dialog(10, city) for city in ("Rome", "Oslo", "Lima") * 3), 500)


def build_model(vocabulary: int, seed: int = 0, scale: float = 0.2) -> Qwen2ForCausalLM:
    """Random weights, large enough that its answers differ much."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=128,  # heads of 64: vLLM takes no smaller ones, and for Qwen2 no others than hidden / heads
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=scale,
        dtype="float32",
    )
    return Qwen2ForCausalLM(config).eval()


def save_base(folder, texts):
    """A base model's tokenizer as Qwen's is built, learned from `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    pieces = pre_tokenizers.Split(Regex(QWEN_PIECES), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    wrapped.add_tokens([AddedToken("<think>", special=False), AddedToken("<tool_call>", special=False)])
    wrapped.save_pretrained(folder)
    return folder
