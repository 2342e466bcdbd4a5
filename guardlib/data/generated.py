"""Rows made from the texts of one split: obfuscated attacks and their benign twins, and jailbreaks with a goal in them.

Everything is made after splitting, from the texts of one split alone, and keeps the group of the text it was made
from: no goal or sentence is in two splits.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from guardlib.data import attacks
from guardlib.data.attacks import ATTACKS
from guardlib.data.hard_negatives import SOURCE as HARD_NEGATIVES
from guardlib.data.indirect import INDIRECT
from guardlib.data.injections import COMPOSED
from guardlib.data.records import rng_for, rounds, to_records
from guardlib.labels import ENGLISH, HARMFUL_REQUEST, Label

OBFUSCATED, WRAPPED = "obfuscated", "wrapped"
#: Sources whose rows this package made of other rows.
MADE = (COMPOSED, HARD_NEGATIVES, INDIRECT, OBFUSCATED, WRAPPED)
MAX_HIDDEN = 200  # characters of a text that is obfuscated
MAX_WRAPPER = 600  # characters of a jailbreak that a goal is put into
#: Rows of an attack, times those of any other: wrappers are many and long, of suffixes no two look alike.
_TIMES = {"wrapper": 2 / 3, "suffix": 2}
_PLACEHOLDER = "[INSERT PROMPT HERE]"


def obfuscated(
    pool: pd.DataFrame, hard_negatives: pd.DataFrame, per_attack: int, seed: int, split: str
) -> pd.DataFrame:
    """For each attack of ATTACKS but those held out ``per_attack`` attack texts under it, times _TIMES of its kind; and
    as many benign ones.

    Attack texts: half harmful goals, a quarter each short injections and jailbreaks, and those in other languages than
    English; bare instructions, which only somebody else's document makes attacks, are none. Benign: a third each of
    short requests, hard negatives and texts in other languages. ``family`` is the attack's name on both sides. A
    wrapper says what it says in ``split``.

    Args:
        pool: records of the split with the column ``material``, plain harmful requests included.
        hard_negatives: generated ones of the same split.
    """
    short = pool[pool["text"].str.len() <= MAX_HIDDEN]
    plain = short[short["label"] != Label.OBFUSCATION]  # what is obfuscated already is not done twice
    bad = plain[plain["label"] != Label.BENIGN]
    harmful = bad["family"] == HARMFUL_REQUEST
    attack = bad[~harmful & ~bad["material"]]
    abroad = ~attack["lang"].isin(ENGLISH)
    good = plain[(plain["label"] == Label.BENIGN) & (plain["text"].str.len() >= 12)]
    trigger = good["source"].eq("corpus_hard_negatives")
    foreign = ~good["lang"].isin(ENGLISH)
    spiky = pd.concat([good[trigger], hard_negatives[hard_negatives["text"].str.len() <= MAX_HIDDEN]])
    goals = bad[harmful]
    attack_pools = [goals[::2], attack[~abroad], goals[1::2], attack[abroad]]
    benign_pools = [good[~trigger & ~foreign], spiky, good[foreign]]
    rows: list[tuple] = []
    for name, generator in ATTACKS.items():
        if generator.held_out:
            continue
        count = round(per_attack * _TIMES.get(generator.kind, 1))
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


def wrapped(pool: pd.DataFrame, count: int, seed: int, split: str) -> pd.DataFrame:
    """At most ``count`` jailbreaks that carry a harmful goal: a short jailbreak of the split, a goal of the split.

    Wei et al., "Jailbroken: How Does LLM Safety Training Fail?", 2023 (arXiv 2307.02483), section 3: personas, refusal
    suppression, prefixes and the like, whatever the split's jailbreaks are.

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
    for place, chosen in zip(rounds(len(jailbreaks), count, rng), rounds(len(goals), count, rng), strict=True):
        wrapper, goal = jailbreaks.iloc[place], goals["text"].iat[chosen]
        text = wrapper["text"]
        joint = str(rng.choice(["\n\n", "\n", " "]))
        text = text.replace(_PLACEHOLDER, goal) if _PLACEHOLDER in text else f"{text}{joint}{goal}"
        rows.append(
            (text, int(Label.JAILBREAK), WRAPPED, wrapper["family"], int(wrapper["group"]), wrapper["lang"], split)
        )
    return to_records(rows)
