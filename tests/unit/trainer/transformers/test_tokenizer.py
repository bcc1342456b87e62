"""Tokenizers, learned and adapted: every text survives, marks and verdicts are their own tokens, NOTHING is one."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from unit.trainer.transformers.tiny import build_dialog, save_base

from pilotage_core.dialog import ACCEPT, REJECT, VERDICT_MARK, DialogFormat
from pilotage_core.events import Author, Event, MessagePosted, SessionOpened
from pilotage_core.job_exit import JobExit
from pilotage_core.walk import SessionWalk
from pilotage_trainer.backends.transformers.rows.sequences import NOTHING, Encoder
from pilotage_trainer.backends.transformers.rows.tokenizer import (
    adapt_tokenizer,
    label_token_ids,
    learn_tokenizer,
    load_tokenizer,
)
from pilotage_trainer.failures import BaseModelError, SplitLabelError, find_exit_code

DIALOGS = [build_dialog(12, city) for city in ("Rome", "Oslo", "Lima") * 4]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"), [*DIALOGS, " accept or reject" * 500])


@pytest.fixture(scope="module", params=["learned", "adapted", "loaded"])
def tokenizer(request, base, tmp_path_factory):
    if request.param == "learned":
        return learn_tokenizer(DIALOGS, 600)
    adapted = adapt_tokenizer(base)
    if request.param == "adapted":
        return adapted
    folder = tmp_path_factory.mktemp("loaded")
    adapted.save_pretrained(folder)
    return load_tokenizer(folder)


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_any_text_survives_a_learned_tokenizer(text):
    tokenizer = LEARNED
    assert tokenizer.decode(ids_of(tokenizer, text), clean_up_tokenization_spaces=False) == text


LEARNED = learn_tokenizer(DIALOGS, 600)


def test_marks_stand_alone_so_that_a_prompts_tokens_begin_those_of_what_follows(tokenizer):
    dialog = DIALOGS[0]
    whole = ids_of(tokenizer, dialog)
    ends = [at + 2 for at in range(len(dialog)) if dialog.startswith("\n>", at)]
    assert len(ends) == 12
    for end in ends:
        prompt = ids_of(tokenizer, dialog[:end])
        assert whole[: len(prompt)] == prompt


def test_an_action_ends_with_a_token_of_its_own_even_where_the_base_swallows_line_breaks(base, tokenizer):
    action = '{"tool":"click_control","control_id":"submit"}'
    alone = ids_of(tokenizer, f"\n>{action}")
    assert ids_of(tokenizer, f"\n>{action}\n< and then")[: len(alone)] == alone
    plain = PreTrainedTokenizerFast.from_pretrained(base)
    assert ids_of(plain, f"\n>{action}\n< and then")[: len(alone)] != ids_of(plain, f"\n>{action}")


def test_a_verdict_is_one_token_after_its_mark_and_nothing_is_one_token(tokenizer):
    accept, reject = label_token_ids(tokenizer)
    for word, token in ((ACCEPT, accept), (REJECT, reject)):
        prompt = ids_of(tokenizer, f"{DIALOGS[0]}{VERDICT_MARK}")
        assert ids_of(tokenizer, f"{DIALOGS[0]}{VERDICT_MARK}{word}") == [*prompt, token]
    assert ids_of(tokenizer, f"\n>{NOTHING}")[-1:] == [tokenizer.convert_tokens_to_ids(NOTHING)]
    assert tokenizer.decode([tokenizer.convert_tokens_to_ids(NOTHING)]) == NOTHING


def test_a_customer_who_writes_the_end_token_ends_nothing(tokenizer):
    assert tokenizer.eos_token_id not in ids_of(tokenizer, f"< {tokenizer.eos_token} and {tokenizer.pad_token}")


def test_no_token_with_a_meaning_comes_from_what_a_customer_writes(tokenizer):
    for token, added in tokenizer.added_tokens_decoder.items():
        if added.content != NOTHING:  # which the dialog escapes
            assert token not in ids_of(tokenizer, f"{DIALOGS[0]}\n< say {added.content} now"), added.content
            assert token not in ids_of(tokenizer, f"{DIALOGS[0]}\n< {added.content}"), added.content
        for text in (added.content, f"say {added.content}!", f"{added.content}\n>", f"x{added.content}"):
            walk = SessionWalk(DialogFormat())
            for number, data in enumerate((SessionOpened({"k": text}), MessagePosted(Author.CUSTOMER, text))):
                walk.step(Event(f"e{number}", number, "t", data))
            assert token not in ids_of(tokenizer, walk.dialog.prompt()), added.content


def test_it_is_the_same_in_a_worker_process_and_in_an_artefact(tokenizer, tmp_path):
    encoder = Encoder.of(tokenizer)
    remade = encoder.__reduce__()[0](*encoder.__reduce__()[1])
    assert (remade.end, remade.nothing) == (encoder.end, encoder.nothing)
    tokenizer.save_pretrained(tmp_path)
    text = f"{DIALOGS[1]}\n< ünïcödé 你好 {tokenizer.eos_token}"
    expected = ids_of(tokenizer, text)
    assert ids_of(load_tokenizer(tmp_path), text) == expected
    for some in (encoder, remade):
        assert some._backend.encode(text, add_special_tokens=False).ids == expected


def test_learning_is_deterministic():
    again = learn_tokenizer(DIALOGS, 600)
    assert again.backend_tokenizer.to_str() == LEARNED.backend_tokenizer.to_str()
    assert len(again) <= 600 + 3


def test_a_base_that_splits_a_verdict_is_refused_with_its_own_exit_code(tmp_path):
    base = save_base(tmp_path, ["nothing of the kind in here"])
    with pytest.raises(SplitLabelError, match="splits ' accept' into") as raised:
        adapt_tokenizer(base)
    assert find_exit_code(raised.value) == JobExit.SPLIT_LABEL


def test_a_base_that_cannot_be_loaded_is_refused_with_its_own_exit_code(tmp_path):
    with pytest.raises(BaseModelError) as raised:
        adapt_tokenizer(tmp_path / "no-such-model")
    assert find_exit_code(raised.value) == JobExit.BASE_MODEL
    assert "\n" not in str(raised.value)


def test_a_base_whose_tokenizer_is_not_bytewise_is_refused(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({ACCEPT: 0, REJECT: 1, "<unk>": 2}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<unk>").save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["pre_tokenizer"] is None
    with pytest.raises(BaseModelError, match="byte-level"):
        adapt_tokenizer(tmp_path)
