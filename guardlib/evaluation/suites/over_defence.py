"""Benign text that a guard must let pass, by kind. The over-defence table adds the benign rows of other benchmarks."""

from __future__ import annotations

import pandas as pd

from guardlib.evaluation.benchmarks import BENIGN, CORPUS_LICENCE, Context, benchmark

ORDINARY, TRIGGER, ROLE_PLAY, SECURITY, FOREIGN = (
    "ordinary",
    "trigger words",
    "role-play",
    "security work",
    "not English",
)
#: Kind → training sources it keeps rows back from, and how many.
_SOURCES = {
    ORDINARY: {"alpaca_instructions": 60, "dolly_2k": 60, "clinc150": 60, "self_instruct": 40},
    TRIGGER: {},
    ROLE_PLAY: {"awesome_chatgpt_prompts": 120, "gpteacher_roleplay": 100},
    SECURITY: {"cyberseceval_frr": 120, "cyberseceval_instruct": 60},
    FOREIGN: {"xquad": 150, "mgsm": 150},
}
_CORPUS_KINDS = {"roleplay": ROLE_PLAY, "security_work": SECURITY}


@benchmark(
    "over_defence",
    measures="Over-defence by kind of benign text: ordinary, trigger words, role-play, security work, not English.",
    licence=f"MIT, CC0-1.0, CC BY, CC BY-SA and CC BY-NC by source; {CORPUS_LICENCE}",
    positive="nothing: every row is benign",
    kinds=(BENIGN,),
    over_defence="variant",
)
def over_defence(context: Context) -> pd.DataFrame:
    """Held-out corpus rows, and rows kept back from training sources. Encoded benign text: see the transforms."""
    frames = []
    for part, usual in (("benign", ORDINARY), ("hard_negatives", TRIGGER)):
        rows = context.corpus(part)
        kind = rows["family"].map(_CORPUS_KINDS).fillna(usual)
        frames.append(rows.assign(variant=kind.where(rows["lang"] == "en", FOREIGN)))
    for kind, sources in _SOURCES.items():
        for name, count in sources.items():
            kept = context.kept_back(name, 3 * count)
            kept = kept[kept["label"] == 0]
            kept = kept[kept["lang"] != "en"] if kind == FOREIGN else kept
            frames.append(kept.head(count).assign(variant=kind, family=name))
    return pd.concat(frames, ignore_index=True)
