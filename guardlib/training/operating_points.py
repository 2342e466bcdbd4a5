"""What validation settles after (roughly: during) training: temperatures, routing threshold, decision thresholds."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from guardlib.config import Profile
from guardlib.evaluation.calibration import (
    TARGET_FPRS,
    calibrate_router,
    fit_temperature,
    share_at,
)
from guardlib.evaluation.routing import RouterCollapse, check_collapse
from guardlib.evaluation.scores import score_rows, split_as_benchmark
from guardlib.labels import NUM_CLASSES, Label
from guardlib.model.build import Guardrail, save_guardrail
from guardlib.model.inference import Calibration, WindowScores, decide, score_windows, softmax
from guardlib.model.router import Router, uncertainty
from guardlib.runtime.decision import branch_probabilities
from guardlib.runtime.thresholds import threshold_at_fpr
from guardlib.text.reading import worst_window
from guardlib.training.ngram_fit import fit_ngrams


def calibrate(scores: WindowScores, labels: np.ndarray, profile: Profile) -> Calibration:
    """Fit every operating point on validation scores; ``labels`` [N] are those of the texts.

    The routing threshold is a fixed probability where ``model.router_threshold`` is set, otherwise
    the quantile that sends ``model.deep_budget`` of the texts deep.
    """
    if profile.model.router_threshold is not None:
        share = profile.model.router_threshold
        router_threshold = float(np.log(share) - np.log1p(-share))
    else:
        logits = scores.router[_deciding(scores, scores.fast_logits)]
        router_threshold = calibrate_router(logits, profile.model.deep_budget)
    calibration = dataclasses.replace(_temperatures(scores, labels), router_threshold=router_threshold)
    calibration = dataclasses.replace(calibration, length_discount=_length_discount(scores, labels, calibration))
    attack = 1 - decide(scores, calibration).probabilities[:, Label.BENIGN].astype(np.float64)
    target = profile.evaluation.target_fpr
    at = {rate: threshold_at_fpr(attack.clip(0, 1), labels, rate) for rate in (*TARGET_FPRS, target)}
    named = {f"{rate:g}": threshold for rate, threshold in at.items()}
    return dataclasses.replace(calibration, threshold_at_fpr=at[target], thresholds=named)


def _temperatures(scores: WindowScores, labels: np.ndarray) -> Calibration:
    """The temperature of each branch on its own; every other setting at its default."""
    fast, deep = (
        fit_temperature(logits[_deciding(scores, logits)], labels)
        for logits in (scores.fast_logits, scores.deep_logits)
    )
    return Calibration(fast_temperature=fast, deep_temperature=deep)


_MOST_DISCOUNT = 2.0  # in a text of ten windows, odds of an attack count as a hundredth at least


def _length_discount(scores: WindowScores, labels: np.ndarray, calibration: Calibration) -> float:
    """The discount at which attack or benign is foretold with the least log-loss; 0 where no text has two windows."""
    views = Counter(window.reading for window in scores.windows)
    if max(views.values(), default=0) < 2:
        return 0.0
    benign = labels == Label.BENIGN

    def loss(discount: float) -> float:
        decided = decide(scores, dataclasses.replace(calibration, length_discount=discount))
        p = decided.probabilities[:, Label.BENIGN].astype(np.float64).clip(1e-6, 1 - 1e-6)
        return -float(np.log(np.where(benign, p, 1 - p)).mean())

    return float(minimize_scalar(loss, bounds=(0, _MOST_DISCOUNT), method="bounded", options={"xatol": 1e-3}).x)


_NO_SPREAD = 1e-6  # of predicted gain


def fit_router(router: Router, scores: WindowScores, labels: np.ndarray) -> WindowScores:
    """Settle what the router's learnt logit, the fast head's entropy and its margin each count for.

    Ridge regression, on the texts' deciding windows, of what going deep gains there: probability of the true class
    on the deep route minus that on the fast one. Changes ``router.mix``; returns ``scores`` with the routing logits
    that the router now gives.

    Args:
        router: one that uses entropy, with ``mix`` as it was trained (:meth:`Router.forget`).
        scores: validation scores under it.
        labels: [N] of the texts.
    """
    unsure = uncertainty(torch.from_numpy(scores.fast_logits)).numpy()
    features = np.column_stack([scores.router, unsure]).astype(np.float64)  # [W, 3]
    chosen, texts = _deciding(scores, scores.fast_logits), np.arange(scores.texts)
    logits = (branch[chosen].astype(np.float64) for branch in (scores.fast_logits, scores.deep_logits))
    fast, deep = branch_probabilities(*logits, _temperatures(scores, labels))
    scaler = StandardScaler().fit(features[chosen])
    gain = (deep - fast)[texts, labels]
    ridge = RidgeCV(np.logspace(-2, 4, 13)).fit(scaler.transform(features[chosen]), gain)
    weights = ridge.coef_ / scaler.scale_  # the constant part is the threshold's business
    spread = float((features[chosen] @ weights).std())
    unforeseen = -ridge.best_score_ / max(gain.var(), _NO_SPREAD**2)  # share of its variance, on texts left out
    if spread < _NO_SPREAD or unforeseen >= 1:  # nothing foretells a gain: the learnt logit stays
        return scores
    mix = weights / spread
    router.mix.copy_(torch.from_numpy(mix))
    return dataclasses.replace(scores, router=(features @ mix).astype(np.float32))


def _deciding(scores: WindowScores, logits: np.ndarray) -> np.ndarray:
    """Index of each text's worst window by ``logits`` [W, K] → [N]."""
    return worst_window(scores.windows, 1 - softmax(logits)[:, Label.BENIGN], scores.texts)


