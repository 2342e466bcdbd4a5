"""The same text typed differently: a verdict that hangs on case or spacing does not judge its words."""

from __future__ import annotations

import re
from collections.abc import Callable

import pandas as pd

from guardlib.evaluation.benchmarks import CORPUS_LICENCE, Context, benchmark

AS_WRITTEN = "as written"
_MARKS = re.compile(r"[^\w\s]|_")

#: Changes that leave what a text says alone.
CHANGES: dict[str, Callable[[str], str]] = {
    AS_WRITTEN: lambda text: text,
    "lower case": str.lower,
    "upper case": str.upper,
    "title case": str.title,
    "double spaces": lambda text: re.sub(r"\s+", "  ", text),
    "line per clause": lambda text: re.sub(r"([.,;:!?])\s+", r"\1\n", text),
    "framed by blank lines": lambda text: f"\n\n  {text}\n\n",
    "no punctuation": lambda text: " ".join(_MARKS.sub(" ", text).split()),
    "exclamation marks": lambda text: re.sub(r"[.!?]+(?=\s|$)", "!!!", text),
}
_BASES = 100  # texts per label


@benchmark(
    "robustness",
    measures="The same text with case, whitespace and punctuation changed: how often the verdict flips.",
    licence=f"Apache-2.0 (deepset); {CORPUS_LICENCE}",
    positive="attacks of deepset's test split and the held-out corpus, however they are typed",
    derived=True,
)
def robustness(context: Context) -> pd.DataFrame:
    parts = [context.corpus(part) for part in ("attacks", "benign", "hard_negatives")]
    pool = pd.concat([context.source_if_any("deepset"), *parts], ignore_index=True).drop_duplicates("text")
    rng = context.rng("robustness")
    bases = []
    for attack in (True, False):
        rows = pool[(pool["label"] > 0) == attack]
        bases.append(rows.iloc[rng.permutation(len(rows))[:_BASES]])
    base = pd.concat(bases, ignore_index=True)
    frames = []
    for variant, change in CHANGES.items():
        rows = base.assign(base=base["text"], text=base["text"].map(change), variant=variant)
        changed = (rows["text"] != rows["base"]) & (rows["text"].str.strip() != "")
        frames.append(rows[changed] if variant != AS_WRITTEN else rows)
    return pd.concat(frames, ignore_index=True)
