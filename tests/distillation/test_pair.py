"""Pairs that do not fit are told before anything is trained."""

from __future__ import annotations

import pytest

from guardlib.distillation.errors import PairError
from guardlib.distillation.pair import load_language_model, match, save_language_model
from guardlib.distillation.text import Pieces

from .conftest import CONFIG


def test_what_was_settled(settled):
    assert settled.layers == (0, 1)
    assert settled.coverage["text_mapped"] == 1.0
    assert 0.6 < settled.coverage["text_exact"] < 1.0
    assert 0.5 < settled.coverage["positions_aligned"] < 1.0


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_too_long_a_sequence(teacher, student, pieces, side):
    {"teacher": teacher, "student": student}[side].model.config.max_position_embeddings = 10
    with pytest.raises(PairError, match=rf"a sequence has \d+ tokens and the {side} {side} reads at most 10; lower"):
        match(teacher, student, pieces)


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_attention_that_is_not_returned(teacher, student, pieces, side):
    {"teacher": teacher, "student": student}[side].model.set_attn_implementation("sdpa")
    with pytest.raises(PairError, match=f"the {side} {side} returns no attention maps with sdpa"):
        match(teacher, student, pieces)


def test_tokenizers_that_never_end_at_the_same_character(teacher, student, pieces):
    piece = pieces.pieces[0]._replace(student_at=pieces.pieces[0].student_at[:0])
    with pytest.raises(PairError, match="no character at which both tokenizers end a token"):
        match(teacher, student, Pieces((piece, *pieces.pieces)))


def test_a_layer_map_that_does_not_fit(teacher, student, pieces):
    with pytest.raises(PairError, match="layer map '0,5' does not fit; expected 2 layers from 0 to 1"):
        match(teacher, student, pieces, "0,5")


def test_a_model_that_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(PairError, match=r"cannot be loaded .* expected a Hub id that can be reached, or a folder"):
        load_language_model(str(tmp_path))
    monkeypatch.setattr("guardlib.distillation.pair.why_no_hub", lambda: "the network is down")
    with pytest.raises(PairError, match="model 'owner/name' is no folder, and the network is down; expected a folder"):
        load_language_model("owner/name")


def test_saved_and_loaded_again(student, pieces, tmp_path):
    save_language_model(student, tmp_path)
    again = load_language_model(str(tmp_path))
    assert again.vocabulary == CONFIG.student_vocab
    assert again.tokenizer("hello there")["input_ids"] == student.tokenizer("hello there")["input_ids"]
    assert again.config._attn_implementation == "eager"
