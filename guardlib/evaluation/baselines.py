"""Baselines on the same rows as the guard. Each is one registered function: ``fit(train, rng)`` → ``predict(texts)``.

``predict`` gives class probabilities [N, 4], or [N, 2] (benign, attack) for a system that knows no kinds of attack.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from guardlib.labels import NUM_CLASSES, Label

Predict = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True, slots=True)
class Baseline:
    """A system to stand above. ``fit(train, rng)`` takes training records and returns its ``predict``."""

    name: str
    description: str
    fit: Callable[[pd.DataFrame, np.random.Generator], Predict]


BASELINES: dict[str, Baseline] = {}


def baseline(name: str, description: str) -> Callable:
    """Register the decorated ``fit`` function under ``name``; ValueError if the name is taken."""

    def register(fit: Callable[[pd.DataFrame, np.random.Generator], Predict]) -> Callable:
        if name in BASELINES:
            raise ValueError(f"baseline {name!r} is registered twice; give the second another name")
        BASELINES[name] = Baseline(name, description, fit)
        return fit

    return register


def fit_baseline(name: str, train: pd.DataFrame, seed: int = 0) -> Predict:
    """Fit a registered baseline on training records (columns text and label); ValueError names what is wrong."""
    if name not in BASELINES:
        raise ValueError(f"baseline {name!r} does not exist; expected one of {', '.join(BASELINES)}")
    missing = {"text", "label"} - set(train.columns)
    if missing:
        raise ValueError(f"training rows lack column(s) {', '.join(sorted(missing))}; run notebook 01 again")
    return BASELINES[name].fit(train, np.random.default_rng(seed))


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
def fit_rules(train: pd.DataFrame, rng: np.random.Generator) -> Predict:
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


#: Characters read per text by the word and the character n-grams: a bound on the time that long texts take.
TFIDF_WORD_REACH, TFIDF_CHARACTER_REACH = 600, 300
TFIDF_FEATURES = 60_000


@baseline("tfidf", "TF-IDF of words and character n-grams, logistic regression on balanced classes")
def fit_tfidf(train: pd.DataFrame, rng: np.random.Generator) -> Predict:
    """Multinomial logistic regression on the word 1–2-grams and character 2–4-grams of the beginning of each text."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    if train["label"].nunique() < 2:
        raise ValueError(
            f"training rows hold only label {train['label'].unique().tolist()}; expected at least two classes"
        )

    def first(reach: int) -> Callable[[str], str]:
        return lambda text: text[:reach].lower()

    shared = {"max_features": TFIDF_FEATURES, "sublinear_tf": True, "dtype": np.float32}
    features = make_union(
        TfidfVectorizer(
            preprocessor=first(TFIDF_WORD_REACH),
            analyzer="word",
            ngram_range=(1, 2),
            token_pattern=r"\w+|[^\w\s]",
            **shared,
        ),
        TfidfVectorizer(preprocessor=first(TFIDF_CHARACTER_REACH), analyzer="char_wb", ngram_range=(2, 4), **shared),
    )
    classifier = LogisticRegression(
        C=10.0, class_weight="balanced", tol=1e-3, max_iter=60, random_state=int(rng.integers(2**31))
    )
    model = make_pipeline(features, classifier).fit(train["text"], train["label"])

    def predict(texts: Sequence[str]) -> np.ndarray:
        probabilities = np.zeros((len(texts), NUM_CLASSES))
        if len(texts):
            probabilities[:, model.classes_] = model.predict_proba(texts)  # a class absent from training stays at 0
        return probabilities

    return predict
