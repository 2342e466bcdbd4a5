"""What a dataset is made of, as tidy frames: composition, lengths, languages, words that give a class away."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer

from guardlib.data.generated import OBFUSCATED
from guardlib.labels import LABEL_NAMES, Label


def composition(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows per source (index) and label (columns, in class order), with a ``total`` column; largest source first."""
    table = pd.crosstab(frame["source"], frame["label"]).reindex(columns=range(len(LABEL_NAMES)), fill_value=0)
    table.columns = pd.Index(LABEL_NAMES, name="label")
    table["total"] = table.sum(axis=1)
    return table.sort_values(["total", "source"], ascending=[False, True])


def class_balance(**splits: pd.DataFrame) -> pd.DataFrame:
    """Rows per split (index, in the order given) and label (columns), with a ``total`` column."""
    rows = {
        name: [int((frame["label"] == label).sum()) for label in range(len(LABEL_NAMES))] + [len(frame)]
        for name, frame in splits.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*LABEL_NAMES, "total"]).rename_axis("split")


def lengths(frame: pd.DataFrame) -> pd.DataFrame:
    """Characters per text: quantiles by label (``label, rows, p10, median, p90, longest``)."""
    characters = frame["text"].str.len()
    rows = []
    for label, name in enumerate(LABEL_NAMES):
        part = characters[frame["label"] == label]
        quantiles = part.quantile([0.1, 0.5, 0.9]).tolist() if len(part) else [float("nan")] * 3
        rows.append((name, len(part), *quantiles, float(part.max()) if len(part) else float("nan")))
    return pd.DataFrame(rows, columns=["label", "rows", "p10", "median", "p90", "longest"])


def languages(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows per language: ``lang`` (ISO 639-1, "unknown" where a source does not say), ``benign, attack, total``."""
    named = frame.assign(lang=frame["lang"].where(frame["lang"] != "", "unknown"), attack=frame["label"] != 0)
    table = pd.crosstab(named["lang"], named["attack"]).reindex(columns=[False, True], fill_value=0)
    table.columns = ["benign", "attack"]
    table["total"] = table.sum(axis=1)
    return table.sort_values(["total", "lang"], ascending=[False, True]).reset_index()


def samples(frame: pd.DataFrame, characters: int = 140, seed: int = 0) -> pd.DataFrame:
    """One text of each label and family, cut to ``characters``: ``label, family, rows, source, text``."""
    shuffled = frame.sample(frac=1, random_state=seed)
    by = shuffled.groupby(["label", "family"], as_index=False)
    one = by.first().assign(rows=by.size()["size"]).sort_values(["label", "family"])
    one["label"] = one["label"].map(dict(enumerate(LABEL_NAMES)))
    one["text"] = one["text"].str.replace(r"\s+", " ", regex=True).str.slice(0, characters)
    return one[["label", "family", "rows", "source", "text"]].reset_index(drop=True)


def overlap(removed: list[dict]) -> pd.DataFrame:
    """Benchmark rows found in the sources and removed: source (index) × benchmark (columns), with totals.

    Args:
        removed: ``removed_by_source`` of leakage.json: source, benchmark, kind (leakage.KINDS), rows.
    """
    table = pd.DataFrame(removed, columns=["source", "benchmark", "kind", "rows"])
    if table.empty:
        return pd.DataFrame({"total": []}, index=pd.Index([], name="source"))
    return table.pivot_table("rows", "source", "benchmark", "sum", fill_value=0, margins=True, margins_name="total")


def give_aways(frame: pd.DataFrame, times: np.ndarray, words: int = 20, least: int = 100) -> pd.DataFrame:
    """Words that occur in one epoch most one-sidedly in attacks: a model may learn them instead of what is said.

    Texts that hide their words (obfuscated ones) are left out; of the others the first 1,000 characters count. The idea
    is that of token-wise bias (PIGuard, arXiv 2410.22770, section 4.1), counted in the data before there is a model.

    Args:
        times: how often each row is read in the epoch, int [N]; see training.examples.repeats.
        words: so many, the most one-sided first.
        least: readings that a word must have.

    Returns:
        ``word, attack, benign`` (readings of attacks and of benign texts that hold it), ``attack_share``.
    """
    plain = (frame["source"] != OBFUSCATED).to_numpy()
    texts = frame.loc[plain, "text"].str.slice(0, 1000)
    if not texts.str.contains(r"\w").any():
        return pd.DataFrame({"word": [], "attack": [], "benign": [], "attack_share": []})
    counter = CountVectorizer(binary=True, token_pattern=r"\w+")
    found = counter.fit_transform(texts)
    attack = (frame.loc[plain, "label"] != Label.BENIGN).to_numpy()
    counts = {
        name: np.asarray(found.T @ (times[plain] * side), np.int64)
        for name, side in (("attack", attack), ("benign", ~attack))
    }
    table = pd.DataFrame({"word": counter.get_feature_names_out()} | counts)
    table = table[table["attack"] + table["benign"] >= least]
    table["attack_share"] = table["attack"] / (table["attack"] + table["benign"])
    table = table.sort_values(["attack_share", "attack", "word"], ascending=[False, False, True], ignore_index=True)
    return table.head(words)


def sources(status: list[dict]) -> pd.DataFrame:
    """What each source is, its rows (used; set aside in quarantine.jsonl) and licence, and where it was found or why it
    was not used (see sources.json).
    """
    table = pd.DataFrame(status)
    return pd.DataFrame(
        {
            "source": table["name"],
            "kind": table["kind"],
            "rows": table["rows"].map("{:,}".format).where(table["used"], "–"),
            "set aside": table["quarantined"].map("{:,}".format).where(table["used"], "–"),
            "licence": table["licence"],
            "permissive": table["permissive"].map({True: "yes", False: "no"}),
            "found": table["origin"].where(table["used"], "not used: " + table["why_not"]),
        }
    )
