"""From each set's own columns to ``text, label, family, lang``. One adaptor per set or per shape of set.

An adaptor takes one split as a frame and its name, and returns a frame with ADAPTED columns. ``label`` is a
:class:`Label`, or a str: the reason why the row must be set aside. Rows a set has but that must never be used
(category ``unknown``) are simply not returned.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pandas as pd

from guardlib.data.records import FormatError, read_flag
from guardlib.labels import HARMFUL_REQUEST, Label

ADAPTED = ("text", "label", "family", "lang")
Adaptor = Callable[[pd.DataFrame, str], pd.DataFrame]

CATEGORY_LABELS = {
    "benign": Label.BENIGN,
    "direct_injection": Label.DIRECT_INJECTION,
    "jailbreak": Label.JAILBREAK,
    "obfuscation": Label.OBFUSCATION,
    HARMFUL_REQUEST: Label.JAILBREAK,  # until the policy of the run is applied
}
#: ``Run: `whoami | xz` ``: a command line asks nobody to break instructions, spelt plainly or not. As almost the only
#: texts to begin with "run", "execute" or "bypass", such rows taught that these words are an attack.
PAYLOAD = re.compile(r"\W*\w+\s*:\s*`")

#: Values of ``subset`` that say nothing about the text.
_EMPTY_SUBSETS = frozenset({"", "all", "train", "test", "val", "none", "safe"})


def require(frame: pd.DataFrame, *columns: str) -> None:
    """FormatError naming the columns expected and found, unless all of ``columns`` are there."""
    if missing := [column for column in columns if column not in frame.columns]:
        found = ", ".join(map(str, frame.columns))
        raise FormatError(f"column(s) {', '.join(missing)} missing; expected {', '.join(columns)}, found {found}")


def adapted(texts, labels, families, langs) -> pd.DataFrame:
    """The four columns as objects, so that no value is changed on the way to the quarantine check.

    Rows keep the index of ``texts``, where they have one: what is set aside is named by its place in the source.
    """
    data = dict(zip(ADAPTED, (texts, labels, families, langs), strict=True))
    index = texts.index if isinstance(texts, pd.Series) else None
    columns = {name: pd.Series(list(values), index=index, dtype=object) for name, values in data.items()}
    return pd.DataFrame(columns, columns=list(ADAPTED))


def github(
    lang: str = "",
    family: Callable[[str, str], str] | None = None,
    only: str | None = None,
    without: re.Pattern[str] | None = None,
) -> Adaptor:
    """Sets in the mirror's common schema ``text, label, category, subset, lang``.

    Args:
        lang: used where the row does not say.
        family: (category, subset) → family; by default the subset where it says something, else the category.
        only: keep this category alone.
        without: leave out attacks that begin like this.
    """

    def adapt(frame: pd.DataFrame, split: str) -> pd.DataFrame:
        require(frame, "text", "label", "category", "subset", "lang")
        keep = frame["category"] == only if only else frame["category"] != "unknown"
        if without:
            keep &= (frame["category"] == "benign") | ~frame["text"].astype("str").str.match(without)
        frame = frame[keep]
        labels = [_category_label(c, v) for c, v in zip(frame["category"], frame["label"], strict=True)]
        families = [
            (family or _default_family)(str(c), str(s)) for c, s in zip(frame["category"], frame["subset"], strict=True)
        ]
        return adapted(frame["text"], labels, families, [str(value or lang) for value in frame["lang"]])

    return adapt


def _category_label(category: object, flag: object) -> Label | str:
    attack = read_flag(flag)
    if attack is None:
        return f"label {flag!r} is neither 0 nor 1"
    if category not in CATEGORY_LABELS:
        return f"category {category!r} is not one of {', '.join(CATEGORY_LABELS)}"
    if attack == (category == "benign"):
        return f"label {flag!r} contradicts category {category!r}"
    return CATEGORY_LABELS[category]


def _default_family(category: str, subset: str) -> str:
    return category if category == HARMFUL_REQUEST or subset in _EMPTY_SUBSETS else subset


def first_part(category: str, subset: str) -> str:
    """``PAIR/black_box/gpt-3.5`` → ``PAIR``."""
    return subset.split("/")[0]


def indirect_family(category: str, subset: str) -> str:
    """``email/test/end`` → ``indirect/email/end``; FormatError where it has other than three parts."""
    parts = subset.split("/")
    if len(parts) != 3:
        raise FormatError(f"subset {subset!r}; expected kind/split/position, e.g. email/test/end")
    return f"indirect/{parts[0]}/{parts[2]}"


def bipia_instructions(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    """BIPIA's attack strings: bare, many are harmless requests (category ``unknown``). They serve for composing."""
    require(frame, "text", "label", "category", "subset", "lang")
    families = [str(subset).split("/")[-1] for subset in frame["subset"]]
    return adapted(frame["text"], [Label.DIRECT_INJECTION] * len(frame), families, ["en"] * len(frame))


