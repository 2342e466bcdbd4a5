"""Text hidden by every registered attack generator, attacks and benign text under the same transform.

What runs is what :data:`guardlib.data.attacks.ATTACKS` holds: a generator registered there is a row here. FlipAttack's,
bare and wrapped, CodeChameleon's, and those that nothing is trained on are benchmarks of their own. Words that a
generator adds are those that are never trained on.
"""

from __future__ import annotations

import pandas as pd

from guardlib.data import attacks
from guardlib.data.records import SourceError
from guardlib.evaluation.benchmarks import CORPUS_LICENCE, Context, benchmark
from guardlib.labels import HARMFUL_REQUEST, Label

#: Base texts per label and transform: there are many transforms; those with a wrapper make long texts. The few flips
#: are the field's own measure: every goal, and as many benign texts.
_FLIPPED, _TRANSFORMED, _WRAPPED, _INJECTED, _UNMET = 600, 150, 40, 60, 60
#: Characters that nearly all harmful goals keep to: a code makes texts long, and length must not tell the two apart.
_GOAL_LENGTH = 150
HIDDEN_GOALS = "a harmful goal (AdvBench, held-out corpus) under the transform, not benign text under the same one"
HIDDEN_LICENCE = f"MIT (AdvBench, JailbreakBench), Apache-2.0 (deepset); {CORPUS_LICENCE}"
ENCODED = "encoded"


def attacks_of(kind: str, paper: str = "") -> list[str]:
    """Names of the attacks of ``kind`` that training uses and that cite ``paper``."""
    return [name for name, attack in _trained().items() if attack.kind == kind and paper in attack.citation]


def _trained() -> dict[str, attacks.Attack]:
    return {name: attack for name, attack in attacks.ATTACKS.items() if not attack.held_out}


def variant_of(name: str) -> str:
    """``flip_fcw`` → ``FCW``, ``wrapped_fmm`` → ``FMM wrapped``; CodeChameleon's lose its name; others stay."""
    if name.startswith("flip_"):
        return name.removeprefix("flip_").upper()
    if name.startswith("wrapped_"):
        return f"{name.removeprefix('wrapped_').upper()} wrapped"
    return name.removeprefix("codechameleon_")


def _bases(context: Context, injections: bool = False) -> pd.DataFrame:
    """Texts to hide, none of them in training: attacks (label 1) and benign text (label 0), with their family.

    The attacks are harmful goals, or injections: those that order a model about.
    """
    deepset, behaviors = context.source_if_any("deepset"), context.source_if_any("jbb_behaviors")
    if injections:
        written = context.corpus("attacks")
        hidden = {
            "deepset_injection": deepset[deepset["label"] == Label.DIRECT_INJECTION],
            "corpus_injection": written[written["label"] == Label.DIRECT_INJECTION],
        }
    else:
        goals = context.corpus("goals")
        hidden = {
            "advbench_goal": context.source_if_any("advbench"),
            "corpus_goal": goals[goals["family"] == HARMFUL_REQUEST],
        }
    parts = hidden | {
        "jbb_benign": behaviors[behaviors["split"] == "benign"],
        "deepset_benign": deepset[deepset["label"] == Label.BENIGN],
        "corpus_benign": context.corpus("benign"),
        "corpus_hard_negative": context.corpus("hard_negatives"),
    }
    rows = pd.concat([part.assign(family=family) for family, part in parts.items() if len(part)], ignore_index=True)
    attack = rows["family"].isin(hidden)
    return rows.assign(label=attack.astype("int64")).drop_duplicates("text")


