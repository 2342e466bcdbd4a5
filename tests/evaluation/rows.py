"""Score rows and routing rows for tests, from a seeded generator."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from guardlib.evaluation.scores import score_rows
from guardlib.labels import BENCHMARK_COLUMNS, HARMFUL_REQUEST


def benchmark_rows(
    n: int, seed: int = 0, benchmark: str = "made", variants=("a", "b"), harmful: int = 0
) -> pd.DataFrame:
    """``n`` rows of all classes, two per group; the first ``harmful`` of them are harmful requests."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    labels[:harmful] = 2
    rows = {
        "benchmark": benchmark,
        "example_id": [f"{benchmark}/{i}@{seed}-{i // 2}" for i in range(n)],
        "text": [f"text {i}" for i in range(n)],
        "label": labels,
        "family": [HARMFUL_REQUEST if i < harmful else "made" for i in range(n)],
        "variant": rng.choice(variants, n),
        "lang": "en",
        "group": [f"{seed}-{i // 2}" for i in range(n)],
    }
    return pd.DataFrame(rows)[list(BENCHMARK_COLUMNS)]


def probabilities(labels: np.ndarray, seed: int = 0, skill: float = 2.0, decimals: int | None = None) -> np.ndarray:
    """Class probabilities [N, 4] that favour the true class; rounded scores give ties."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), 4)) + skill * np.eye(4)[labels]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if decimals is not None:
        attack = np.round(1 - probs[:, 0], decimals)
        probs[:, 1:] *= (attack / probs[:, 1:].sum(axis=1))[:, None]
        probs[:, 0] = 1 - attack
    return probs


def scored(
    n: int = 300, systems=("one", "two"), seed: int = 0, decimals: int | None = 2, harmful: int = 0
) -> pd.DataFrame:
    """Score rows of several systems over two benchmarks."""
    asked = pd.concat([benchmark_rows(n, seed, "first", harmful=harmful), benchmark_rows(n, seed + 1, "second")])
    labels = asked["label"].to_numpy()
    return pd.concat(
        [score_rows(asked, name, probabilities(labels, seed + k, 1.0 + k, decimals)) for k, name in enumerate(systems)],
        ignore_index=True,
    )


def routing_rows(n: int, seed: int = 0, levels: int | None = None) -> pd.DataFrame:
    """Rows with both branches' probabilities and a router score that takes at most ``levels`` values."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    fast, deep = probabilities(labels, seed + 1, 1.0), probabilities(labels, seed + 2, 2.5)
    router = rng.normal(size=n) if levels is None else rng.integers(0, levels, n).astype(float)
    columns = {"label": labels, "router": router, "example_id": [f"test/{i}" for i in range(n)]}
    columns |= {f"p_fast_{k}": fast[:, k] for k in range(4)} | {f"p_deep_{k}": deep[:, k] for k in range(4)}
    return pd.DataFrame(columns)


@st.composite
def scores_and_labels(draw, both: bool = True):
    """Scores in [0, 1] with many ties, and 0/1 labels of which at least one is 0 (and one is 1)."""
    n = draw(st.integers(2, 60))
    scores = draw(
        st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]) | st.floats(0, 1), min_size=n, max_size=n)
    )
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    labels[0] = 0
    labels[1] = 1 if both else labels[1]
    return np.array(scores), np.array(labels)