def monitor(scores: WindowScores, labels: np.ndarray, profile: Profile) -> dict[str, float]:
    """Validation figures of one moment of training, each branch on its own.

    The routing threshold is set on one half of the texts and the deep share measured on the other, so that a router
    which sends everything the same way shows as a share of 0 or 1.
    """
    fast, deep = _deciding(scores, scores.fast_logits), _deciding(scores, scores.deep_logits)
    router = scores.router[fast]
    threshold = calibrate_router(router[::2], profile.model.deep_budget)
    goes_deep = router >= threshold
    fast_right = scores.fast_logits[fast].argmax(-1) == labels
    deep_right = scores.deep_logits[deep].argmax(-1) == labels
    rows = np.arange(len(labels))
    losses = [
        -np.log(softmax(logits[chosen])[rows, labels].clip(1e-9)).mean()
        for logits, chosen in ((scores.fast_logits, fast), (scores.deep_logits, deep))
    ]
    return {
        "val_loss": float(np.mean(losses)),
        "val_accuracy_fast": float(fast_right.mean()),
        "val_accuracy_deep": float(deep_right.mean()),
        "val_accuracy_routed": float(np.where(goes_deep, deep_right, fast_right).mean()),
        "deep_share": float(goes_deep[1::2].mean()),
        "router_std": float(router.std()),
    }


def score_frame(frame: pd.DataFrame, scores: WindowScores, calibration: Calibration, split: str) -> pd.DataFrame:
    """Score rows of a split, with the probabilities of both branches and the router's logit for later analysis."""
    routed, fast, deep = (decide(scores, calibration, route) for route in ("router", "fast", "deep"))
    seconds = scores.seconds / max(len(frame), 1)
    rows = score_rows(
        split_as_benchmark(frame, split), "guard", routed.probabilities, calibration.threshold, routed.route, seconds
    )
    for prefix, part in (("p", routed), ("p_fast", fast), ("p_deep", deep)):
        for label in range(NUM_CLASSES):
            rows[f"{prefix}_{label}"] = part.probabilities[:, label]
    rows["router"] = scores.router[routed.window]
    rows["lang"], rows["source"] = frame["lang"].to_numpy(), frame["source"].to_numpy()
    return rows


def finish_training(
    guardrail: Guardrail, train: pd.DataFrame, validation: pd.DataFrame, profile: Profile, folder: Path
) -> tuple[Guardrail, pd.DataFrame]:
    """Fit the n-gram head on the training split, settle router and thresholds on the whole validation split, and save.

    Returns:
        The calibrated guardrail and its validation score rows.

    Raises:
        RouterCollapse: the router sends (nearly) all texts one way, or cannot tell them apart. Where the routing
            threshold is a setting, that is a warning.
    """
    router, ngrams = guardrail.model.front.router, guardrail.model.front.ngrams
    router.forget()  # so that calling this twice gives the same
    ngrams.forget()
    texts, labels = validation["text"].tolist(), validation["label"].to_numpy(np.int64)
    budget = profile.evaluation.tokens_per_batch
    if profile.model.ngram_weight:
        fit_ngrams(guardrail, train, profile)
    scores = score_windows(guardrail.model, guardrail.reader, texts, budget, "validation")
    if profile.model.use_entropy and profile.model.router_threshold is None:
        scores = fit_router(router, scores, labels)
    calibration = calibrate(scores, labels, profile)
    router_logits = scores.router[_deciding(scores, scores.fast_logits)]
    share = share_at(router_logits, calibration.router_threshold)
    try:
        check_collapse(share, router_std=float(router_logits.std()))
    except RouterCollapse as error:
        if profile.model.router_threshold is None:
            raise
        # Whoever sets a threshold is told, and keeps the model.
        warnings.warn(f"model.router_threshold={profile.model.router_threshold}: {error}", stacklevel=2)
    calibrated = dataclasses.replace(guardrail, calibration=calibration)
    save_guardrail(calibrated, folder)
    return calibrated, score_frame(validation, scores, calibration, "validation")


def score_split(guardrail: Guardrail, frame: pd.DataFrame, split: str, profile: Profile) -> pd.DataFrame:
    """Score rows of another split at the settled operating points."""
    scores = score_windows(
        guardrail.model, guardrail.reader, frame["text"].tolist(), profile.evaluation.tokens_per_batch, split
    )
    return score_frame(frame, scores, guardrail.calibration, split)
