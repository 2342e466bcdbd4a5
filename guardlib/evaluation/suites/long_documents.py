"""One instruction in a long document: does a guard that reads in windows still see it, wherever it stands?"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from guardlib.data.attacks import POSITIONS, compose
from guardlib.evaluation.benchmarks import CORPUS_LICENCE, Context, benchmark
from guardlib.labels import Label

#: Length of the document → how many documents; each holds an attack in all positions, and a request in one.
DOCUMENTS = {500: 30, 1500: 10, 5000: 5}
_TOKEN = re.compile(r"\w+|[^\w\s]")
_PARTS = ("document", "web_page", "email", "business", "writing", "creative", "system_prompt")


@benchmark(
    "long_documents",
    measures="An injection at the start, middle or end of a document of 500 to 5,000 tokens (words and punctuation "
    "marks), and an ordinary request in the same document.",
    licence=f"CC BY-SA 4.0 (BIPIA's tables, code), MIT (its e-mails); {CORPUS_LICENCE}",
    positive="a document that holds an injection",
    cap_share=0.1,
)
def long_documents(context: Context) -> pd.DataFrame:
    """The variant is the length, the family the position. Rows on the same document share a group."""
    attacks, benign = context.corpus("attacks"), context.corpus("benign")
    injections = attacks[(attacks["label"] == Label.DIRECT_INJECTION) & (attacks["lang"] == "en")]
    injections = injections.loc[~injections["family"].str.startswith("indirect"), "text"].tolist()
    english = benign[benign["lang"] == "en"]
    requests = english.loc[english["family"].isin(["question", "instruction"]), "text"].tolist()
    passages = context.source_if_any("bipia_contexts")
    passages = passages.loc[passages["label"] == 0, "text"].tolist()
    passages += english.loc[english["family"].isin(_PARTS), "text"].tolist()
    rows = []
    for length, count in DOCUMENTS.items():
        for number in range(count):
            rng = context.rng("long_documents", str(length), str(number))
            document = _document(passages, length, rng)
            attack = injections[int(rng.integers(len(injections)))]
            request = requests[int(rng.integers(len(requests)))]
            said = [(attack, Label.DIRECT_INJECTION, position) for position in POSITIONS]
            said.append((request, Label.BENIGN, POSITIONS[number % len(POSITIONS)]))
            for sentence, label, position in said:
                text = compose(document, sentence, position, rng)
                rows.append((text, int(label), position, f"{length:,} tokens", "en", document))
    return pd.DataFrame(rows, columns=["text", "label", "family", "variant", "lang", "base"])


def _document(passages: list[str], length: int, rng: np.random.Generator) -> str:
    """Random passages one after the other, ``length`` tokens of them."""
    parts, tokens = [], 0
    while tokens < length:
        passage = passages[int(rng.integers(len(passages)))]
        ends = [match.end() for match in _TOKEN.finditer(passage)][: length - tokens]
        parts.append(passage[: ends[-1]])
        tokens += len(ends)
    return "\n\n".join(parts)
