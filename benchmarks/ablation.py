"""What a setting is worth on sources that training never saw: one short training per variant, on the same rows.

    python run_all.py --only 01
    python benchmarks/ablation.py --tokens 1000000 base training.layer_dropout=0.1 training.adversarial=fgsm

A variant is ``base`` or settings joined by commas. Each is trained on the dataset of the profile's last stage 01
without the held-out sources, with as many tokens, and then reads them. Prints a table:

AUROC and TPR at 1 % FPR over the held-out rows, TPR and FPR there at 0.5, AUROC between attacks and benign texts of the
test split under the same transforms, the transformer's validation loss on the sources that were trained on, AUROC on
held-out rows with activations in 8 bits, and the accuracy there when embeddings are moved against the model (one FGSM
step).
``--keep`` writes it to ``benchmarks/results`` and into the README.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from record import keep
from sklearn.metrics import roc_auc_score, roc_curve

from guardlib.config import PROFILES, ConfigError, Profile
from guardlib.data.generated import OBFUSCATED
from guardlib.labels import Label
from guardlib.model.build import Guardrail, build_guardrail
from guardlib.model.inference import decide, score_windows
from guardlib.paths import stage_folder
from guardlib.settings import get_profile, parse_setting
from guardlib.training.adversarial import perturbed, worst_perturbation
from guardlib.training.examples import Epoch
from guardlib.training.operating_points import finish_training
from guardlib.training.quantization import rounded_activations
from guardlib.training.step import forward
from guardlib.training.trainer import train

HELD_OUT = "deepset,owasp_aitg,vulcanforge_ext_owasp_aitg,corpus_hard_negatives,cyberseceval_frr,self_instruct"
_ROWS = 500  # per held-out source and label


def parse(variant: str) -> dict:
    """``training.adversarial=fgsm,seed=1`` → settings; ``base`` → none."""
    return {} if variant == "base" else dict(parse_setting(part) for part in variant.split(","))


def run(profile: Profile, frames: tuple[pd.DataFrame, ...], tokens: int) -> dict:
    """Train one variant and measure it."""
    train_frame, validation, unseen, hidden = frames
    budget = {"max_train_tokens": tokens, "bfloat16_factor": 1.0, "validations": 2}
    profile = dataclasses.replace(profile, training=dataclasses.replace(profile.training, **budget))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="ablation-") as folder:
        guard = build_guardrail(profile, train_frame, Path(folder))
        parts = (guard.model, guard.reader, train_frame, validation)
        history = train(*parts, profile, Path(folder))
        guard, _ = finish_training(guard, train_frame, validation, profile, Path(folder))
    size, calibration = profile.evaluation.tokens_per_batch, guard.calibration
    verdicts = decide(score_windows(guard.model, guard.reader, unseen["text"].tolist(), size), calibration)
    score = 1 - verdicts.probabilities[:, Label.BENIGN]
    with rounded_activations(guard.model):
        rounded = decide(score_windows(guard.model, guard.reader, unseen["text"].tolist(), size), calibration)
    unfolded = decide(score_windows(guard.model, guard.reader, hidden["text"].tolist(), size), calibration)
    attack = unseen["label"].to_numpy() != Label.BENIGN
    fpr, tpr, _ = roc_curve(attack, score)
    return {
        "AUROC": roc_auc_score(attack, score),
        "AUROC, 8 bits": roc_auc_score(attack, 1 - rounded.probabilities[:, Label.BENIGN]),
        "TPR at 1 % FPR": float(tpr[fpr <= 0.01].max()),
        "TPR": float((score >= 0.5)[attack].mean()),
        "FPR": float((score >= 0.5)[~attack].mean()),
        "AUROC, hidden": roc_auc_score(hidden["label"] > 0, 1 - unfolded.probabilities[:, Label.BENIGN]),
        "validation loss": float(history["val_loss"].min()),
        "accuracy, moved": moved_accuracy(guard, unseen, profile),
        "minutes": (time.perf_counter() - started) / 60,
    }


def moved_accuracy(guard: Guardrail, frame: pd.DataFrame, profile: Profile) -> float:
    """Share of windows whose attack-or-benign verdict is right at the worst embeddings that one FGSM step finds."""
    plain = dataclasses.replace(profile.training, source_temperature=1.0, attack_share=None, adversarial="fgsm")
    right = []
    for batch in list(Epoch(frame, guard.reader, plain, seed=0, epoch=0))[:60]:
        delta = worst_perturbation(guard.model, batch, plain, torch.float32)
        with perturbed(guard.model, delta), torch.no_grad():
            output, _ = forward(guard.model, batch, plain, torch.float32)
        flagged = output.deep_logits.argmax(-1).cpu().numpy() != Label.BENIGN
        right += (flagged == (batch.labels != Label.BENIGN)).tolist()
    return float(np.mean(right))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="+", metavar="SETTING=VALUE[,…]", help="or: base")
    parser.add_argument("--profile", choices=list(PROFILES), default="laptop")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="of each training")
    parser.add_argument("--hold-out", default=HELD_OUT, metavar="SOURCE,…", help=f"default: {HELD_OUT}")
    parser.add_argument("--keep", action="store_true", help="write the table to benchmarks/results and the README")
    options = parser.parse_args()
    profiles = {}
    for variant in options.variants:  # all of them, before the first trains
        try:
            settings = parse(variant)
            profiles[variant] = get_profile(options.profile, settings)
        except ConfigError as error:
            parser.error(str(error))
        if any(name.startswith("data.") for name in settings):
            parser.error(f"{variant!r} changes the dataset, which all variants share: run stage 01 with it instead")
    folder, held = stage_folder(options.profile, "01_data"), options.hold_out.split(",")
    try:
        whole, validation, test = (
            pd.read_parquet(folder / f"{name}.parquet") for name in ("train", "validation", "test")
        )
    except FileNotFoundError as error:
        missing = error.filename or error  # pandas leaves the name to the message
        parser.error(f"{missing} is missing; run: python run_all.py --profile {options.profile} --only 01")
    unseen = (
        whole[whole["source"].isin(held)].groupby(["source", "label"], group_keys=False).sample(frac=1, random_state=0)
    )
    unseen = unseen.groupby(["source", "label"]).head(_ROWS)
    if (unseen["label"] > 0).nunique() < 2:
        parser.error(f"{options.hold_out} have {len(unseen)} rows; expected attacks and benign text: see --hold-out")
    # What was made of a held-out row, and its near copies, are held out with it.
    groups = set(whole.loc[whole["source"].isin(held), "group"])
    kept = [frame[~frame["group"].isin(groups) & ~frame["source"].isin(held)] for frame in (whole, validation)]
    hidden = test[test["source"] == OBFUSCATED]
    sources = unseen["source"].nunique()
    print(
        f"{len(kept[0]):,} training, {len(unseen):,} held-out rows of {sources} sources, {len(hidden):,} hidden\n",
        flush=True,
    )
    rows = []
    for variant, profile in profiles.items():
        rows.append({"variant": variant} | run(profile, (*kept, unseen, hidden), options.tokens))
        table = pd.DataFrame(rows).round(4)
        print(table.to_string(index=False), flush=True)
        if options.keep:
            keep("ablation", table)


if __name__ == "__main__":
    main()
