"""The benchmarks themselves: one registered function each (see :mod:`guardlib.evaluation.benchmarks`).

A new one is a function that returns text, label, family, variant, lang and, where rows share an origin, ``base``.
"""

from __future__ import annotations

import re

import pandas as pd

from guardlib.data import attacks
from guardlib.evaluation.benchmarks import ATTACK, BENIGN, Context, benchmark
from guardlib.labels import HARMFUL_REQUEST, Label

CORPUS_LICENCE = "Apache-2.0 (hand-written, in this package)"


@benchmark(
    "notinject",
    measures="Over-defence: benign prompts that hold one, two or three of the words attackers like.",
    licence="MIT",
    positive="nothing: every row is benign, so accuracy is 1 - false-positive rate",
    kinds=(BENIGN,),
)
def notinject(context: Context) -> pd.DataFrame:
    rows = context.source("notinject")
    return rows.assign(variant=rows["split"].str.removeprefix("NotInject_"))


@benchmark(
    "deepset_test",
    measures="Direct injections among ordinary requests, English and German; the official test split.",
    licence="Apache-2.0",
    positive="label 1 of the set: the prompt tries to change what the model was told",
)
def deepset_test(context: Context) -> pd.DataFrame:
    return context.source("deepset").assign(variant="")


@benchmark(
    "jbb_behaviors_benign",
    measures="Over-defence: benign requests on the topics of JailbreakBench's harmful ones.",
    licence="MIT",
    positive="nothing: every row is benign",
    kinds=(BENIGN,),
)
def jbb_behaviors_benign(context: Context) -> pd.DataFrame:
    rows = context.source("jbb_behaviors")
    return rows[rows["split"] == "benign"].assign(variant="")


@benchmark(
    "jbb_behaviors_harmful",
    measures="Plain harmful requests, which attack nobody's instructions: reported apart, in no headline.",
    licence="MIT",
    positive="every row, as a harmful request",
    kinds=(ATTACK,),
)
def jbb_behaviors_harmful(context: Context) -> pd.DataFrame:
    rows = context.source("jbb_behaviors")
    return rows[rows["split"] == "harmful"].assign(variant="", family=HARMFUL_REQUEST, label=int(Label.JAILBREAK))


#: Methods of JailbreakBench's artifacts by the name their subset begins with.
ARTIFACT_METHODS = {"prompt_with_random_search": "random search"}


@benchmark(
    "jbb_artifacts",
    measures="Jailbreaks found by published attack methods, per method; attack success is the share not caught.",
    licence="MIT",
    positive="every row",
    kinds=(ATTACK,),
)
def jbb_artifacts(context: Context) -> pd.DataFrame:
    """Rows that hold the same goal word for word share a group; PAIR rewrites it, so there each row is its own."""
    rows = context.source("jbb_artifacts")
    rows = rows.assign(variant=rows["family"].replace(ARTIFACT_METHODS), label=int(Label.JAILBREAK))
    behaviors = context.source_if_any("jbb_behaviors")
    goals = {goal.casefold().rstrip(". "): goal for goal in behaviors.loc[behaviors["split"] == "harmful", "text"]}

    def base(text: str) -> str:
        folded = text.casefold()
        return next((goals[goal] for goal in goals if goal in folded), text)

    return rows.assign(base=rows["text"].map(base))


@benchmark(
    "bipia",
    measures="Indirect injection: instructions placed at the start, middle or end of e-mails, tables and code, "
    "and the same documents without them.",
    licence="CC BY-SA 4.0 (tables, code), MIT (e-mails)",
    positive="a document that holds an instruction to its reader",
)
def bipia(context: Context) -> pd.DataFrame:
    """Rows composed on the same document, and the document alone, share a group."""
    composed, documents = context.source("bipia_composed"), context.source("bipia_contexts")
    place = composed["family"].str.split("/", expand=True)  # indirect/<kind>/<position>
    plain = documents["text"].tolist()
    composed = composed.assign(
        family=place[1],
        variant=place[2],
        label=int(Label.DIRECT_INJECTION),
        base=_closest_documents(composed["text"], plain),
    )
    return pd.concat([composed, documents.assign(variant="untouched", base=plain)], ignore_index=True)


def _closest_documents(texts: pd.Series, documents: list[str]) -> list[str]:
    """Per text the document whose beginning and end it shares to at least 90 %, else the text itself."""
    squeezed = [re.sub(r"\s+", " ", document).strip() for document in documents]

    def closest(text: str) -> str:
        words = re.sub(r"\s+", " ", text).strip()
        shares = [_shared_ends(words, document) / max(len(document), 1) for document in squeezed]
        best = max(range(len(shares)), key=shares.__getitem__)
        return documents[best] if shares[best] >= 0.9 else text

    return [closest(text) for text in texts]


def _shared_ends(text: str, document: str) -> int:
    """Characters of ``document`` that are a common beginning or a common end with ``text``."""
    return min(len(document), _shared_beginning(text, document) + _shared_beginning(text[::-1], document[::-1]))


