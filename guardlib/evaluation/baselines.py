"""Baselines on the same rows as the guard. Each is one registered function: ``fit(given)`` → ``predict(texts)``.

``predict`` gives class probabilities [N, 4], or [N, 2] (benign, attack) for a system that knows no kinds of attack.
Settings are chosen on the validation rows. A long text is read in pieces and judged by its worst one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from guardlib.config import Profile
from guardlib.evaluation.regression import fit_logistic_regression
from guardlib.labels import NUM_CLASSES, Label

Predict = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True, slots=True)
class Given:
    """What a baseline may learn from: training records, validation records to choose settings on, the settings."""

    train: pd.DataFrame
    validation: pd.DataFrame
    profile: Profile
    rng: np.random.Generator


@dataclass(frozen=True, slots=True)
class Baseline:
    """A system to stand above: ``fit`` returns its ``predict``; ``describe`` says what it is under given settings."""

    name: str
    describe: Callable[[Profile], str]
    fit: Callable[[Given], Predict]


BASELINES: dict[str, Baseline] = {}


def baseline(name: str, description: str | Callable[[Profile], str]) -> Callable:
    """Register the decorated ``fit`` function under ``name``; ValueError if the name is taken."""

    def register(fit: Callable[[Given], Predict]) -> Callable:
        if name in BASELINES:
            raise ValueError(f"baseline {name!r} is registered twice; give the second another name")
        describe = description if callable(description) else lambda profile: description
        BASELINES[name] = Baseline(name, describe, fit)
        return fit

    return register


def fit_baseline(name: str, train: pd.DataFrame, validation: pd.DataFrame, profile: Profile) -> Predict:
    """Fit a registered baseline on training records (columns text and label); ValueError names what is wrong."""
    if name not in BASELINES:
        raise ValueError(f"baseline {name!r} does not exist; expected one of {', '.join(BASELINES)}")
    for split, frame in (("training", train), ("validation", validation)):
        if missing := {"text", "label"} - set(frame.columns):
            raise ValueError(f"{split} rows lack column(s) {', '.join(sorted(missing))}; run notebook 01 again")
        if name != "rules" and not 0 < (frame["label"] > 0).sum() < len(frame):
            raise ValueError(
                f"{split} rows hold only label {frame['label'].unique().tolist()}; expected attacks and benign rows"
            )
    return BASELINES[name].fit(Given(train, validation, profile, np.random.default_rng(profile.seed)))


def worst_piece(probabilities: np.ndarray, owners: np.ndarray, texts: int) -> np.ndarray:
    """Per text the row of ``probabilities`` [P, K] of its piece with the least P(benign) → [N, K]; first wins a tie.

    ``owners`` [P]: the text of each piece, every text at least once.
    """
    order = np.lexsort((np.arange(len(owners)), probabilities[:, Label.BENIGN], owners))
    _, first = np.unique(owners[order], return_index=True)
    return probabilities[order[first]].reshape(texts, probabilities.shape[1])


#: Inverse strengths of regularisation that are tried.
STRENGTHS = (0.3, 1.0, 3.0, 10.0)
_TUNED_ON = 10_000  # training rows that strengths are compared on; the best is then fitted on all


def tuned_logistic_regression(
    train_x, train_y: np.ndarray, validation_x, validation_y: np.ndarray, strengths: Sequence[float] = STRENGTHS
):
    """Multinomial logistic regression, its strength chosen by AUROC on validation.

    Strengths are compared on the first ``_TUNED_ON`` rows: rows come shuffled.

    Raises:
        RuntimeError: a fit did not converge.
    """
    from sklearn.metrics import roc_auc_score

    def score(strength: float) -> float:
        model = fit_logistic_regression(strength, train_x[:_TUNED_ON], train_y[:_TUNED_ON])
        return roc_auc_score(validation_y > 0, 1 - model.predict_proba(validation_x)[:, 0])

    return fit_logistic_regression(max(strengths, key=score), train_x, train_y)


def all_classes(model, features) -> np.ndarray:
    """``predict_proba`` [N, 4]; a class absent from training stays at 0."""
    probabilities = np.zeros((features.shape[0], NUM_CLASSES))
    if len(probabilities):
        probabilities[:, model.classes_] = model.predict_proba(features)
    return probabilities


#: (class, pattern); matched without case unless a part says otherwise, "." also matches a line break.
_RULES: tuple[tuple[Label, str], ...] = (
    # Overriding what was said before.
    (
        Label.DIRECT_INJECTION,
        r"\b(ignore|disregard|forget|override|bypass|skip|neglect)\b.{0,40}"
        r"\b(previous|prior|above|earlier|preceding|all|your|the)\b.{0,30}"
        r"\b(instruction|prompt|rule|direction|guideline|command|context|text|message|polic)",
    ),
    (
        Label.DIRECT_INJECTION,
        r"\b(vergiss|ignoriere|missachte)\b.{0,40}"
        r"\b(alle|vorherigen|obigen|anweisungen|instruktionen|aufgaben)",
    ),
    (
        Label.DIRECT_INJECTION,
        r"\b(ignora|olvida|ignorez|oublie[zr]?)\b.{0,40}\b(instruc|anterior|précédent|consignes|istruzioni)",
    ),
    (Label.DIRECT_INJECTION, r"\b(new|updated|real|actual) (instruction|task|objective|directive)s?\s*(:|are|is\b)"),
    (Label.DIRECT_INJECTION, r"(^|\n)\s*(###?\s*)?(system|assistant|developer)\s*(prompt|message|override)?\s*:"),
    (Label.DIRECT_INJECTION, r"<\|?(im_start|im_end|system|endoftext)\|?>|\[/?(inst|sys)\]|<<sys>>"),
    # Asking for the prompt itself.
    (
        Label.DIRECT_INJECTION,
        r"\b(reveal|show|print|repeat|output|display|tell me|give me|leak|expose|what (is|are|were))\b.{0,40}"
        r"\b(system|initial|hidden|secret|original|your)\b.{0,20}\b(prompt|instruction|rule|directive|guideline)s?\b",
    ),
    # Persona and hypothetical frames. Some names are words or people when not in capitals.
    (
        Label.JAILBREAK,
        r"\b((?-i:DAN|STAN|DUDE)|do anything now|developer mode|jailbr(ea|o)k|god mode|AIM mode|evil[- ]?bot)\b",
    ),
    (
        Label.JAILBREAK,
        r"\b(no|without|free (of|from)|any) (any )?(restriction|filter|limit|censorship|moral|ethic|guideline|rule)s?\b"
        r".{0,80}\b(AI|you|model|answer|respond)",
    ),
    (
        Label.JAILBREAK,
        r"\b(pretend|imagine|act as if|roleplay|role-play|you are now)\b.{0,80}"
        r"\b(unrestricted|unfiltered|uncensored|evil|amoral|no (rules|limits|ethics|filter))",
    ),
    (Label.JAILBREAK, r"\b(start|begin) (your|the) (response|answer|reply) with\b|\bsure,? here('s| is)\b.{0,40}$"),
    (Label.JAILBREAK, r"\bnever (refuse|say no|decline|break character)\b|\b(stay|remain) in character\b"),
    # Hidden words: long base64 or hex runs, invisible characters, scripts mixed within one word.
    (Label.OBFUSCATION, r"(?<![\w/+])[A-Za-z0-9+/]{40,}={0,2}(?![\w/+])|\b(?:[0-9a-fA-F]{2}[ :]?){24,}\b"),
    (Label.OBFUSCATION, r"[\u200b\u200c\u2060\ufeff\U000e0020-\U000e007f]"),
    (Label.OBFUSCATION, r"[a-zA-Z][\u0370-\u03ff\u0400-\u04ff]|[\u0370-\u03ff\u0400-\u04ff][a-zA-Z]"),
    (
        Label.OBFUSCATION,
        r"\b(base64|rot-?13|decode|reverse the (string|text|letters)|flip(ped)? (text|sentence|words))\b.{0,60}"
        r"\b(follow|execute|answer|obey|task|instruction)",
    ),
)


@baseline("rules", "regular expressions for the well-known phrasings; nothing is learnt")
def fit_rules(given: Given) -> Predict:
    """Each rule that matches is a vote for its class; P(benign) = 1 / (1 + 9 · votes), so one match flags at 0.5."""
    compiled = [(label, re.compile(pattern, re.IGNORECASE | re.DOTALL)) for label, pattern in _RULES]

    def predict(texts: Sequence[str]) -> np.ndarray:
        votes = np.zeros((len(texts), NUM_CLASSES))
        for row, text in enumerate(texts):
            for label, pattern in compiled:
                votes[row, label] += pattern.search(text) is not None
        votes[:, 1:] *= 9
        votes[:, Label.BENIGN] = 1
        return votes / votes.sum(axis=1, keepdims=True)

    return predict


#: Characters of a piece. Of a training text the first piece is learnt: a bound on the time that long texts take.
TFIDF_REACH = 400
TFIDF_FEATURES = 60_000  # of words, and as many of characters


@baseline(
    "tfidf",
    "TF-IDF of words and character n-grams, logistic regression, its strength chosen on validation",
)
def fit_tfidf(given: Given) -> Predict:
    """Word 1-2-grams and character 2-4-grams. A wrong piece at a border costs little, so pieces do not overlap."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    shared = {"max_features": TFIDF_FEATURES, "sublinear_tf": True, "dtype": np.float32, "lowercase": True}
    features = make_union(
        TfidfVectorizer(analyzer="word", ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", **shared),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), **shared),
    )
    train_x = features.fit_transform(given.train["text"].str.slice(0, TFIDF_REACH)).tocsr()
    validation_x = features.transform(given.validation["text"].str.slice(0, TFIDF_REACH))
    labels = given.validation["label"].to_numpy()
    model = tuned_logistic_regression(train_x, given.train["label"].to_numpy(), validation_x, labels)

    def predict(texts: Sequence[str]) -> np.ndarray:
        starts = [(n, start) for n, text in enumerate(texts) for start in range(0, max(len(text), 1), TFIDF_REACH)]
        if not starts:
            return np.zeros((0, NUM_CLASSES))
        pieces = features.transform([texts[n][start : start + TFIDF_REACH] for n, start in starts])
        return worst_piece(all_classes(model, pieces), np.array([n for n, _ in starts]), len(texts))

    return predict


# Registers the two that need torch. At the end, because they need the names above.
from guardlib.evaluation import plain_backbone  # noqa: E402, F401