def _transformed(
    context: Context,
    variants: dict[str, str],
    at_most: int | None = None,
    injections: bool = False,
    longest: int | None = None,
) -> pd.DataFrame:
    """Every base text under every transform (variant → attack name); texts that one leaves as they are drop out.

    ``at_most``: base texts per label, the same ones under each transform; ``longest``: characters of a base text.
    """
    bases = _bases(context, injections)
    if longest is not None:
        bases = bases[bases["text"].str.len() <= longest]
    if at_most is not None:
        rng = context.rng("transforms", "bases")
        parts = [part.iloc[rng.permutation(len(part))[:at_most]] for _, part in bases.groupby("label")]
        bases = pd.concat(parts, ignore_index=True)
    frames = []
    for variant, name in variants.items():
        # A generator per text: no row depends on which other texts could be had.
        texts = [attacks.apply(name, text, context.rng(name, text), wording="held_out") for text in bases["text"]]
        label = bases["label"] * int(attacks.ATTACKS[name].label)
        frame = bases.assign(base=bases["text"], text=texts, variant=variant, label=label)
        frames.append(frame[frame["text"] != frame["base"]])
    return pd.concat(frames, ignore_index=True)


def _named(names: list[str]) -> dict[str, str]:
    """Variant → attack name; SourceError where there are none."""
    if not names:
        raise SourceError("no attack generator of this kind is registered in guardlib.data.attacks")
    return {variant_of(name): name for name in names}


@benchmark(
    "flipattack",
    measures="FlipAttack on bare text: word order (FWO), characters in words (FCW), all characters (FCS; FMM's is "
    "the same text).",
    licence=HIDDEN_LICENCE,
    positive=HIDDEN_GOALS,
    paired=True,
    over_defence=ENCODED,
)
def flipattack(context: Context) -> pd.DataFrame:
    return _transformed(context, _named(attacks_of("flip")), _FLIPPED)


@benchmark(
    "flipattack_wrapped",
    measures="FlipAttack with its prompt that says how to flip back, all four modes, in wording never trained on.",
    licence=HIDDEN_LICENCE,
    positive=HIDDEN_GOALS,
    paired=True,
    over_defence=ENCODED,
)
def flipattack_wrapped(context: Context) -> pd.DataFrame:
    return _transformed(context, _named(attacks_of("wrapper", "FlipAttack")), _WRAPPED)


@benchmark(
    "codechameleon",
    measures="CodeChameleon: the goal encrypted by a rule, the decryption in the prompt as code or as text; in wording "
    "never trained on.",
    licence=HIDDEN_LICENCE,
    positive=HIDDEN_GOALS,
    paired=True,
    over_defence=ENCODED,
)
def codechameleon(context: Context) -> pd.DataFrame:
    return _transformed(context, _named(attacks_of("wrapper", "CodeChameleon")), _WRAPPED)


@benchmark(
    "transforms",
    measures="Text hidden by an encoding, a character trick, split into pieces or before noise: every other attack "
    "that training uses.",
    licence=HIDDEN_LICENCE,
    positive=HIDDEN_GOALS,
    paired=True,
    over_defence=ENCODED,
)
def transforms(context: Context) -> pd.DataFrame:
    elsewhere = {*attacks_of("flip"), *attacks_of("wrapper", "FlipAttack"), *attacks_of("wrapper", "CodeChameleon")}
    return _transformed(context, _named([name for name in _trained() if name not in elsewhere]), _TRANSFORMED)


@benchmark(
    "hidden_injections",
    measures="Prompt injections, not harmful goals, under every transform of training but those that wrap a text in a "
    "prompt.",
    licence=HIDDEN_LICENCE,
    positive="an injection (deepset test, held-out corpus) under the transform, not benign text under the same one",
    paired=True,
    benign_elsewhere=True,
)
def hidden_injections(context: Context) -> pd.DataFrame:
    names = [name for name in _trained() if name not in attacks_of("wrapper")]
    return _transformed(context, _named(names), _INJECTED, injections=True)


@benchmark(
    "unmet_transforms",
    measures="Short text in codes that nothing is trained on and no rule unfolds: Caesar, braille, pig Latin….",
    licence=HIDDEN_LICENCE,
    positive=HIDDEN_GOALS,
    paired=True,
    derived=True,
    over_defence="in unmet codes",
)
def unmet_transforms(context: Context) -> pd.DataFrame:
    names = [name for name, attack in attacks.ATTACKS.items() if attack.held_out]
    return _transformed(context, _named(names), _UNMET, longest=_GOAL_LENGTH)