def _shared_beginning(a: str, b: str) -> int:
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _bases(context: Context) -> pd.DataFrame:
    """Texts to hide, none of them in training: harmful goals (label 1) and benign text (label 0), with their family."""
    goals, deepset = context.corpus("goals"), context.source_if_any("deepset")
    behaviors = context.source_if_any("jbb_behaviors")
    parts = {
        "advbench_goal": context.source_if_any("advbench"),
        "corpus_goal": goals[goals["family"] == HARMFUL_REQUEST],
        "jbb_benign": behaviors[behaviors["split"] == "benign"],
        "deepset_benign": deepset[deepset["label"] == Label.BENIGN],
        "corpus_benign": context.corpus("benign"),
        "corpus_hard_negative": context.corpus("hard_negatives"),
    }
    rows = pd.concat([part.assign(family=family) for family, part in parts.items() if len(part)], ignore_index=True)
    attack = rows["family"].isin(["advbench_goal", "corpus_goal"])
    return rows.assign(label=attack.astype("int64")).drop_duplicates("text")


def _transformed(context: Context, variants: dict[str, str], at_most: int | None = None) -> pd.DataFrame:
    """Every base text under every transform (variant → attack name); texts that one leaves as they are drop out.

    ``at_most``: base texts per label, the same ones under each transform.
    """
    bases = _bases(context)
    if at_most is not None:
        rng = context.rng("transforms", "bases")
        parts = [part.iloc[rng.permutation(len(part))[:at_most]] for _, part in bases.groupby("label")]
        bases = pd.concat(parts, ignore_index=True)
    frames = []
    for variant, name in variants.items():
        # A generator per text: no row depends on which other texts could be had.
        texts = [attacks.apply(name, text, context.rng(name, text), held_out=True) for text in bases["text"]]
        label = bases["label"] * int(attacks.ATTACKS[name].label)
        frame = bases.assign(base=bases["text"], text=texts, variant=variant, label=label)
        frames.append(frame[frame["text"] != frame["base"]])
    return pd.concat(frames, ignore_index=True)


_TRANSFORMED = 150  # base texts per label and transform: there are many transforms
_WRAPPED = 60  # likewise: these prompts are long
HIDDEN_GOALS = "a harmful goal (AdvBench, held-out corpus) under the transform, not benign text under the same one"
HIDDEN_LICENCE = f"MIT (AdvBench, JailbreakBench), Apache-2.0 (deepset); {CORPUS_LICENCE}"


@benchmark(
    "flipattack",
    measures="FlipAttack on bare text, without its wrapper: word order (FWO), characters in words (FCW), all (FCS).",
    licence=HIDDEN_LICENCE,
    positive=HIDDEN_GOALS,
    paired=True,
)
def flipattack(context: Context) -> pd.DataFrame:
    return _transformed(context, {"FWO": "flip_fwo", "FCW": "flip_fcw", "FCS": "flip_fcs"})


@benchmark(
    "transforms",
    measures="Text hidden by an encoding or a character trick, or before noise: each registered attack of the kind.",
    licence=HIDDEN_LICENCE,
    positive=HIDDEN_GOALS,
    paired=True,
)
def transforms(context: Context) -> pd.DataFrame:
    names = [name for name, attack in attacks.ATTACKS.items() if attack.kind not in ("flip", "wrapper")]
    return _transformed(context, {name: name for name in names}, at_most=_TRANSFORMED)


@benchmark(
    "wrappers",
    measures="Text hidden in a prompt that says how to read it: CodeChameleon, wrapped FlipAttack, split payloads; "
    "in wording that is never trained on.",
    licence=HIDDEN_LICENCE,
    positive=HIDDEN_GOALS,
    paired=True,
)
def wrappers(context: Context) -> pd.DataFrame:
    names = [name for name, attack in attacks.ATTACKS.items() if attack.kind == "wrapper"]
    return _transformed(context, {name: name for name in names}, at_most=_WRAPPED)


@benchmark(
    "corpus_heldout",
    measures="The English part of the held-out 15 % of the built-in corpus: attacks, benign text, hard negatives.",
    licence=CORPUS_LICENCE,
    positive="direct injections and jailbreaks",
)
def corpus_heldout(context: Context) -> pd.DataFrame:
    rows = _heldout(context)
    return rows[rows["lang"] == "en"]


@benchmark(
    "corpus_multilingual",
    measures="The held-out part of the built-in corpus that is not in English; the family is the language.",
    licence=CORPUS_LICENCE,
    positive="direct injections and jailbreaks",
)
def corpus_multilingual(context: Context) -> pd.DataFrame:
    rows = _heldout(context)
    return rows[rows["lang"] != "en"].assign(family=rows["lang"])


def _heldout(context: Context) -> pd.DataFrame:
    """Held-out attacks, benign text and hard negatives of every language; the variant says which."""
    parts = ("attacks", "benign", "hard_negatives")
    return pd.concat([context.corpus(part).assign(variant=part) for part in parts], ignore_index=True)
