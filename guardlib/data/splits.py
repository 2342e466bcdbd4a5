"""Exact duplicates out, near-duplicates into clusters, clusters into splits."""

from __future__ import annotations

import numpy as np
import pandas as pd

from guardlib.data.generated import OBFUSCATED
from guardlib.data.leakage import decoded_forms, few_characters
from guardlib.data.minhash import cluster_ids
from guardlib.data.records import fold, rng_for
from guardlib.labels import HARMFUL_REQUEST, Label

SPLITS = ("train", "validation", "test")


def deduplicate(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """One row per text (see :func:`identity`), the first; texts that two sources label differently are dropped.

    One disagreement is settled instead: what one set calls a plain harmful request and another a jailbreak is a
    harmful request (large attack lists mix them in).

    Returns:
        ``(frame, {"duplicates": rows dropped as copies, "conflicts": rows dropped for their labels})``.
    """
    key = identity(frame)
    harmful = (frame["family"] == HARMFUL_REQUEST) & (frame["label"] != Label.BENIGN)
    harmful_keys = set(key[harmful])
    overruled = key.isin(harmful_keys) & ~harmful & (frame["label"] != Label.BENIGN)
    kept = frame[~overruled]
    kept_key = key[~overruled]
    conflict = kept.groupby(kept_key)["label"].transform("nunique") > 1
    copies = kept_key.duplicated() & ~conflict
    result = kept[~conflict & ~copies].reset_index(drop=True)
    return result, {"duplicates": int(copies.sum() + overruled.sum()), "conflicts": int(conflict.sum())}


def identity(frame: pd.DataFrame) -> pd.Series:
    """What makes two rows the same text: its folded form, but of obfuscated rows what is written.

    Folding undoes full width, so that a text under that trick would be a copy of the text itself.
    """
    return frame["text"].map(fold).where(frame["source"] != OBFUSCATED, frame["text"])


def cluster(frame: pd.DataFrame, threshold: float, progress: bool = False) -> pd.DataFrame:
    """``frame`` with ``group``: the near-duplicate cluster of each row; see :func:`guardlib.data.minhash.cluster_ids`.

    An obfuscated row is also compared by what it decodes to, so that a text and its encoded copy share a group; one of
    a few different characters only by that.
    """
    texts = [fold(text) for text in frame["text"]]
    owners = list(range(len(texts)))
    hidden = (frame["label"] == Label.OBFUSCATION).to_numpy()
    for row in np.flatnonzero(hidden).tolist():
        forms = [form for form in decoded_forms(frame["text"].iat[row]) if not few_characters(form)]
        if forms and few_characters(texts[row]):
            texts[row] = forms.pop()
        texts += forms
        owners += [row] * len(forms)
    return frame.assign(group=cluster_ids(texts, threshold, owners, progress))


def split_by_cluster(frame: pd.DataFrame, validation_share: float, test_share: float, seed: int) -> pd.DataFrame:
    """``frame`` with ``split``: whole groups go to train, validation or test, evenly over label × source.

    Each label × source gives its share of rows, up to one group; a group too large for what is still wanted stays in
    training. Depends on the rows, their order and ``seed`` only.

    Raises:
        ValueError: a share is negative, or both leave nothing to train on.
    """
    if validation_share < 0 or test_share < 0 or validation_share + test_share >= 1:
        raise ValueError(
            f"validation_share {validation_share!r} and test_share {test_share!r} must be ≥ 0 and sum to less than 1"
        )
    groups = frame.groupby("group", sort=False).agg(
        label=("label", "first"), source=("source", "first"), size=("label", "size")
    )
    chosen = pd.Series("train", index=groups.index)
    for (label, source), members in groups.groupby(["label", "source"], sort=True):
        rng = rng_for(seed, "split", str(label), str(source))
        members = members.iloc[rng.permutation(len(members))]
        total = int(members["size"].sum())
        # Stochastic rounding: small sources give their share on average rather than never.
        wanted = {
            name: int(total * share + rng.random())
            for name, share in (("test", test_share), ("validation", validation_share))
        }
        for group, size in members["size"].items():
            name = next((name for name, rows in wanted.items() if 0 < size <= rows), None)
            if name is not None:
                wanted[name] -= size
                chosen[group] = name
    return frame.assign(split=frame["group"].map(chosen).astype("str"))
