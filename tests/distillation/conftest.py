"""The smallest real pair: a mixture-of-experts teacher and a dense student with tokenizers of different size."""

from __future__ import annotations

import pytest
import torch

from guardlib.config import DistillationConfig
from guardlib.distillation import small
from guardlib.distillation.pair import match
from guardlib.distillation.text import Pieces
from tests.helpers import corpus_texts
from tests.one_thread import one_thread  # noqa: F401

CONFIG = DistillationConfig(
    teacher_vocab=400, teacher_width=48, teacher_layers=2, teacher_ffn=32, num_experts=6,
    student_vocab=320, student_width=32, student_layers=2, student_ffn=48,
    max_length=24, batch_size=4, epochs=9, start_steps=2, max_steps=8, evaluate_every=4, evaluation_sequences=8,
    checkpoint_every=4, precision="float32", learning_rate=5e-3,
)  # fmt: skip


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [text for text in corpus_texts() if text.isascii()][:160]


@pytest.fixture(scope="session")
def tokenizers(texts):
    """The teacher's and the student's."""
    return [small.train_tokenizer(texts, size) for size in (CONFIG.teacher_vocab, CONFIG.student_vocab)]


@pytest.fixture(scope="session")
def pieces(texts, tokenizers) -> Pieces:
    return Pieces.cut(texts, CONFIG.max_length, tokenizers[1], tokenizers[0]).sample(40)


@pytest.fixture
def teacher(tokenizers):
    model = small.make_language_model(small.teacher_config(CONFIG, 400), tokenizers[0], "teacher", 1)
    model.model.config.output_router_logits = False
    for parameter in model.model.parameters():  # untrained gates and attention are all but even
        torch.nn.init.normal_(parameter, std=0.15) if parameter.ndim > 1 else None
    return model


@pytest.fixture
def student(tokenizers):
    return small.make_language_model(small.student_config(CONFIG, 320), tokenizers[1], "student", 2)


@pytest.fixture
def settled(teacher, student, pieces):
    return match(teacher, student, pieces)
