"""The guard's backbone without the guard: frozen under a logistic regression, and fine-tuned as a plain classifier.

Both read the same training rows in the backbone's own full vocabulary. A text longer than the window is cut into
chunks that do not overlap; the worst chunk decides (PINT's protocol). ``evaluation.backbone_windows`` bounds how many
are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import BertConfig, BertModel

from guardlib.config import Profile
from guardlib.evaluation.baselines import (
    Given,
    Predict,
    all_classes,
    baseline,
    tuned_logistic_regression,
    worst_piece,
)
from guardlib.labels import NUM_CLASSES
from guardlib.model.backbone import Backbone, BackboneError, find_backbone
from guardlib.model.inference import pick_device
from guardlib.text.reading import batches_by_length
from guardlib.text.tokenizer import sanitize
from guardlib.training.trainer import pick_precision, schedule

_CLS, _SEP = 101, 102  # of BERT's vocabulary
_HEAD_RATE = 1e-3  # learning rate of the new layer
_POOL = 64  # batches whose rows are sorted by length together: little padding, yet random batches


@dataclass(frozen=True, slots=True)
class Chunks:
    """Token ids of each chunk with [CLS] and [SEP], and the text each belongs to [P]; a text has at least one chunk."""

    ids: list[list[int]]
    owners: np.ndarray


class PlainBackbone(nn.Module):
    """MiniLM as published → mean of its token states [B, D], and a linear layer to the classes [B, K]."""

    def __init__(self, backbone: Backbone, max_length: int) -> None:
        super().__init__()
        weights = load_file(backbone.weights)
        layers = len({name.split(".")[2] for name in weights if name.startswith("encoder.layer.")})
        vocabulary, width = weights["embeddings.word_embeddings.weight"].shape
        config = BertConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=12,
            intermediate_size=weights["encoder.layer.0.intermediate.dense.weight"].shape[0],
            max_position_embeddings=weights["embeddings.position_embeddings.weight"].shape[0],
            attention_probs_dropout_prob=0.0,
            # The fused kernel's gradient is slow in bfloat16 on a CPU.
            attn_implementation="sdpa" if torch.cuda.is_available() else "eager",
        )
        self.bert = BertModel(config, add_pooling_layer=False)
        missing, _ = self.bert.load_state_dict(weights, strict=False)
        if missing := [name for name in missing if not name.endswith("position_ids")]:
            raise BackboneError(f"backbone file {backbone.weights} lacks {missing[0]}; install it again")
        self.out = nn.Linear(width, NUM_CLASSES)
        self.max_length = max_length
        self._tokenizer = Tokenizer.from_file(str(backbone.tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def chunks(self, texts: Sequence[str], most: int | None = None) -> Chunks:
        """The texts in chunks of the window; at most the first ``most`` chunks of each (None: all)."""
        room = self.max_length - 2
        reach = None if most is None else most * room
        ids, owners = [], []
        encodings = self._tokenizer.encode_batch([sanitize(text) for text in texts], add_special_tokens=False)
        for owner, encoding in enumerate(encodings):
            read = encoding.ids[:reach]
            starts = range(0, max(len(read), 1), room)
            ids += [[_CLS, *read[start : start + room], _SEP] for start in starts]
            owners += [owner] * len(starts)
        return Chunks(ids, np.array(owners, dtype=np.int64))

    def beginnings(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of the first chunk of each text."""
        return self.chunks(texts, 1).ids

    def pooled(self, ids: list[list[int]]) -> Tensor:
        """Mean state over the tokens of each chunk [B, D], float32."""
        device = self.out.weight.device
        length = max(map(len, ids))
        ids_BL = torch.tensor([row + [0] * (length - len(row)) for row in ids], device=device)
        mask_BL = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids], device=device)
        states_BLD = self.bert(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state.float()
        return (states_BLD * mask_BL[..., None]).sum(1) / mask_BL.sum(1, keepdim=True)

    def forward(self, ids: list[list[int]]) -> Tensor:
        """Logits [B, K]."""
        return self.out(self.pooled(ids))


def _make(profile: Profile) -> tuple[PlainBackbone, torch.dtype]:
    choice = profile.model.backbone
    with torch.random.fork_rng():
        torch.manual_seed(profile.seed)
        model = PlainBackbone(find_backbone("minilm" if choice == "none" else choice), profile.model.max_length)
    device, precision = pick_device(), profile.training.precision
    if precision == "float16":  # this loss is not scaled
        precision = "auto"
    return model.to(device).eval(), pick_precision(precision, device)


def _run(model: PlainBackbone, ids: list[list[int]], function, dtype: torch.dtype, tokens: int, label: str):
    """``function`` of every chunk, in the chunks' order [P, ...], in batches of at most ``tokens`` padded tokens."""
    results = None
    bar = tqdm(total=len(ids), desc=label, unit="chunk", leave=False)
    with torch.inference_mode(), _autocast(model, dtype), bar:
        for rows in batches_by_length([len(row) for row in ids], tokens):
            values = function([ids[row] for row in rows]).float().cpu().numpy()
            if results is None:
                results = np.zeros((len(ids), values.shape[1]), np.float32)
            results[rows] = values
            bar.update(len(rows))
    return results


def _autocast(model: PlainBackbone, dtype: torch.dtype):
    return torch.autocast(model.out.weight.device.type, dtype, enabled=dtype != torch.float32)


def describe_frozen(profile: Profile) -> str:
    rows = profile.evaluation.frozen_rows
    some = "all training rows" if rows is None else f"{rows:,} training rows"
    return f"the backbone as published, mean-pooled; logistic regression on {some}; {_reading(profile)}"


def _reading(profile: Profile) -> str:
    windows, room = profile.evaluation.backbone_windows, profile.model.max_length - 2
    return "reads texts to the end" if windows is None else f"reads the first {windows * room:,} tokens of a text"


@baseline("frozen_backbone", describe_frozen)
def fit_frozen(given: Given) -> Predict:
    """Rows of the sample are drawn evenly from the shuffled training split."""
    model, dtype = _make(given.profile)
    tokens, wanted = given.profile.evaluation.tokens_per_batch, given.profile.evaluation.frozen_rows
    train = given.train
    if wanted is not None and wanted < len(train):
        train = train.iloc[np.sort(given.rng.choice(len(train), wanted, replace=False))]

    def features(ids: list[list[int]], label: str = "") -> np.ndarray:
        states = _run(model, ids, model.pooled, dtype, tokens, f"frozen backbone{label}")
        return states / np.linalg.norm(states, axis=1, keepdims=True)

    train_x = features(model.beginnings(train["text"].tolist()), ", train")
    validation_x = features(model.beginnings(given.validation["text"].tolist()), ", validation")
    labels = given.validation["label"].to_numpy()
    strengths = (3.0, 30.0, 300.0)  # of features of length 1
    classifier = tuned_logistic_regression(train_x, train["label"].to_numpy(), validation_x, labels, strengths)

    def predict(texts: Sequence[str]) -> np.ndarray:
        if not len(texts):
            return np.zeros((0, NUM_CLASSES))
        chunks = model.chunks(texts, given.profile.evaluation.backbone_windows)
        return worst_piece(all_classes(classifier, features(chunks.ids)), chunks.owners, len(texts))

    return predict


def finetune_budget(profile: Profile) -> int | None:
    """Tokens that fine-tuning reads, at most; None: all epochs in full."""
    own, training = profile.evaluation.finetune_tokens, profile.training
    if own is not None or training.max_train_tokens is None:
        return own
    more = pick_precision(training.precision, pick_device()) == torch.bfloat16  # then the guard reads more, too
    return round(training.max_train_tokens * (training.bfloat16_factor if more else 1))


def describe_finetuned(profile: Profile) -> str:
    budget = finetune_budget(profile)
    some = f"{profile.training.epochs} epochs" if budget is None else f"{budget:,} tokens"
    return (
        f"the backbone as published with one linear layer, fine-tuned on {some} of the same rows; {_reading(profile)}"
    )


@baseline("finetuned_backbone", describe_finetuned)
def fit_finetuned(given: Given) -> Predict:
    """Cross-entropy, AdamW, linear warm-up and decay; the first window of each row is learnt."""
    model, dtype = _make(given.profile)
    with torch.random.fork_rng():  # dropout
        torch.manual_seed(given.profile.seed)
        _finetune(model, given, dtype)

    def predict(texts: Sequence[str]) -> np.ndarray:
        if not len(texts):
            return np.zeros((0, NUM_CLASSES))
        chunks = model.chunks(texts, given.profile.evaluation.backbone_windows)
        tokens = given.profile.evaluation.tokens_per_batch
        logits = _run(model, chunks.ids, model, dtype, tokens, "fine-tuned backbone").astype(np.float64)
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return worst_piece(exponents / exponents.sum(axis=1, keepdims=True), chunks.owners, len(texts))

    return predict


def _finetune(model: PlainBackbone, given: Given, dtype: torch.dtype) -> None:
    """Train in place, leave in eval mode. RuntimeError where the loss is not finite."""
    config, device = given.profile.training, model.out.weight.device
    ids = model.beginnings(given.train["text"].tolist())
    labels = torch.from_numpy(given.train["label"].to_numpy().astype(np.int64)).to(device)
    whole = sum(map(len, ids)) * config.epochs
    budget = min(whole, finetune_budget(given.profile) or whole)
    criterion = nn.CrossEntropyLoss()
    groups = [
        {"params": list(model.bert.parameters()), "rate": given.profile.evaluation.finetune_rate},
        {"params": list(model.out.parameters()), "rate": _HEAD_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
    model.train()
    read = 0
    batches = _batches(ids, config.tokens_per_batch, given.rng)
    with tqdm(total=budget, desc="fine-tuned backbone, train", unit="token", leave=False) as bar:
        while read < budget:
            rows = next(batches)
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * schedule(max(read / budget, 1e-3), config.warmup_share)
            with _autocast(model, dtype):
                loss = criterion(model([ids[row] for row in rows]).float(), labels[rows])
            if not torch.isfinite(loss):
                raise RuntimeError(f"loss {float(loss)} after {read:,} tokens; lower evaluation.finetune_rate")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            tokens = sum(len(ids[row]) for row in rows)
            read += tokens
            bar.update(min(tokens, budget - bar.n))
    model.eval()


def _batches(ids: list[list[int]], tokens: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Rows of batches of about ``tokens`` tokens, epoch after epoch without end, in random order, alike in length."""
    lengths = np.array([len(row) for row in ids])
    pool = max(int(_POOL * tokens / max(lengths.mean(), 1)), 1)
    while True:
        order = rng.permutation(len(ids))
        for start in range(0, len(order), pool):
            part = order[start : start + pool]
            batches = [part[rows] for rows in batches_by_length(lengths[part], tokens)]
            yield from (batches[number] for number in rng.permutation(len(batches)))
