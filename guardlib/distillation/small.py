"""A teacher and students for a machine without a model hub: tokenizers and models small enough to train on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MixtralConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from guardlib.config import DistillationConfig
from guardlib.distillation.pair import EAGER, LanguageModel

EOS = "<|endoftext|>"
_HEAD = 32  # width of an attention head, where the model's width allows
_ACTIVE = 2  # experts per token


def train_tokenizer(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of ``size`` tokens (Radford et al. 2019): any text can be written in it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=EOS)


def teacher_config(config: DistillationConfig, vocabulary: int) -> MixtralConfig:
    """Mixtral's shape (Jiang et al. 2024, arXiv 2401.04088), small: two of ``num_experts`` experts per token."""
    return MixtralConfig(
        **_shape(config.teacher_width, config.teacher_layers, config.teacher_ffn, config.max_length, vocabulary),
        num_local_experts=config.num_experts,
        num_experts_per_tok=min(_ACTIVE, config.num_experts),
        output_router_logits=True,
        router_aux_loss_coef=0.02,
    )


def student_config(config: DistillationConfig, vocabulary: int) -> LlamaConfig:
    """SmolLM's shape (Llama), small."""
    return LlamaConfig(
        **_shape(config.student_width, config.student_layers, config.student_ffn, config.max_length, vocabulary)
    )


def _shape(width: int, layers: int, ffn: int, length: int, vocabulary: int) -> dict:
    heads = max(width // _HEAD, 1)
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": max(2 * length, 64),
        "bos_token_id": None,
        "eos_token_id": 0,
        "tie_word_embeddings": True,
    }


def make_language_model(
    model_config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast, name: str, seed: int
) -> LanguageModel:
    """A model with random weights that depend on ``seed`` alone."""
    torch.manual_seed(seed)
    return LanguageModel(AutoModelForCausalLM.from_config(model_config, attn_implementation=EAGER), tokenizer, name)
