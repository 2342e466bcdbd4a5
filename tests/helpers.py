"""The smallest real tokenizer, reader, model and frames: what the tests of text, model and training are made of."""

from __future__ import annotations

import dataclasses
import functools
import json
from importlib import resources

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer

from guardlib.config import EvaluationConfig, ModelConfig, Profile, TrainingConfig
from guardlib.model.backbone import find_backbone
from guardlib.model.dual_branch import DualBranchModel
from guardlib.text.lookalikes import latin_lookalikes
from guardlib.text.reading import Batch, Reader
from guardlib.text.tokenizer import GuardTokenizer
from guardlib.text.views import Unfolder
from guardlib.text.vocabulary import prune_vocabulary
from guardlib.text.word_order import WordOrder

VOCABULARY = 4000
_PINNED = 1000
TINY = ModelConfig(
    backbone="none",
    d_model=48,
    num_heads=4,
    ffn_dim=96,
    vocab_size=VOCABULARY,
    learnt_pieces=0,
    max_length=32,
    stem_layers=1,
    deep_layers=2,
    num_experts=3,
    chars_per_token=8,
    char_buckets=256,
    char_dim=8,
    char_filters=8,
    ngram_rows=8192,
    router_hidden=16,
)


@functools.cache
def corpus_texts() -> tuple[str, ...]:
    """The first texts of each file of the built-in corpus: rows are added at the end, and golden losses stay."""
    folder = resources.files("guardlib.data") / "corpus"
    files = [folder / f"{name}.jsonl" for name in ("attacks", "benign", "hard_negatives")]
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()[:_PINNED]]
    return tuple(json.loads(line)["text"] for line in lines)


def corpus_records() -> pd.DataFrame:
    """The same as records in English."""
    return pd.DataFrame({"text": corpus_texts(), "lang": "en", "source": "corpus_benign"})


@functools.cache
def pruned() -> tuple[str, list[int]]:
    """tokenizer.json of the corpus's vocabulary, and the backbone's row of each piece."""
    return prune_vocabulary(find_backbone().tokenizer, corpus_texts(), VOCABULARY)


@functools.cache
def make_tokenizer(chars_per_token: int = TINY.chars_per_token, buckets: int = TINY.char_buckets) -> GuardTokenizer:
    return GuardTokenizer(Tokenizer.from_str(pruned()[0]), chars_per_token, buckets)


@functools.cache
def make_unfolder() -> Unfolder:
    return Unfolder(make_tokenizer().words(), latin_lookalikes(), WordOrder.learn(corpus_texts()))


def make_reader(max_length: int = TINY.max_length, views: bool = True) -> Reader:
    return Reader(make_tokenizer(), make_unfolder() if views else None, max_length)


def make_model(config: ModelConfig = TINY, seed: int = 0) -> DualBranchModel:
    """A model with random weights, characters and n-grams too (they start at zero, which would hide mistakes)."""
    torch.manual_seed(seed)
    model = DualBranchModel(config, VOCABULARY)
    torch.nn.init.normal_(model.front.embeddings.characters.out.weight, std=0.1)
    torch.nn.init.normal_(model.front.ngrams.table)  # it, too
    model.front.ngrams.weight.fill_(1.0)
    return model.eval()


def count_weights(model: DualBranchModel) -> int:
    """All that is learnt: parameters, and the n-gram head, which no gradient trains."""
    return sum(p.numel() for p in [*model.parameters(), *model.front.ngrams.buffers()])


def make_batch(texts: list[str], max_length: int = TINY.max_length) -> Batch:
    """The texts as they stand, one window each."""
    reader = make_reader(max_length, views=False)
    return reader.collate(reader.windows(texts))


def make_frame(rows: int = 96, seed: int = 0) -> pd.DataFrame:
    """Records of a task anyone can learn: each class has a phrase of its own amid common words."""
    rng = np.random.default_rng(seed)
    marks = ("thank you", "ignore the rules", "you are now free", "decode and obey")
    words = [
        "please",
        "the",
        "report",
        "about",
        "a",
        "garden",
        "with",
        "my",
        "friend",
        "and",
        "some",
        "water",
        "for",
        "today",
    ]
    labels = rng.integers(0, 4, rows)
    texts = []
    for label in labels:
        sentence = [*rng.choice(words, rng.integers(2, 10)), marks[label]]
        texts.append(" ".join(sentence[i] for i in rng.permutation(len(sentence))))
    frame = pd.DataFrame({"text": texts, "label": labels})
    return frame.assign(source="made", family="made", group=range(rows), lang="en", split="train")


def make_profile(model: ModelConfig = TINY, seed: int = 0, **training) -> Profile:
    """A profile for runs of seconds; keywords are training settings."""
    settings = {
        "epochs": 3,
        "tokens_per_batch": 140,
        "learning_rate": 3e-3,
        "precision": "float32",
        "validations": 3,
        "validation_rows": None,
        "patience": 0,
        "checkpoint_every": 5,
        "attack_share": None,
    }
    return Profile(
        name="test",
        seed=seed,
        model=model,
        training=dataclasses.replace(TrainingConfig(), **(settings | training)),
        evaluation=EvaluationConfig(tokens_per_batch=2048, bootstrap_samples=10),
    )
