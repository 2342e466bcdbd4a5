"""Rows made from the texts of one split: obfuscated attacks and their benign twins, instructions hidden in documents,
and jailbreaks with a goal in them.

Everything is made after splitting, from the texts of one split alone, and keeps the group of the text it was made
from: no goal, context or sentence is in two splits.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from guardlib.data import attacks
from guardlib.data.attacks import ATTACKS, POSITIONS
from guardlib.data.hard_negatives import SOURCE as HARD_NEGATIVES
from guardlib.data.injections import COMPOSED
from guardlib.data.records import fold, rng_for, to_records
from guardlib.data.wordings import of_split
from guardlib.labels import HARMFUL_REQUEST, Label

OBFUSCATED, INDIRECT, WRAPPED = "obfuscated", "indirect", "wrapped"
#: Sources whose rows this package made of other rows.
MADE = (COMPOSED, HARD_NEGATIVES, INDIRECT, OBFUSCATED, WRAPPED)
MAX_HIDDEN = 200  # characters of a text that is obfuscated
MAX_CONTEXT = 500  # characters of a document that an instruction is hidden in
MIN_CONTEXT = 120
MAX_WRAPPER = 600  # characters of a jailbreak that a goal is put into
_USES_PER_DOCUMENT = 6
_WRAPPER_SHARE = 2 / 3  # of the rows of any other attack: there are many, and they are long
_PLACEHOLDER = "[INSERT PROMPT HERE]"

#: Documents that read like what a guarded application is handed.
_DOCUMENT_SOURCES = (
    "bipia_contexts",
    "dolly_2k",
    "salesforce_leakage_docs",
    "xquad",
    "mobileaibench_benign",
    "corpus_benign",
)

#: What somebody who hands over a document honestly asks of it. Off-topic requests would not do: inside a document
#: they are what BIPIA calls an attack.
TASKS_BEFORE = (
    "Summarise the following in two sentences.",
    "What is this about?",
    "Please proofread the text below.",
    "Here is the document, list the names it mentions:",
    "Explain this to somebody who is new to the subject:",
    "Give the text below a title.",
    "Which facts in this text should I check?",
    "tl;dr please",
    "Rewrite this in plain language:",
    "Is anything important missing here?",
    "Extract all dates and numbers from the following.",
    "Read this and wait for my question.",
    "I was sent this by a colleague. What do they want from me?",
    "Translate the text below into German.",
    "Context:",
    "Use only the text below to answer.",
    "Put the following into three bullet points:",
    "How would you classify this text?",
    "Shorten this to a third:",
    "Who are the people in this text?",
    "I have two minutes. What do I need to know from this?",
    "Put the events below into the order in which they happened.",
    "For our records: what kind of document is this?",
    "Below is a text from our archive. Suggest five keywords.",
    "Find the one sentence here that says the most:",
    "Pull every name and place out of the text that follows.",
    "Could a layperson understand this?",
    "Check the spelling of this, please.",
    "Pasting it here, tell me how it sounds:",
    "Count the sentences below.",
    "I want a neutral summary of this:",
    "Explain the difficult words in this text.",
    "Say it in simple French:",
    "What would be a good subject line for this?",
    "My question comes after the text.",
    "Help me to understand the following:",
    "Give me the gist.",
    "What does the author of this want the reader to know?",
    "Make flash cards of the following.",
    "Read on and tell me which of the claims is new.",
    "Please tidy up the formatting of this:",
    "Document 1:",
)
TASKS_AFTER = (
    "What is the main point of the text above?",
    "Please summarise this.",
    "Does the author sound sure of it?",
    "Who is this text written for?",
    "Answer in one sentence: what happened?",
    "What should I ask next about this?",
    "Make this half as long without losing a fact.",
    "List the key terms from above and explain each.",
    "Is the tone formal enough?",
    "What does the second sentence mean?",
    "Find spelling mistakes in the text above, if any.",
    "Turn this into a table.",
    "Which of these figures is the largest?",
    "Summarise the text above for a ten-year-old.",
    "Could you check the reasoning?",
    "Write three quiz questions about it.",
    "And in French, please.",
    "What is the source of this, if it says so?",
    "Which part of it can I leave out?",
    "Does it say when this was?",
    "Give me a headline for it.",
    "So what is it about?",
    "Name the three most important facts from the above.",
    "Please put this into simpler words.",
    "What follows from that?",
    "Is there a contradiction in it?",
    "That was the text. How long would it take to read aloud?",
    "Now explain it in your own words.",
    "Do the numbers add up?",
    "Write a reply of two lines.",
    "Which category would you file it under?",
    "Mark everything that sounds like an opinion.",
    "Can you say that in Polish?",
    "Draw up a short glossary.",
    "What happened first, and what came after?",
    "Was anybody named in it?",
    "How would a newspaper put this?",
    "Convert the units to metric, please.",
    "Please fix the punctuation.",
    "Anything I should be careful about when I quote it?",
    "Thanks. One paragraph on this for our newsletter, please.",
    "End of text. What does it leave open?",
)


def obfuscated(
    pool: pd.DataFrame, hard_negatives: pd.DataFrame, per_attack: int, seed: int, split: str
) -> pd.DataFrame:
    """For each attack of ATTACKS: ``per_attack`` attack texts under it (of wrappers a share), and as many benign ones.

    Attack texts: half harmful goals, half short injections and jailbreaks. Benign: a third each of short requests,
    hard negatives and texts in other languages. ``family`` is the attack's name on both sides. A wrapper says what it
    says in ``split``.

    Args:
        pool: records of the split, plain harmful requests included.
        hard_negatives: generated ones of the same split.
    """
    short = pool[pool["text"].str.len() <= MAX_HIDDEN]
    plain = short[short["label"] != Label.OBFUSCATION]  # what is obfuscated already is not done twice
    bad = plain[plain["label"] != Label.BENIGN]
    instruction = bad["family"] == "injection_goal"
    harmful = bad["family"] == HARMFUL_REQUEST
    good = plain[(plain["label"] == Label.BENIGN) & (plain["text"].str.len() >= 12)]
    trigger = good["source"].eq("corpus_hard_negatives")
    foreign = ~good["lang"].isin(["en", ""])
    spiky = pd.concat([good[trigger], hard_negatives[hard_negatives["text"].str.len() <= MAX_HIDDEN]])
    attack_pools = [bad[harmful], bad[~harmful & ~instruction]]
    benign_pools = [good[~trigger & ~foreign], spiky, good[foreign]]
    rows: list[tuple] = []
    for name, generator in ATTACKS.items():
        count = round(per_attack * _WRAPPER_SHARE) if generator.kind == "wrapper" else per_attack
        for label, pools in ((generator.label, attack_pools), (Label.BENIGN, benign_pools)):
            rng = rng_for(seed, "obfuscated", name, split, str(int(label)))
            for text, group, lang in _under(name, pools, count, rng, split):
                rows.append((text, int(label), OBFUSCATED, name, group, lang, split))
    return to_records(rows)


def _under(
    name: str, pools: list[pd.DataFrame], count: int, rng: np.random.Generator, split: str
) -> list[tuple[str, int, str]]:
    """``count`` distinct ``(transformed text, group, lang)``, evenly from the pools; fewer where the pools run dry.

    A pool that runs dry leaves its share to the others. Texts the attack does not change do not count.
    """
    shuffled = [pool.iloc[rng.permutation(len(pool))] for pool in pools]
    queues = [pool[["text", "group", "lang"]].itertuples(index=False) for pool in shuffled]
    rows, seen = [], set()
    while queues and len(rows) < count:
        for queue in list(queues):
            base = next(queue, None)
            if base is None:
                queues.remove(queue)
                continue
            text = attacks.apply(name, base.text, rng, wording=split)
            if text != base.text and text not in seen and len(rows) < count:
                seen.add(text)
                rows.append((text, int(base.group), base.lang))
    return rows


def indirect(pool: pd.DataFrame, instructions: pd.DataFrame, count: int, seed: int, split: str) -> pd.DataFrame:
    """``count`` documents with an instruction hidden at the start, middle or end (DIRECT_INJECTION), and benign twins.

    Documents are cut to MAX_CONTEXT characters first. The twin is the same text bare; where it was bare before, and for
    a part of the others, it comes with an honest request before or after it. All have the group of the document.

    Args:
        pool: records of the split; documents are taken from its benign rows.
        instructions: records of what can be hidden.
    """
    documents = pool[
        (pool["label"] == Label.BENIGN)
        & pool["source"].isin(_DOCUMENT_SOURCES)
        & (pool["text"].str.len() >= MIN_CONTEXT)
    ]
    if documents.empty or instructions.empty:
        return to_records([])
    rng = rng_for(seed, "indirect", split)
    count = min(count, _USES_PER_DOCUMENT * len(documents))
    rows: list[tuple] = []
    bare = set(documents["text"].map(fold))
    pairs = zip(_rounds(len(documents), count, rng), _rounds(len(instructions), count, rng), strict=True)
    for number, (place, chosen) in enumerate(pairs):
        document = documents.iloc[place]
        context = attacks.excerpt(document["text"], MAX_CONTEXT, rng)
        position = POSITIONS[number % len(POSITIONS)]
        attack = attacks.compose(context, instructions["text"].iat[chosen], position, rng)
        made = [(attack, Label.DIRECT_INJECTION, f"indirect/{position}")]
        seen = fold(context) in bare
        if not seen:
            bare.add(fold(context))
            made.append((context, Label.BENIGN, "document"))
        if seen or rng.random() < 0.4:
            made.append((_with_task(context, split, rng), Label.BENIGN, "document with request"))
        for text, label, family in made:
            rows.append((text, int(label), INDIRECT, family, int(document["group"]), document["lang"], split))
    return to_records(rows)


def _rounds(size: int, count: int, rng: np.random.Generator) -> list[int]:
    """``count`` of the numbers below ``size``: all of them before any comes again."""
    return np.concatenate([rng.permutation(size) for _ in range(-(-count // size))])[:count].tolist() if count else []


def _with_task(context: str, split: str, rng: np.random.Generator) -> str:
    before = rng.random() < 0.5
    tasks = of_split(TASKS_BEFORE if before else TASKS_AFTER, split)
    return attacks.compose(context, tasks[int(rng.integers(len(tasks)))], "start" if before else "end", rng)


def wrapped(pool: pd.DataFrame, count: int, seed: int, split: str) -> pd.DataFrame:
    """At most ``count`` jailbreaks that carry a harmful goal: a short jailbreak of the split, a goal of the split.

    The goal takes the place of the jailbreak's placeholder, else it follows. ``family`` and group are the jailbreak's.
    """
    jailbreaks = pool[(pool["label"] == Label.JAILBREAK) & (pool["family"] != HARMFUL_REQUEST)]
    template = jailbreaks["text"].str.contains(_PLACEHOLDER, regex=False)
    jailbreaks = jailbreaks[template | (jailbreaks["text"].str.len() <= MAX_WRAPPER)]
    goals = pool[(pool["family"] == HARMFUL_REQUEST) & (pool["text"].str.len() <= MAX_HIDDEN)]
    if jailbreaks.empty or goals.empty:
        return to_records([])
    rng = rng_for(seed, "wrapped", split)
    rows = []
    for place, chosen in zip(_rounds(len(jailbreaks), count, rng), _rounds(len(goals), count, rng), strict=True):
        wrapper, goal = jailbreaks.iloc[place], goals["text"].iat[chosen]
        text = wrapper["text"]
        joint = str(rng.choice(["\n\n", "\n", " "]))
        text = text.replace(_PLACEHOLDER, goal) if _PLACEHOLDER in text else f"{text}{joint}{goal}"
        rows.append(
            (text, int(Label.JAILBREAK), WRAPPED, wrapper["family"], int(wrapper["group"]), wrapper["lang"], split)
        )
    return to_records(rows)
