"""Small synthetic frames with the columns of the real artifacts; only tests use them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from guardlib.labels import LABEL_NAMES

PROVENANCE = {
    "run_id": "12ab34cd56ef",
    "commit": "abc1234def5678",
    "profile": "laptop",
    "data_hash": "9f3e12ab34cd",
    "data": "built-in corpus only",
}


def history(validations: int = 8, epochs: float = 4.0, experts: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    t = np.arange(1, validations + 1) / validations
    frame = pd.DataFrame(
        {
            "step": (t * 800).astype(int),
            "epoch": t * epochs,
            "tokens": (t * 1_700_000).astype(int),
            "train_loss": 0.1 + 0.9 * np.exp(-3 * t),
            "fast_loss": 0.1 + 0.5 * np.exp(-3 * t),
            "deep_loss": 0.05 + 0.4 * np.exp(-3 * t),
            "val_loss": 0.16 + 0.85 * np.exp(-3 * t),
            "val_accuracy_fast": 0.93 - 0.3 * np.exp(-3 * t),
            "val_accuracy_deep": 0.955 - 0.3 * np.exp(-3 * t),
            "val_accuracy_routed": 0.953 - 0.3 * np.exp(-3 * t),
            "deep_share": 0.3 + 0.2 * np.exp(-4 * t) + rng.normal(0, 0.01, validations),
            "router_std": 0.2 - 0.15 * np.exp(-3 * t),
        }
    )
    loads = rng.dirichlet(np.full(experts, 40.0), validations)
    return frame.assign(**{f"expert_load_{e}": loads[:, e] for e in range(experts)})


def steps() -> pd.DataFrame:
    t = np.linspace(0.005, 1, 300)
    noise = np.random.default_rng(1).normal(0, 0.06, len(t))
    return pd.DataFrame({"tokens": t * 1_700_000, "loss": 0.12 + 0.9 * np.exp(-3 * t) + noise * (0.4 + np.exp(-3 * t))})


def score_rows(n: int = 1200, systems: tuple[str, ...] = ("guard",)) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    frames = []
    for system in systems:
        label = rng.choice(4, n, p=[0.55, 0.2, 0.15, 0.1])
        score = np.where(label == 0, rng.beta(0.3, 6, n), rng.beta(5, 0.35, n))
        wrong = rng.random(n) < 0.06
        predicted = np.where(score < 0.5, 0, np.where(wrong, rng.integers(1, 4, n), np.maximum(label, 1)))
        frames.append(pd.DataFrame({"system": system, "label": label, "score": score, "predicted": predicted}))
    return pd.concat(frames, ignore_index=True)


def latency(systems: tuple[str, ...] = ("guard", "plain_bert")) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    frames = []
    for k, system in enumerate(systems):
        tokens = np.clip(rng.lognormal(3.6, 0.9, 300).astype(int), 3, 700)
        route = rng.choice(["fast", "deep"], 300, p=[0.7, 0.3])
        seconds = (
            (0.0016 + 2e-5 * tokens) * np.where(route == "deep", 1.9, 1) * (1 + 1.6 * k) * rng.lognormal(0, 0.12, 300)
        )
        frames.append(pd.DataFrame({"system": system, "tokens": tokens, "route": route, "seconds": seconds}))
    return pd.concat(frames, ignore_index=True)


TRANSFORMS = ("flip_fwo", "flip_fcw", "flip_fcs", "base64", "homoglyph", "zero_width", "leet", "unicode_tags")
BENIGN_SETS = (
    "ordinary",
    "trigger_words_1",
    "trigger_words_2",
    "trigger_words_3",
    "role_play",
    "security",
    "not_english",
)


def interval(rate: float, n: int) -> tuple[float, float]:
    half = 1.96 * np.sqrt(rate * (1 - rate) / n) + 0.004
    return max(rate - half, 0.0), min(rate + half, 1.0)


def detection(systems: tuple[str, ...] = ("guard",), variants: tuple[str, ...] = TRANSFORMS) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    rows = []
    for system in systems:
        for variant in variants:
            tpr, fpr = rng.uniform(0.7, 0.99), rng.uniform(0, 0.09)
            rows.append(("flip_attack", variant, system, 200, tpr, *interval(tpr, 200), 180, fpr, *interval(fpr, 180)))
    sides = [f"{n} {m} {m}_low {m}_high" for n, m in (("n_pos", "tpr"), ("n_neg", "fpr"))]
    return pd.DataFrame(rows, columns=["benchmark", "variant", "system", *" ".join(sides).split()])


def benign_sets(systems: tuple[str, ...] = ("guard",)) -> pd.DataFrame:
    rng = np.random.default_rng(6)
    rows = []
    for system in systems:
        for name in BENIGN_SETS:
            rate = rng.uniform(0, 0.09)
            rows.append((name, system, "fpr", 339, rate, *interval(rate, 339)))
    return pd.DataFrame(rows, columns=["benchmark", "system", "metric", "n", "rate", "low", "high"])


def routing() -> pd.DataFrame:
    x = np.linspace(0, 1, 41)
    shapes = {
        "router": 0.93 + 0.027 * (1 - np.exp(-5 * x)),
        "random": 0.93 + 0.026 * x,
        "entropy": 0.93 + 0.026 * (1 - np.exp(-3 * x)),
        "oracle": 0.93 + 0.045 * np.clip(x / 0.06, 0, 1) - 0.019 * np.clip((x - 0.06) / 0.94, 0, 1),
    }
    frames = [pd.DataFrame({"policy": name, "deep_share": x, "accuracy": y, "n": 1200}) for name, y in shapes.items()]
    return pd.concat(frames, ignore_index=True)


def routing_by_label() -> pd.DataFrame:
    share = np.array([0.21, 0.34, 0.47, 0.52])
    return pd.DataFrame(
        {
            "label": LABEL_NAMES,
            "n": [1320, 410, 260, 130],
            "deep_share": share,
            "low": share - 0.04,
            "high": share + 0.04,
        }
    )


def reliability(systems: tuple[str, ...] = ("guard",)) -> pd.DataFrame:
    x = np.linspace(0.05, 0.95, 10)
    frames = []
    for k, system in enumerate(systems):
        y = np.clip(x + (0.05 + 0.03 * k) * np.sin(2 * np.pi * x), 0, 1)
        n = np.array([820, 60, 30, 18, 14, 12, 15, 25, 60, 700])
        half = 1.96 * np.sqrt(y * (1 - y) / n)
        bounds = {"low": np.clip(y - half, 0, 1), "high": np.clip(y + half, 0, 1)}
        frames.append(pd.DataFrame({"system": system, "score": x, "rate": y, "n": n, **bounds}))
    return pd.concat(frames, ignore_index=True)


def records(sources: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    names = [
        "hlyn/prompt-injection-judge-deberta-dataset-with-a-long-name",
        *(f"source_{k}" for k in range(1, sources)),
    ]
    rows = [
        (name, label, int(rng.integers(0, 1500) / (1 + k / 3))) for k, name in enumerate(names) for label in range(4)
    ]
    return pd.DataFrame(rows, columns=["source", "label", "n"])


def router_scores(n: int = 600) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    label = rng.choice(4, n, p=[0.55, 0.2, 0.15, 0.1])
    return pd.DataFrame({"label": label, "router": rng.normal(label / 3, 1.0)})


def specialisation(layers: int = 2, experts: int = 4) -> pd.DataFrame:
    shares = np.random.default_rng(9).dirichlet(np.full(experts, 9.0), 4 * layers)
    rows = pd.DataFrame([(name, layer) for layer in range(layers) for name in LABEL_NAMES], columns=["label", "layer"])
    return rows.assign(n=150, bits=0.1, **{f"expert_{e}": shares[:, e] for e in range(experts)})


#: For each figure: a realistic frame.
def curriculum() -> pd.DataFrame:
    x = np.linspace(0, 1, 21)
    starts = {"feature": 0.1, "attention": 0.1, "layerwise": 0.4, "contrastive": 0.7}
    return pd.DataFrame({"progress": x, "kd": 1.0} | {k: np.clip((x - v) / 0.3, 0, 1) for k, v in starts.items()})


def distillation_steps(rows: int = 12, experts: int = 8) -> pd.DataFrame:
    step = np.linspace(1, 400, rows).astype(int)
    parts = {"lm": 6.0, "kd": 2.0, "feature": 1.5, "attention": 0.8, "layerwise": 1.0, "contrastive": 2.1}
    frame = pd.DataFrame({"step": step, "experts": np.minimum(1 + step // 100, 4), "capacity": 0.1 + step / 1000})
    frame["gap"] = 0.5 - step / 2000
    for number, (part, start) in enumerate(parts.items()):
        raw = start * np.exp(-step / 300)
        frame[f"raw_{part}"] = np.where(step > 60 * max(number - 1, 0), raw, np.nan)
        frame[f"weighted_{part}"] = frame[f"raw_{part}"] / (number + 2)
    use = np.random.default_rng(7).dirichlet(np.full(experts, 2.0), rows)
    return frame.assign(**{f"expert_use_{e}": use[:, e] for e in range(experts)})


def perplexity_curves(systems: tuple[str, ...] = ("alone", "plain_kd", "unrouted", "routed")) -> pd.DataFrame:
    rows = [
        (name, seed, step, 90.0 + 8 * place + 300 * np.exp(-step / 90) + seed)
        for place, name in enumerate(systems)
        for seed in range(3)
        for step in (100, 200, 300, 400)
    ]
    return pd.DataFrame(rows, columns=["system", "seed", "step", "val_perplexity"])


def costs() -> pd.DataFrame:
    characters = np.array([100, 300, 1000, 3000, 10_000, 30_000, 100_000])
    return pd.DataFrame({"characters": characters, "milliseconds": 1.9 + 0.013 * characters})


def precisions() -> pd.DataFrame:
    names = ["float32", "float16", "int8_blocks", "int8_mixed", "int8", "int8_static", "int4"]
    megabytes, p50_ms = [106.6, 53.5, 31.4, 29.9, 29.7, 29.6, 19.6], [6.2, 5.6, 5.7, 4.1, 3.2, 3.5, 6.5]
    changed = [0, 0, 0.001, 0.004, 0.007, 0.038, 0.02]
    return pd.DataFrame({"precision": names, "megabytes": megabytes, "p50_ms": p50_ms, "changed": changed})


FRAMES = {
    "training_curves": history,
    "routing_over_epochs": history,
    "expert_load": history,
    "specialisation": specialisation,
    "data_composition": records,
    "confusion_matrix": score_rows,
    "detection_per_attack": detection,
    "transform_heatmap": detection,
    "over_defence": benign_sets,
    "routing_curve": routing,
    "routing_by_label": routing_by_label,
    "router_scores": router_scores,
    "score_distribution": score_rows,
    "reliability": reliability,
    "latency_distribution": latency,
    "latency_by_length": latency,
    "cost_by_length": costs,
    "precisions": precisions,
    "distillation_curriculum": curriculum,
    "distillation_losses": distillation_steps,
    "expert_use": distillation_steps,
    "student_capacity": distillation_steps,
    "distillation_perplexity": perplexity_curves,
}
