"""TinyGuardrail: a fast branch that reads every text, and a deep branch for those the router sends on.

Legend: B batch, L tokens, C characters per token, D width, E experts, K classes.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from guardlib.config import ConfigError, ModelConfig
from guardlib.labels import NUM_CLASSES
from guardlib.model.deep_branch import DeepBranch, ExpertLayer, MixtureOfExperts
from guardlib.model.embeddings import MAX_CHARS, CharacterCNN, GuardEmbeddings
from guardlib.model.fast_branch import FastBranch
from guardlib.model.ngrams import NgramHead
from guardlib.model.router import Router
from guardlib.model.transformer import ClassifierHead, Pool, TransformerLayer
from guardlib.paths import run_again
from guardlib.text.tokenizer import ASCII


class DualOutput(NamedTuple):
    """Both branches on the same texts: logits [B, K], router_logit [B], balance_loss, expert_load [layers, E].

    fast_focus and deep_focus [B, L]: how much each token counts, as logits; training shows what it should be.
    """

    fast_logits: Tensor
    deep_logits: Tensor
    router_logit: Tensor
    balance_loss: Tensor
    expert_load: Tensor
    fast_focus: Tensor
    deep_focus: Tensor


class DualBranchModel(nn.Module):
    """``front`` (embeddings, stem, fast head, router) and ``deep`` (experts, head), which runs only where sent."""

    def __init__(self, config: ModelConfig, vocab: int) -> None:
        super().__init__()
        check_model_config(config)
        self.config = config
        width, heads, ffn = config.d_model, config.num_heads, config.ffn_dim
        characters = CharacterCNN(config.char_buckets, config.char_dim, config.char_widths, config.char_filters, width)
        if not config.use_characters:
            characters.requires_grad_(False)  # their projection stays at zero
        embeddings = GuardEmbeddings(vocab, config.max_length, width, characters, config.layer_dropout)
        stem = [TransformerLayer(width, heads, ffn, config.layer_dropout) for _ in range(config.stem_layers)]
        router = Router(width, config.router_hidden, config.use_entropy)
        head = ClassifierHead(width, NUM_CLASSES, config.dropout)
        ngrams = NgramHead(config.ngram_rows, vocab, NUM_CLASSES)
        self.front = FastBranch(embeddings, stem, Pool(width), head, ngrams, router)
        deep = [
            ExpertLayer(
                TransformerLayer(width, heads, ffn, config.layer_dropout),
                MixtureOfExperts(width, ffn, config.num_experts),
            )
            for _ in range(config.deep_layers)
        ]
        self.deep = DeepBranch(deep, Pool(width), ClassifierHead(width, NUM_CLASSES, config.dropout))
        _init_weights(self)

    def forward(self, input_ids_BL: Tensor, char_ids_BLC: Tensor, attention_mask_BL: Tensor) -> DualOutput:
        """Run both branches on every text, as training and analysis need."""
        front = self.front(input_ids_BL, char_ids_BLC, attention_mask_BL)
        deep = self.deep(front.hidden, attention_mask_BL)
        deep_logits = deep.logits + front.ngram_logits
        routed = front.router_logit, deep.balance_loss, deep.load
        return DualOutput(front.fast_logits, deep_logits, *routed, front.focus, deep.focus)

    def info(self) -> dict[str, int]:
        """Parameters per part, and active per token on each route (looking up a row of a table counts as none).

        The table of ``characters`` is one of the ``embedding_tables``, too, and so are the ``ngrams``.
        """
        count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
        tables = sum(module.weight.numel() for module in self.modules() if isinstance(module, nn.Embedding))
        experts = sum(count(layer.experts.experts) for layer in self.deep.layers)
        idle = experts * (self.config.num_experts - 1) // self.config.num_experts
        ngrams = sum(values.numel() for values in self.front.ngrams.buffers())
        tables += ngrams
        front, deep = count(self.front) + ngrams, count(self.deep)
        return {
            "total": front + deep,
            "front": front,
            "deep": deep,
            "embedding_tables": tables,
            "characters": count(self.front.embeddings.characters),
            "stem": count(self.front.stem),
            "ngrams": ngrams,
            "router": count(self.front.router),
            "heads": sum(map(count, (self.front.pool, self.front.head, self.deep.pool, self.deep.head))),
            "experts": experts,
            "active_fast": front - tables,
            "active_deep": front - tables + deep - idle,
        }


def check_model_config(config: ModelConfig) -> None:
    """Raise ConfigError for a shape that cannot be built."""
    sizes = ("d_model", "num_heads", "ffn_dim", "stem_layers", "deep_layers", "num_experts", "char_dim", "char_filters")
    for name in (*sizes, "router_hidden"):
        if getattr(config, name) < 1:
            raise ConfigError(f"model.{name} is {getattr(config, name)}; expected at least 1")
    if config.d_model % config.num_heads:
        raise ConfigError(
            f"model.d_model is {config.d_model}; expected a multiple of model.num_heads ({config.num_heads})"
        )
    if not 1 <= config.chars_per_token <= MAX_CHARS:
        raise ConfigError(f"model.chars_per_token is {config.chars_per_token}; expected 1 to {MAX_CHARS}")
    if config.char_buckets <= ASCII:
        raise ConfigError(
            f"model.char_buckets is {config.char_buckets}; expected more than {ASCII} (ASCII has its own)"
        )
    if not config.char_widths or min(config.char_widths) < 1:
        raise ConfigError(f"model.char_widths is {config.char_widths}; expected one or more widths of at least 1")
    pieces = config.vocab_size + config.learnt_pieces
    if config.ngram_rows < 2 * pieces:
        raise ConfigError(
            f"model.ngram_rows is {config.ngram_rows}; expected at least {2 * pieces}: a row for each of "
            f"model.vocab_size + model.learnt_pieces ({pieces}) pieces and as many for pairs"
        )
    if not 0 <= config.ngram_weight < float("inf"):
        raise ConfigError(f"model.ngram_weight is {config.ngram_weight}; expected 0 (no n-grams) or more")
    for name in ("dropout", "layer_dropout"):
        if not 0 <= getattr(config, name) < 1:
            raise ConfigError(f"model.{name} is {getattr(config, name)}; expected 0 to below 1")
    if not 8 <= config.max_length <= 512:
        raise ConfigError(f"model.max_length is {config.max_length}; expected 8 to 512 (the backbone's positions)")
    if not 0.02 <= config.deep_budget <= 0.98:  # beyond, a router that works looks like one that collapsed
        raise ConfigError(f"model.deep_budget is {config.deep_budget}; expected a share from 0.02 to 0.98")
    if config.router_threshold is not None and not 0 < config.router_threshold < 1:
        raise ConfigError(
            f"model.router_threshold is {config.router_threshold}; expected a probability between 0 and 1"
        )


def _init_weights(model: nn.Module) -> None:
    """Weights that no backbone provides: normal(0, 0.02), zero biases, unit norms; padding rows zero.

    The character projection stays at zero (see embeddings).
    """
    for module in model.modules():
        if isinstance(module, nn.Linear) and not _is_zero(module):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
            if module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx])


def _is_zero(module: nn.Linear) -> bool:
    return not module.weight.any()


class ModelFileError(RuntimeError):
    """A model folder that is missing, damaged or of another shape."""


def save_model(model: DualBranchModel, folder: Path, extra: dict) -> None:
    """Write ``model.safetensors`` and ``model.json`` (shape plus ``extra``), each complete or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    temporary = folder / ".model.safetensors.part"
    save_file(state, temporary)
    os.replace(temporary, folder / "model.safetensors")
    values = {"vocab": model.front.embeddings.word.num_embeddings, **extra}
    temporary = folder / ".model.json.part"
    temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, folder / "model.json")


