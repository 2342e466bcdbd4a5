"""Two vocabularies made one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from guardlib.distillation.errors import PairError
from guardlib.distillation.vocabulary import (
    LogitProjector,
    VocabularyMap,
    align_vocabularies,
    check_coverage,
    token_bytes,
)


class Words:
    """A tokenizer that has a vocabulary and nothing else: no text gives a token."""

    def __init__(self, *tokens: str, special: tuple[int, ...] = (), **roles) -> None:
        self.tokens, self.all_special_ids = tokens, list(special)
        for role, index in roles.items():
            setattr(self, role, index)

    def get_vocab(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    def __call__(self, texts: list[str], **_) -> dict[str, list[list[int]]]:
        return {"input_ids": [[] for _ in texts]}


def test_schemes_stand_for_the_same_bytes():
    """GPT-2's "Ġ", SentencePiece's "▁", WordPiece's "##"."""
    assert token_bytes(Words("Ġthe", "Ċ"))[0] == b" the"
    assert token_bytes(Words("Ġthe", "Ċ"))[1] == b"\n"
    assert token_bytes(Words("▁the", "<0x0A>")) == {0: b" the", 1: b"\n"}
    assert token_bytes(Words("the", "##re")) == {0: b" the", 1: b"re"}


def test_match_by_bytes_by_prefix_and_by_role():
    teacher = Words("<s>", "▁the", "▁there", "▁zebra", special=(0,), bos_token_id=0)
    student = Words("Ġthe", "<bos>", "Ġ", special=(1,), bos_token_id=1)
    mapping = align_vocabularies(teacher, student, teacher_size=6, student_size=3)
    assert mapping.student_of_teacher.tolist() == [1, 0, 0, 2, -1, -1]  # two rows of padding have no place
    assert mapping.exact.tolist() == [True, True, False, False, False, False]
    coverage = mapping.coverage(np.array([1, 1, 2, 3]))
    assert coverage["text_exact"] == 0.5
    assert coverage["text_mapped"] == 1.0


def test_a_missing_token_begins_as_the_students_own_tokenizer_begins_it():
    """Merges are made in their order, not by length: "link" is l, ink to this one, though it has "li" as well."""
    merges = [("i", "n"), ("in", "k"), ("l", "i")]
    vocabulary = {token: index for index, token in enumerate(["l", "i", "n", "k", "in", "ink", "li"])}
    student = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocabulary, merges)))
    student.get_vocab = lambda: {f"▁{name}" if name == "▁" else name: at for name, at in vocabulary.items()} | {"▁": 7}
    mapping = align_vocabularies(Words("link", "▁"), student, teacher_size=2, student_size=8)
    assert mapping.student_of_teacher[0] == vocabulary["l"]
    assert not mapping.exact[0]


def test_a_word_begins_as_it_does_inside_a_text():
    """Llama's tokenizer puts a blank before the first word of all: alone, " hello" begins with that blank."""
    pieces = ["▁", "h", "e", "l", "o", "el", "▁h", "▁hel", "lo", "\n"]
    merges = [("▁", "h"), ("e", "l"), ("▁h", "el"), ("l", "o")]
    tokenizer = Tokenizer(models.BPE({piece: at for at, piece in enumerate(pieces)}, merges))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    student = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    mapping = align_vocabularies(Words("Ġhello", "Ġ"), student, teacher_size=2, student_size=len(pieces))
    assert mapping.student_of_teacher.tolist() == [pieces.index("▁hel"), pieces.index("▁")]


def test_a_token_of_several_roles_is_first_of_all_the_end_of_a_text():
    """GPT-2's one special token is start, end and unknown; a student with one for each has to learn where to stop."""
    teacher = Words("Ġa", "<|endoftext|>", special=(1,), bos_token_id=1, eos_token_id=1, unk_token_id=1, pad_token_id=1)
    student = Words("<unk>", "<s>", "</s>", "▁a", special=(0, 1, 2), unk_token_id=0, bos_token_id=1, eos_token_id=2)
    assert align_vocabularies(teacher, student, 2, 4).student_of_teacher.tolist() == [3, 2]
    assert align_vocabularies(student, teacher, 4, 2).student_of_teacher.tolist() == [1, 1, 1, 0]


def test_student_tokens_that_its_model_has_no_row_for_are_no_place():
    """Added to a tokenizer, and the model was never resized: the next shorter one is taken, or none."""
    teacher = Words("Ġthe", "Ġcat", "<s>", special=(2,), bos_token_id=2)
    student = Words("Ġthe", "Ġ", "Ġcat", "<s>", special=(3,), bos_token_id=3)
    mapping = align_vocabularies(teacher, student, teacher_size=3, student_size=2)
    assert mapping.student_of_teacher.tolist() == [0, 1, -1]
    assert mapping.exact.tolist() == [True, False, False]
    assert LogitProjector(mapping)(torch.randn(5, 3)).shape == (5, 2)


def test_no_common_text_is_refused():
    mapping = align_vocabularies(Words("▁кот", "▁пёс"), Words("Ġcat", "Ġdog"), 2, 2)
    with pytest.raises(PairError, match=r"has 0\.0% of the text's teacher tokens; expected at least 20%"):
        check_coverage(mapping, np.array([0, 1]))


@given(st.integers(0, 2**31), st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_projected_logits_are_the_teachers_probabilities_added_up(seed, dtype):
    """Mass is kept, dtype too."""
    rng = np.random.default_rng(seed)
    place = rng.integers(0, 4, 9)
    logits = torch.from_numpy(rng.normal(0, 3, (5, 9))).to(dtype)
    projected = LogitProjector(VocabularyMap(place, np.ones(9, bool), 4))(logits)
    assert projected.dtype == dtype
    expected = torch.zeros(5, 4).index_add(1, torch.from_numpy(place), logits.float().softmax(-1))
    assert torch.allclose(projected.float().softmax(-1), expected, atol=2e-2 if dtype != torch.float32 else 1e-5)


def test_one_vocabulary_is_left_alone():
    mapping = VocabularyMap(np.arange(3), np.ones(3, bool), 3)
    logits = torch.randn(2, 3)
    assert LogitProjector(mapping)(logits) is logits
