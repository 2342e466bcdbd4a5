"""Published sets as their authors meant them to be read, and the held-out part of the built-in corpus."""

from __future__ import annotations

import re

import pandas as pd

from guardlib.data.generated import MAX_WRAPPER
from guardlib.evaluation.benchmarks import ATTACK, BENIGN, CORPUS_LICENCE, Context, benchmark
from guardlib.labels import HARMFUL_REQUEST, Label


@benchmark(
    "notinject",
    measures="Over-defence: benign prompts that hold one, two or three of the words attackers like.",
    licence="MIT",
    positive="nothing: every row is benign, so accuracy is 1 - false-positive rate",
    kinds=(BENIGN,),
    over_defence="trigger words (NotInject)",
)
def notinject(context: Context) -> pd.DataFrame:
    rows = context.source("notinject")
    return rows.assign(variant=rows["split"].str.removeprefix("NotInject_"))


@benchmark(
    "deepset_test",
    measures="Direct injections among ordinary requests, English and German; the official test split.",
    licence="Apache-2.0",
    positive="label 1 of the set: the prompt tries to change what the model was told",
    over_defence="ordinary (deepset)",
)
def deepset_test(context: Context) -> pd.DataFrame:
    return context.source("deepset").assign(variant="")


@benchmark(
    "jbb_behaviors_benign",
    measures="Over-defence: benign requests on the topics of JailbreakBench's harmful ones.",
    licence="MIT",
    positive="nothing: every row is benign",
    kinds=(BENIGN,),
    over_defence="sensitive topics (JailbreakBench)",
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


#: Held-out jailbreaks, and how many of JailbreakBench's 100 harmful behaviours stand behind each. What decides a row is
#: the jailbreak: more behaviours cost time and narrow no interval.
_TEMPLATES, _BEHIND = 40, 25


@benchmark(
    "jbb_templates",
    measures="JailbreakBench's harmful behaviours behind 40 English jailbreaks of the held-out corpus, 25 behind each.",
    licence=f"MIT (behaviours); {CORPUS_LICENCE}",
    positive="every row",
    kinds=(ATTACK,),
    derived=True,
)
def jbb_templates(context: Context) -> pd.DataFrame:
    """Rows of one template share a group: its words are what decides them all. Templates take behaviours in turn."""
    behaviors, attacks = context.source("jbb_behaviors"), context.corpus("attacks")
    behaviors = behaviors[behaviors["split"] == "harmful"]
    templates = attacks[(attacks["label"] == Label.JAILBREAK) & (attacks["lang"] == "en")]
    templates = templates[templates["text"].str.len() <= MAX_WRAPPER]
    order = context.rng("jbb_templates").permutation(len(templates))[:_TEMPLATES]
    rows = templates.iloc[order].assign(base=templates["text"], variant="", template=range(len(order)))
    goals = behaviors[["text"]].rename(columns={"text": "goal"}).assign(number=range(len(behaviors)))
    rows = rows.merge(goals, how="cross")
    rows = rows[(rows["number"] - rows["template"]) % max(len(goals) // _BEHIND, 1) == 0]
    return rows.assign(text=rows["text"] + "\n\n" + rows["goal"])


@benchmark(
    "bipia",
    measures="Indirect injection: instructions placed at the start, middle or end of e-mails, tables and code, "
    "and the same documents without them.",
    licence="CC BY-SA 4.0 (tables, code), MIT (e-mails)",
    positive="a document that holds an instruction to its reader",
    over_defence="documents (BIPIA)",
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


@benchmark(
    "bipia_bare",
    measures="PIGuard's protocol for BIPIA: the instruction alone, without its document. Read alone many are harmless.",
    licence="MIT",
    positive="every row, though out of context nobody is attacked",
    kinds=(ATTACK,),
    derived=True,
)
def bipia_bare(context: Context) -> pd.DataFrame:
    return context.source("bipia_attack_strings").assign(variant="bare")


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


@benchmark(
    "wildguard_test",
    measures="WildGuardTest: adversarial prompts that ask for harm among harmless ones, some of them adversarial too.",
    licence="ODC-BY, gated",
    positive="prompt_harm_label harmful and adversarial; harmful as it stands is a harmful request, reported apart",
    over_defence="adversarial style, harmless (WildGuard)",
)
def wildguard_test(context: Context) -> pd.DataFrame:
    return context.source("wildguard_test").assign(variant="")


@benchmark(
    "toxic_chat",
    measures="ToxicChat's test split: what people asked a public chat model; few attacks among much ordinary talk.",
    licence="CC BY-NC 4.0",
    positive="jailbreaking 1; toxic and nothing more is a harmful request, reported apart",
    over_defence="chat (ToxicChat)",
)
def toxic_chat(context: Context) -> pd.DataFrame:
    return context.source("toxic_chat").assign(variant="")


@benchmark(
    "corpus_heldout",
    measures="The English part of the held-out 15 % of the built-in corpus: attacks, benign text, hard negatives.",
    licence=CORPUS_LICENCE,
    positive="direct injections and jailbreaks",
    over_defence="ordinary and triggers (corpus)",
    benign_elsewhere=True,  # in over_defence
)
def corpus_heldout(context: Context) -> pd.DataFrame:
    rows = _heldout(context)
    return rows[rows["lang"] == "en"]


@benchmark(
    "corpus_multilingual",
    measures="The held-out part of the built-in corpus that is not in English; the family is the language.",
    licence=CORPUS_LICENCE,
    positive="direct injections and jailbreaks",
    over_defence="not English (corpus)",
    benign_elsewhere=True,  # in over_defence
)
def corpus_multilingual(context: Context) -> pd.DataFrame:
    rows = _heldout(context)
    return rows[rows["lang"] != "en"].assign(family=rows["lang"])


def _heldout(context: Context) -> pd.DataFrame:
    """Held-out attacks, benign text and hard negatives of every language; the variant says which."""
    parts = ("attacks", "benign", "hard_negatives")
    return pd.concat([context.corpus(part).assign(variant=part) for part in parts], ignore_index=True)
