"""PINT (Lakera), whose data is given on request only, and a proxy of its composition from open sets, named a proxy.

PINT's protocol reads a long text in chunks of the model's window and flags it where any chunk is flagged: the guard
and guards of the Hub read so (the guard's windows overlap), plain backbones as many windows as
``evaluation.backbone_windows`` says. Both formulas: :func:`guardlib.evaluation.breakdowns.pint_scores`.
"""

from __future__ import annotations

import pandas as pd

from guardlib.evaluation.benchmarks import CORPUS_LICENCE, Context, benchmark
from guardlib.evaluation.suites.supplied import supplied
from guardlib.labels import Label

#: PINT's published composition, in percent: injections (public and internal, taken as halves), jailbreaks, benign text
#: with attackers' words, chat, public documents.
COMPOSITION = {
    "public_prompt_injection": 2.6,
    "internal_prompt_injection": 2.6,
    "jailbreak": 0.9,
    "hard_negatives": 20.9,
    "chat": 36.5,
    "documents": 36.5,
}
_PROXY_ROWS = 1200


@benchmark(
    "pint",
    measures="PINT: injections and jailbreaks among chats, documents and benign text full of attackers' words.",
    licence="on request from Lakera",
    positive="label true of its YAML",
    over_defence="PINT",
)
def pint(context: Context) -> pd.DataFrame:
    """The variant is PINT's category. Its example file is no benchmark and is never read."""
    rows = supplied(context, "lakera/pint-benchmark", "ask Lakera for the YAML (github.com/lakeraai/pint-benchmark)")
    return rows.assign(variant=rows["family"])


@benchmark(
    "pint_proxy",
    measures="A proxy, not PINT: open text in the shares of PINT's six categories. Compares with no published figure.",
    licence=f"Apache-2.0 (deepset), MIT (JailbreakBench, NotInject), CC BY-SA 4.0 (BIPIA), others; {CORPUS_LICENCE}",
    positive="injections and jailbreaks",
    derived=True,
)
def pint_proxy(context: Context) -> pd.DataFrame:
    """Without sets besides the corpus, categories are smaller than their share; the formulas weigh them alike."""
    attacks, benign = context.corpus("attacks"), context.corpus("benign")
    deepset, documents = context.source_if_any("deepset"), context.source_if_any("bipia_contexts")
    jailbreaks = context.source_if_any("jbb_artifacts")
    chatty = benign["family"].isin(["chat", "question", "instruction", "noisy", "short", "coding", "maths"])
    pools = {
        "public_prompt_injection": [deepset[deepset["label"] > 0]],
        "internal_prompt_injection": [attacks[attacks["label"] == Label.DIRECT_INJECTION]],
        "jailbreak": [jailbreaks[jailbreaks["family"] == "JBC"], attacks[attacks["label"] == Label.JAILBREAK]],
        "hard_negatives": [context.source_if_any("notinject"), context.corpus("hard_negatives")],
        "chat": [benign[chatty], *(context.kept_back(name, 150) for name in ("dolly_2k", "clinc150", "mgsm"))],
        "documents": [
            benign[~chatty],
            documents[documents["label"] == Label.BENIGN],
            *(context.kept_back(name, 150) for name in ("salesforce_leakage_docs", "xquad")),
        ],
    }
    frames = []
    for category, parts in pools.items():
        pool = pd.concat(parts, ignore_index=True).drop_duplicates("text")
        wanted = min(round(_PROXY_ROWS * COMPOSITION[category] / 100), len(pool))
        chosen = sorted(context.rng("pint_proxy", category).choice(len(pool), wanted, replace=False))
        frames.append(pool.iloc[chosen].assign(variant=category))
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(label=rows["label"].where(rows["variant"] != "jailbreak", int(Label.JAILBREAK)))
