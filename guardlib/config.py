"""Every setting of a run, as frozen dataclasses. One :class:`Profile` is one value of all of them.

``smoke`` is for tests, ``laptop`` is the default (a real result on two CPU cores), ``release`` is nearly the same,
longer and on permissively licensed data alone (the guard inside the package), ``paper`` is everything.
The code is the same for all; only these numbers differ. The resolved profile is saved with every artifact.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path


class ConfigError(ValueError):
    """A setting that does not exist or has a value of the wrong type or range."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """What goes into training and how it is split."""

    licences: str = "all"  # all | permissive: for a model that is to be released, permissively licensed sets only
    files: tuple[str, ...] = ()  # a user's own CSV, JSON, JSONL, YAML or parquet files to train on
    file_columns: tuple[str, ...] = ("text", "label")  # what they call these two
    leave_out: tuple[str, ...] = ()  # sources that nothing is trained, validated or made from, nor their near copies
    max_rows_per_source: int = 2500  # a cap, so that one large set does not become the language of the model
    generated_per_attack: int = 300  # rows per attack generator; as many benign rows under the same transform
    hard_negatives: int = 2500  # benign sentences built around attackers' words
    validation_share: float = 0.05
    test_share: float = 0.05
    near_duplicate_threshold: float = 0.8  # Jaccard similarity of character 5-gram shingles
    harmful_request_policy: str = "exclude"  # exclude | benign | jailbreak
    benchmark_rows: int | None = None  # at most this many rows per benchmark and label; None: all


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Shape of the dual-branch model. Letters: B batch, L tokens, C characters, D width, E experts, V vocabulary."""

    backbone: str = "minilm"  # "minilm", a folder that holds it, or "none" to train from scratch
    d_model: int = 384
    num_heads: int = 12
    ffn_dim: int = 1536
    vocab_size: int = 13_500  # of 30,522; more make shorter texts, and cost the guard 1.2 kB each (three spellings)
    learnt_pieces: int = 2_500  # most pieces beside those, learnt from training texts in other languages
    max_length: int = 128  # tokens per window, training and inference alike
    stem_layers: int = 3
    deep_layers: int = 2
    num_experts: int = 4
    chars_per_token: int = 12
    char_buckets: int = 1024
    char_dim: int = 32
    char_widths: tuple[int, ...] = (2, 3, 4)
    char_filters: int = 64  # per width
    router_hidden: int = 64
    use_entropy: bool = True  # the router also sees the fast head's entropy and margin
    router_threshold: float | None = None  # a probability; None: set on validation so that deep_budget is met
    deep_budget: float = 0.30
    dropout: float = 0.1  # in the heads
    layer_dropout: float = 0.0  # in the layers; of use only where texts are seen several times
    ngram_rows: int = 131_072  # of the n-gram head's table: one for each piece, the rest shared by pairs
    ngram_weight: float = 0.75  # of n-gram logits (the transformer's is 1), chosen on held-out sources; 0: none
    use_characters: bool = True  # add what the characters of a piece say to its embedding
    use_views: bool = True  # unfold what a text hides before it is read


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """Optimisation."""

    epochs: int = 2
    tokens_per_batch: int = 2048
    accumulate: int = 1
    learning_rate: float = 1.5e-3  # new parts: characters, heads, router, gates
    backbone_learning_rate: float = 1e-4  # pretrained parts; higher: unseen sources suffer
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    clip_norm: float = 1.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    router_loss_weight: float = 0.5
    router_warmup_share: float = 0.0  # the first part of training, over which the router's loss rises to its weight
    balance_loss_weight: float = 0.01
    planted_loss_weight: float = 0.3  # of showing the model which words of a document were planted in it
    adversarial: str = (
        "none"  # none | fgsm | pgd: read each batch a second time, with embeddings moved against the model
    )
    adversarial_start: float = 0.0  # share of training before it begins
    adversarial_epsilon: float = 1.0  # how far: L2 norm per text
    adversarial_steps: int = 3  # of pgd
    adversarial_weight: float = 0.5  # of that second loss
    quantization_aware_share: float = 0.0  # the last part of training that rounds activations as INT8 will
    precision: str = "auto"  # auto | float32 | bfloat16 | float16; auto: bfloat16 where the hardware multiplies it
    seeds: int = 1  # trainings, from `seed` on; the first is the run's model, the others tell what is luck
    max_train_tokens: int | None = None  # stop after this many tokens; None: all epochs in full
    bfloat16_factor: float = 2.5  # times max_train_tokens in bfloat16, for which hardware is newer and faster
    source_temperature: float = 0.4  # share of a source in an epoch ~ rows^this; 1: as the data is
    document_weight: float = 2.0  # of generated documents, with an instruction in them or without; other rows count 1
    written_weight: float = 1.0  # of English attacks written or put together here; those of a real set count 1
    attack_share: float | None = 0.33  # of the English rows of an epoch; None: as sources and temperature make it
    attack_share_abroad: float = 0.28  # of rows in other languages, where the other is set
    raw_share: float = 0.1  # of texts that unfold, this share is read as it stands, so that characters are learnt too
    piece_share: float = 0.5  # of benign texts and jailbreaks, this share is read as a piece of at most 96 tokens
    validations: int = 5  # evenly over the run
    validation_rows: int | None = 400  # rows read at each of them; calibration reads all
    patience: int = 4  # validations without improvement before stopping; 0: never
    patience_warmup: float = 0.3  # of training, in which no validation counts against it
    checkpoint_every: int = 300  # optimizer steps
    resume: bool = True  # go on from checkpoints/last.safetensors where there is one
    wandb: str = ""  # project of Weights & Biases to log to, beside CSV and TensorBoard (pip install wandb)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """Scoring and statistics."""

    tokens_per_batch: int = 512  # what a CPU keeps in its cache; a GPU wants more
    bootstrap_samples: int = 1000
    target_fpr: float = 0.01  # operating point fixed on validation
    baselines: tuple[str, ...] = ("rules", "tfidf", "frozen_backbone", "finetuned_backbone")
    backbone_windows: int | None = 1  # windows of a text that plain backbones read; None: all
    frozen_rows: int | None = 3000  # training rows of the frozen backbone's logistic regression; None: all
    finetune_tokens: int | None = 100_000  # of the plain fine-tuned backbone; None: as many as the guard may read
    finetune_rate: float = 2.5e-4  # its learning rate: higher than the guard's, for it reads fewer tokens
    hub_guards: tuple[str, ...] = ()  # guards of others to download and run; their published figures are shown anyway
    leave_out_systems: tuple[str, ...] = ()  # systems that are fitted once more without each source in turn
    latency_texts: int = 300
    latency_repeats: int = 3
    latency_references: tuple[str, ...] = ("BERT-6", "DeBERTa-xsmall", "DeBERTa-base")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """ONNX and quantization."""

    opset: int = 23  # the first with attention as one operator
    precision: str = "int8"  # to release; what passes instead where it loses too much: export.gate
    most_lost_points: float = 0.3  # of any headline metric, in percentage points
    calibration_texts: int = 512  # validation texts that settle ranges of activations and what rounding moves
    compared_rows: int = 20  # per benchmark and label, for the precisions that are not released
    parity_texts: int = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationConfig:
    """A large language model taught into a small one, and guards into a guard (notebook 09, guardlib.distillation)."""

    # the pair that notebook 09 trains itself
    teacher_vocab: int = 4096
    teacher_width: int = 192
    teacher_layers: int = 4
    teacher_ffn: int = 512  # of each expert
    num_experts: int = 8
    teacher_steps: int = 900
    student_vocab: int = 2048
    student_width: int = 192
    student_layers: int = 3
    student_ffn: int = 1024
    # what is learnt from the teacher
    recipes: tuple[str, ...] = ("alone", "plain_kd", "unrouted", "routed")  # see objective.RECIPES
    alpha: float = 0.5  # weight of KD; 1 − alpha is that of the text itself
    temperature: float = 4.0
    top_k: int = 256
    feature_weight: float = 0.5
    attention_weight: float = 0.5
    layerwise_weight: float = 0.25
    contrastive_weight: float = 0.05
    balance: bool = False  # scale the parts to the size of KD by moving averages of their magnitudes
    layer_map: str = "uniform"  # uniform | last | first | the teacher's layers, e.g. "1,3,5,7"
    # training
    seeds: int = 3
    max_length: int = 96  # tokens of a sequence
    batch_size: int = 16  # sequences
    accumulate: int = 1
    epochs: int = 1
    start_steps: int = 75  # optimizer steps alone, from random weights, that the recipes of a seed share
    max_steps: int | None = 150  # optimizer steps after them; None: all epochs in full
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_share: float = 0.05
    clip_norm: float = 1.0
    precision: str = "auto"  # auto | float32 | bfloat16
    evaluate_every: int = 50  # optimizer steps
    evaluation_sequences: int = 256  # of validation text
    patience: int = 20  # evaluations without improvement before stopping; 0: never
    min_delta: float = 0.001  # of the loss, that counts as an improvement
    patience_warmup: int = 1000  # optimizer steps before patience counts
    checkpoint_every: int = 500  # optimizer steps; every evaluation writes one, too
    resume: bool = True  # take up what a stage cut short left: its checkpoints, and the rows of its finished runs
    # guards
    guard_teacher: str = ""  # a sequence classifier by Hub id or folder; empty: an ensemble of three, trained for it
    guard_benign: str = ""  # what it calls its benign class, where that is not plain from its names
    guard_tokens: int = 80_000  # training tokens of each guard; of a teacher, twice as many
    guard_rows: int = 4000  # of the training split
    guard_weight: float = 0.2  # of the teacher's part, beside the guard's own losses


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """One value of every setting; what a run was asked to do."""

    name: str
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)

    def to_dict(self) -> dict:
        """Plain JSON types, nested by section."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


#: Settings of a section that say how a run is taken up again or watched, not what comes out of it.
RESUMING = ("resume", "checkpoint_every", "wandb")

PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        name="smoke",
        data=DataConfig(max_rows_per_source=60, generated_per_attack=8, hard_negatives=60, benchmark_rows=12),
        model=ModelConfig(
            vocab_size=3000,
            learnt_pieces=200,
            ngram_rows=16_384,
            stem_layers=1,
            deep_layers=1,
            num_experts=2,
            max_length=64,
        ),
        training=TrainingConfig(
            epochs=1,
            tokens_per_batch=1024,
            max_train_tokens=24_000,
            backbone_learning_rate=2.5e-4,  # so few steps want long ones
            validations=3,
            validation_rows=100,
            checkpoint_every=20,
        ),
        evaluation=EvaluationConfig(
            bootstrap_samples=200,
            frozen_rows=120,
            finetune_tokens=3000,
            latency_texts=24,
            latency_repeats=1,
            latency_references=("BERT-6",),
        ),
        export=ExportConfig(parity_texts=32, calibration_texts=16, compared_rows=2),
        distillation=DistillationConfig(
            teacher_vocab=1024,
            teacher_width=96,
            teacher_layers=3,
            teacher_ffn=128,
            teacher_steps=60,
            student_vocab=768,
            student_width=64,
            student_layers=2,
            student_ffn=384,
            seeds=2,
            max_length=48,
            batch_size=8,
            start_steps=10,
            max_steps=40,
            evaluate_every=20,
            evaluation_sequences=32,
            guard_tokens=4_000,
            guard_rows=600,
        ),
    ),
    "laptop": Profile(
        name="laptop",
        training=TrainingConfig(epochs=3, max_train_tokens=2_000_000),
    ),
    "release": Profile(
        name="release",
        data=DataConfig(licences="permissive"),
        model=ModelConfig(layer_dropout=0.1),  # each text is seen several times
        # Small sources are learnt long before the many written rows are: those are read more often than in short runs.
        training=TrainingConfig(epochs=7, max_train_tokens=14_500_000, bfloat16_factor=1.0, source_temperature=0.5),
        # `laptop` compares more systems; the card has the guard's own figures.
        evaluation=EvaluationConfig(baselines=("rules", "tfidf")),
        export=ExportConfig(parity_texts=2000),
    ),
    "paper": Profile(
        name="paper",
        data=DataConfig(max_rows_per_source=20_000, generated_per_attack=800, hard_negatives=30_000),
        model=ModelConfig(deep_layers=3, max_length=256, layer_dropout=0.1),
        training=TrainingConfig(epochs=5, tokens_per_batch=8192, seeds=3),
        evaluation=EvaluationConfig(
            tokens_per_batch=8192,
            backbone_windows=None,
            frozen_rows=None,
            finetune_tokens=None,
            finetune_rate=1e-4,
            hub_guards=("protectai_v2", "piguard", "prompt_guard_2_22m", "prompt_guard_2_86m", "deepset", "fmops"),
            leave_out_systems=("tfidf", "frozen_backbone"),
        ),
        export=ExportConfig(parity_texts=2000),
        distillation=DistillationConfig(
            teacher_steps=10_000,
            start_steps=1000,
            max_steps=4000,
            epochs=20,
            evaluate_every=200,
            guard_tokens=2_000_000,
            guard_rows=50_000,
        ),
    ),
}
