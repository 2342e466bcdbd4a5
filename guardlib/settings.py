"""Settings as a person gives them: by name, checked before anything runs.

The settings themselves are in :mod:`guardlib.config`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing

from guardlib.config import PROFILES, ConfigError, Profile


def get_profile(name: str, settings: dict | None = None) -> Profile:
    """The named profile with ``settings`` applied; keys are dotted, e.g. ``{"training.epochs": 3, "seed": 1}``.

    Raises:
        ConfigError: unknown profile or key, or a value of the wrong type or out of range.
    """
    if name not in PROFILES:
        raise ConfigError(f"profile {name!r} does not exist; expected one of {', '.join(PROFILES)}")
    profile = PROFILES[name]
    for key, value in (settings or {}).items():
        profile = _replace(profile, key.split("."), value, key)
    check_ranges(profile)
    return profile


#: Settings that count something, of which there must be one at least (None, where a setting may be, is no limit).
COUNTS = (
    *("data.max_rows_per_source", "data.generated_per_attack", "data.hard_negatives", "data.benchmark_rows"),
    *("model.num_experts", "model.stem_layers", "model.deep_layers", "model.d_model", "model.num_heads"),
    *("model.vocab_size", "model.max_length"),
    *("training.epochs", "training.tokens_per_batch", "training.accumulate", "training.max_train_tokens"),
    *("training.validations", "training.validation_rows", "training.checkpoint_every"),
    "training.seeds",
    *("evaluation.tokens_per_batch", "evaluation.bootstrap_samples", "evaluation.backbone_windows"),
    *("evaluation.latency_texts", "evaluation.latency_repeats", "export.calibration_texts", "export.parity_texts"),
    *("distillation.seeds", "distillation.batch_size", "distillation.accumulate", "distillation.epochs"),
    *("distillation.evaluate_every", "distillation.checkpoint_every", "distillation.top_k", "distillation.max_steps"),
    *("distillation.teacher_vocab", "distillation.teacher_width", "distillation.teacher_layers"),
    *("distillation.teacher_ffn", "distillation.num_experts", "distillation.teacher_steps"),
    *("distillation.student_vocab", "distillation.student_width", "distillation.student_layers"),
    *("distillation.student_ffn", "distillation.max_length", "distillation.evaluation_sequences"),
    *("distillation.guard_tokens", "distillation.guard_rows"),
)
LEAST_SIMILARITY = 0.5  # of near duplicates

#: Settings that are a share, from 0 to 1.
SHARES = (
    *("data.validation_share", "data.test_share", "model.dropout", "model.layer_dropout", "training.warmup_share"),
    *("training.patience_warmup", "training.attack_share", "training.attack_share_abroad", "training.written_weight"),
    *("training.raw_share", "training.piece_share", "training.quantization_aware_share", "training.adversarial_start"),
    *("training.router_warmup_share", "distillation.alpha"),
)
#: Settings that are a rate or a weight that nothing works without.
POSITIVE = (
    *("training.learning_rate", "training.backbone_learning_rate", "training.clip_norm", "training.bfloat16_factor"),
    *("evaluation.finetune_rate", "distillation.learning_rate", "distillation.temperature"),
    *("distillation.clip_norm",),
)
#: Settings that are a weight, or a number of times, which may be none.
NOT_NEGATIVE = (
    *("distillation.feature_weight", "distillation.attention_weight", "distillation.layerwise_weight"),
    *("distillation.contrastive_weight", "distillation.guard_weight", "distillation.weight_decay"),
    *("training.weight_decay", "training.source_temperature", "training.document_weight"),
    *("training.planted_loss_weight", "model.learnt_pieces"),
    *("distillation.min_delta", "distillation.patience", "distillation.patience_warmup", "distillation.start_steps"),
)
#: Shares that are of no use at their ends.
INNER_SHARES = ("model.deep_budget", "model.router_threshold", "evaluation.target_fpr")

#: Settings that are one of a few names.
CHOICES = {
    "data.licences": ("all", "permissive"),
    "data.harmful_request_policy": ("exclude", "benign", "jailbreak"),
    "training.adversarial": ("none", "fgsm", "pgd"),
    "training.precision": ("auto", "float32", "bfloat16", "float16"),
    "distillation.precision": ("auto", "float32", "bfloat16"),
    "export.precision": ("float32", "float16", "int8_blocks", "int8_mixed", "int8", "int8_static", "int4"),
}

#: Settings that are a list of names of a registry (a test compares them: the registries import what a run needs).
NAMES = {
    "evaluation.baselines": ("rules", "tfidf", "frozen_backbone", "finetuned_backbone"),
    "evaluation.hub_guards": (
        "protectai_v2",
        "piguard",
        "prompt_guard_2_22m",
        "prompt_guard_2_86m",
        "deepset",
        "fmops",
    ),
    "evaluation.leave_out_systems": ("guard", "rules", "tfidf", "frozen_backbone", "finetuned_backbone"),
    "evaluation.latency_references": ("BERT-6", "DeBERTa-xsmall", "DeBERTa-base"),
    "distillation.recipes": ("alone", "plain_kd", "unrouted", "routed"),
}


def check_ranges(profile: Profile) -> None:
    """Raise ConfigError for a value that a run could do nothing with, before it has trained for an hour."""
    values = profile.to_dict()
    for name, choices in CHOICES.items():
        section, _, key = name.partition(".")
        if values[section][key] not in choices:
            raise ConfigError(f"setting {name!r} is {values[section][key]!r}; expected one of {', '.join(choices)}")
    for name, choices in NAMES.items():
        section, _, key = name.partition(".")
        if unknown := [item for item in values[section][key] if item not in choices]:
            raise ConfigError(f"setting {name!r} holds {unknown[0]!r}; expected some of {', '.join(choices)}")
    for names, right, expected in (
        (COUNTS, lambda value: value >= 1, "at least 1"),
        (SHARES, lambda value: 0 <= value <= 1, "a share from 0 to 1"),
        (INNER_SHARES, lambda value: 0 < value < 1, "a share above 0 and below 1"),
        (POSITIVE, lambda value: 0 < value < math.inf, "a number above 0"),
        (NOT_NEGATIVE, lambda value: 0 <= value < math.inf, "0 or more"),
    ):
        for name in names:
            section, _, key = name.partition(".")
            value = values[section][key]
            if value is not None and not right(value):
                raise ConfigError(f"setting {name!r} is {value!r}; expected {expected}")
    if not LEAST_SIMILARITY <= profile.data.near_duplicate_threshold <= 1:
        raise ConfigError(
            f"data.near_duplicate_threshold is {profile.data.near_duplicate_threshold!r}; expected {LEAST_SIMILARITY} "
            "to 1: of pairs that are less alike the search finds few"
        )
    if profile.seed < 0:
        raise ConfigError(f"seed is {profile.seed}; expected 0 or more")
    apart = profile.data.validation_share + profile.data.test_share
    if apart >= 1:
        raise ConfigError(f"data.validation_share and data.test_share add up to {apart:g}; expected less than 1")


def parse_setting(text: str) -> tuple[str, object]:
    """``"training.epochs=3"`` → ``("training.epochs", 3)``; a value that is no JSON is taken as text.

    Raises:
        ConfigError: no name or no "=".
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"-p {text!r} is no setting; expected NAME=VALUE, e.g. -p training.epochs=3")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value


