"""A teacher and a student that fit together, or a clear error before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from guardlib.data.loading import why_no_hub
from guardlib.distillation.errors import PairError
from guardlib.distillation.layers import layer_map
from guardlib.distillation.text import Pieces
from guardlib.distillation.vocabulary import VocabularyMap, align_vocabularies, check_coverage
from guardlib.model.inference import pick_device
from guardlib.training.trainer import pick_precision

EAGER = "eager"  # the only attention that returns its maps


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal language model, its tokenizer and a name to report it by."""

    model: nn.Module
    tokenizer: object
    name: str

    @property
    def config(self):
        """The model's own settings."""
        return self.model.config

    @property
    def vocabulary(self) -> int:
        """Rows of the output layer, which may be padded beyond the tokenizer."""
        return self.model.get_output_embeddings().weight.shape[0]


def load_language_model(name: str, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """A model by Hub id or folder. Raises PairError with the reason and what to do."""
    check_reachable(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, attn_implementation=EAGER)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PairError(
            f"model {name!r} cannot be loaded ({reason}); expected a Hub id that can be reached, or a folder with "
            "config.json, model.safetensors and tokenizer.json"
        ) from error
    return LanguageModel(model, tokenizer, name)


def check_reachable(name: str) -> None:
    """PairError for a Hub id where the Hub cannot be reached, in seconds: its own client tries for a minute."""
    if not Path(name).is_dir() and (why := why_no_hub()):
        raise PairError(f"model {name!r} is no folder, and {why}; expected a folder with config.json, or a Hub id")


def own_dtype(name: str) -> torch.dtype:
    """The dtype that a model's weights were published in; float32 where its config does not say."""
    return AutoConfig.from_pretrained(name).dtype or torch.float32


def save_language_model(language_model: LanguageModel, folder: Path) -> None:
    """Write model and tokenizer as ``transformers`` reads them."""
    language_model.model.save_pretrained(folder)
    language_model.tokenizer.save_pretrained(folder)


def teacher_dtype(precision: str) -> torch.dtype:
    """Half precision where the hardware multiplies it: bfloat16, else float16 on a GPU, else float32.

    A frozen teacher needs no scaled loss, so float16 serves where a student could not be trained in it.
    """
    device = pick_device()
    dtype = pick_precision(precision, device)
    return torch.float16 if device.type == "cuda" and precision == "auto" and dtype == torch.float32 else dtype


@dataclass(frozen=True, slots=True)
class Match:
    """What was settled when a pair was checked."""

    vocabulary: VocabularyMap
    layers: tuple[int, ...]
    coverage: dict[str, float]


def match(teacher: LanguageModel, student: LanguageModel, pieces: Pieces, how: str = "uniform") -> Match:
    """Check a pair on the text it is going to read.

    Raises:
        PairError: a sequence longer than either allows, no common vocabulary or position, attention maps that are not
            returned, or a layer map that does not fit.
    """
    for side, model, longest in zip(("student", "teacher"), (student, teacher), pieces.longest, strict=True):
        check_length(side, model, longest)
        check_attention(side, model)
    vocabulary = align_vocabularies(teacher.tokenizer, student.tokenizer, teacher.vocabulary, student.vocabulary)
    coverage = check_coverage(vocabulary, pieces.teacher_ids) | {"positions_aligned": pieces.aligned_share}
    if not all(len(piece.student_at) for piece in pieces.pieces):
        raise PairError(
            "a sequence has no character at which both tokenizers end a token; expected at least one: raise max_length"
        )
    layers = layer_map(teacher.config.num_hidden_layers, student.config.num_hidden_layers, how)
    return Match(vocabulary, layers, coverage)


def check_length(side: str, model: LanguageModel, longest: int) -> None:
    """PairError where ``longest`` tokens are more than the model has positions for."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and longest > limit:
        raise PairError(
            f"a sequence has {longest} tokens and the {side} {model.name} reads at most {limit}; lower max_length"
        )


@torch.no_grad()
def check_attention(side: str, model: LanguageModel) -> None:
    """PairError where the model gives no attention maps (fused attention never does)."""
    ids = torch.zeros(1, 2, dtype=torch.int64, device=next(model.model.parameters()).device)
    maps = model.model(input_ids=ids, output_attentions=True).attentions
    if not maps or maps[0] is None:
        implementation = getattr(model.config, "_attn_implementation", "its attention")
        raise PairError(
            f"the {side} {model.name} returns no attention maps with {implementation}; expected "
            f"attn_implementation={EAGER!r} when it is loaded"
        )