def deepset(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    """``text, label`` with an integer label: 0 legitimate, 1 injection. English and German, not told apart."""
    require(frame, "text", "label")
    return _binary(frame["text"], frame["label"], Label.DIRECT_INJECTION, "prompt_injection")


def notinject(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    """``prompt, word_list, category``: all benign, each with one, two or three trigger words, as the split says."""
    require(frame, "prompt", "word_list", "category")
    langs = ["" if category == "Multilingual" else "en" for category in frame["category"]]
    return adapted(frame["prompt"], [Label.BENIGN] * len(frame), frame["category"].astype(str), langs)


def jbb_behaviors(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    """``Goal, Category`` in the splits ``harmful`` and ``benign`` (the same topics, asked with no ill intent)."""
    require(frame, "Goal", "Category")
    harmful = split == "harmful"
    label = Label.JAILBREAK if harmful else Label.BENIGN
    families = [HARMFUL_REQUEST] * len(frame) if harmful else frame["Category"].astype(str)
    return adapted(frame["Goal"], [label] * len(frame), families, ["en"] * len(frame))


def wildguardmix(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    """Adversarial and harmful → JAILBREAK; harmful as it stands → ``harmful_request``; everything else is BENIGN."""
    require(frame, "prompt", "adversarial", "prompt_harm_label", "subcategory")
    labels: list[Label | str] = []
    families = []
    columns = (frame[name] for name in ("adversarial", "prompt_harm_label", "subcategory"))
    for adversarial, harm, topic in zip(*columns, strict=True):
        harmful, disguised = read_flag(harm), read_flag(adversarial)
        if harmful is None or disguised is None:
            labels.append(f"prompt_harm_label {harm!r}, adversarial {adversarial!r}")
        else:
            labels.append(Label.JAILBREAK if harmful else Label.BENIGN)
        families.append(HARMFUL_REQUEST if harmful and not disguised else str(topic))
    return adapted(frame["prompt"], labels, families, ["en"] * len(frame))


def toxic_chat(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    """``jailbreaking`` = 1 → JAILBREAK; toxic and nothing more → ``harmful_request``; the rest BENIGN."""
    require(frame, "user_input", "jailbreaking", "toxicity")
    labels: list[Label | str] = []
    families = []
    for jailbreaking, toxicity in zip(frame["jailbreaking"], frame["toxicity"], strict=True):
        attack, toxic = read_flag(jailbreaking), read_flag(toxicity)
        if attack is None or toxic is None:
            labels.append(f"jailbreaking {jailbreaking!r}, toxicity {toxicity!r}")
        else:
            labels.append(Label.JAILBREAK if attack or toxic else Label.BENIGN)
        families.append("chat_jailbreak" if attack else HARMFUL_REQUEST if toxic else "chat")
    return adapted(frame["user_input"], labels, families, [""] * len(frame))


def _binary(texts: pd.Series, flags: pd.Series, attack: Label, family: str) -> pd.DataFrame:
    labels: list[Label | str] = []
    for value in flags:
        flag = read_flag(value)
        labels.append(f"label {value!r} is neither 0 nor 1" if flag is None else attack if flag else Label.BENIGN)
    return adapted(texts, labels, [family if label == attack else "benign" for label in labels], [""] * len(texts))