def load_model(folder: Path, config: ModelConfig) -> tuple[DualBranchModel, dict]:
    """The model in eval mode and its ``model.json``.

    Raises:
        ModelFileError: a file is missing or truncated, or was trained with another ``config`` (the setting is named, or
            the tensor where the file does not say with which).
    """
    again = run_again(folder, "03")
    try:
        extra = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        state = load_file(folder / "model.safetensors")
        vocab = int(extra["vocab"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelFileError(f"model folder {folder} cannot be read ({error}); {again}") from error
    trained = extra.get("model", {})
    for name, value in dataclasses.asdict(config).items() if trained else ():
        if trained.get(name) != (list(value) if isinstance(value, tuple) else value):
            raise ModelFileError(
                f"{folder}/model.json was trained with model.{name} = {trained.get(name)}, this run has {value}; "
                f"{again}"
            )
    model = DualBranchModel(config, vocab)
    load_weights(model, state, f"{folder}/model.safetensors")
    return model.eval(), extra


def load_weights(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Load ``state`` strictly; raises ModelFileError that names the first tensor that differs."""
    expected = model.state_dict()
    for name in sorted(expected.keys() | state.keys()):
        wanted = tuple(expected[name].shape) if name in expected else None
        found = tuple(state[name].shape) if name in state else None
        if wanted != found:
            raise ModelFileError(
                f"{where} holds {name} of shape {found}, expected {wanted}: of another model; remove it and run again"
            )
    model.load_state_dict(state)