def _replace(owner, parts: list[str], value, full_key: str):
    """A copy of the dataclass ``owner`` with the setting at ``parts`` replaced."""
    names = [f.name for f in dataclasses.fields(owner) if f.name != "name"]
    if parts[0] not in names:
        raise ConfigError(f"setting {full_key!r} does not exist; {type(owner).__name__} has {', '.join(names)}")
    current = getattr(owner, parts[0])
    if dataclasses.is_dataclass(current):
        if len(parts) == 1:
            inner = ", ".join(f"{full_key}.{f.name}" for f in dataclasses.fields(current))
            raise ConfigError(f"{full_key!r} is a group of settings; expected one of {inner}")
        return dataclasses.replace(owner, **{parts[0]: _replace(current, parts[1:], value, full_key)})
    if len(parts) > 1:
        raise ConfigError(f"setting {full_key!r} does not exist; {parts[0]!r} has no settings of its own")
    expected = typing.get_type_hints(type(owner))[parts[0]]
    return dataclasses.replace(owner, **{parts[0]: _coerce(value, expected, full_key)})


def _coerce(value, expected, key: str):
    """``value`` as ``expected`` where nothing is lost by it (int → float, list → tuple); ConfigError otherwise."""
    options = typing.get_args(expected) if isinstance(expected, types.UnionType) else (expected,)
    for option in options:
        if option is type(None) and value is None:
            return None
        if option is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if typing.get_origin(option) is tuple and isinstance(value, list | tuple):
            (kind, *_) = typing.get_args(option)
            return tuple(_coerce(item, kind, key) for item in value)
        if isinstance(option, type) and isinstance(value, option) and (option is bool or not isinstance(value, bool)):
            return value
    if typing.get_origin(expected) is tuple:
        wanted = f"""a list as JSON, e.g. -p '{key}=["…"]'"""
    else:
        wanted = getattr(expected, "__name__", None) or str(expected)
    raise ConfigError(f"setting {key!r} is {value!r} ({type(value).__name__}); expected {wanted}")
