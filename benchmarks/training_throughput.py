"""Training speed of the dual-branch model beside a plain Hugging Face BERT with the same number of layers, in one run.

    python benchmarks/training_throughput.py

Both train on the same random batches, with the same optimizer and precision; rounds alternate, so that a noisy machine
slows both. Prints tokens per second and their ratio.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
import torch
from record import keep
from transformers import BertConfig, BertForSequenceClassification

from guardlib.config import TrainingConfig
from guardlib.labels import NUM_CLASSES
from guardlib.model.dual_branch import DualBranchModel
from guardlib.model.inference import pick_device
from guardlib.settings import get_profile
from guardlib.training.losses import total_loss
from guardlib.training.trainer import make_optimizer, pick_precision


def dual_step(model: DualBranchModel, batch: dict, labels: torch.Tensor) -> torch.Tensor:
    """Loss of the dual-branch model."""
    output = model(batch["input_ids"], batch["char_ids"], batch["attention_mask"])
    nowhere = torch.full(batch["input_ids"].shape, -1, dtype=torch.int8, device=labels.device)
    return total_loss(output, labels, nowhere, TrainingConfig()).total


def bert_step(model: BertForSequenceClassification, batch: dict, labels: torch.Tensor) -> torch.Tensor:
    """Loss of plain BERT."""
    return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--length", type=int, default=64, help="tokens per text")
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results and the README")
    arguments = parser.parse_args()
    profile = get_profile(arguments.profile)
    config, device = profile.model, pick_device()
    dtype = pick_precision(profile.training.precision, device)
    rows = profile.training.tokens_per_batch // arguments.length
    shape = (rows, arguments.length)
    rng = np.random.default_rng(0)
    batch = {
        "input_ids": torch.from_numpy(rng.zipf(1.3, shape) % config.vocab_size).to(device),  # words repeat as in text
        "attention_mask": torch.ones(shape, dtype=torch.int64, device=device),
    }
    batch["char_ids"] = batch["input_ids"][..., None].expand(*shape, config.chars_per_token) % config.char_buckets
    labels = torch.from_numpy(rng.integers(0, NUM_CLASSES, rows)).to(device)
    layers = config.stem_layers + config.deep_layers
    bert = BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.d_model,
        num_hidden_layers=layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.ffn_dim,
        hidden_dropout_prob=config.layer_dropout,
        attention_probs_dropout_prob=0.0,
        num_labels=NUM_CLASSES,
        attn_implementation="sdpa" if torch.cuda.is_available() else "eager",  # the faster one in bfloat16 on a CPU
    )
    systems = {
        "TinyGuardrail": (DualBranchModel(config, config.vocab_size).to(device), dual_step),
        f"BERT, {layers} layers": (BertForSequenceClassification(bert).to(device), bert_step),
    }
    optimizers = {
        name: make_optimizer(model, profile.training)
        if isinstance(model, DualBranchModel)
        else torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        for name, (model, _) in systems.items()
    }
    timings = []
    for round_number in range(arguments.rounds + 1):  # the first round warms up
        for name, (model, step) in systems.items():
            started = time.perf_counter()
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                loss = step(model.train(), batch, labels)
            loss.backward()
            optimizers[name].step()
            optimizers[name].zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if round_number:
                timings.append((name, batch["input_ids"].numel() / (time.perf_counter() - started)))
    table = pd.DataFrame(timings, columns=["system", "tokens_per_second"]).groupby("system", sort=False).median()
    print(table.round(0).to_string())
    table["ratio"] = [table["tokens_per_second"].iloc[0] / table["tokens_per_second"].iloc[1], float("nan")]
    print(f"ratio {table['ratio'].iloc[0]:.2f}")
    if arguments.keep:
        kept = table.reset_index().assign(precision=str(dtype).removeprefix("torch."), length=arguments.length)
        kept["tokens_per_second"] = kept["tokens_per_second"].round().astype(int)
        keep("training_throughput", kept.round(2))


if __name__ == "__main__":
    main()
