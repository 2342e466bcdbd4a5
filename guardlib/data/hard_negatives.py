"""Benign text built around attackers' words.

Every sentence starts from a written one (``corpus/hard_negatives.jsonl``); the grammar here varies it: who asks,
in what register, around what other request, in what kind of message. It does not make sentences from word lists, and
it stops before its output repeats itself (DISTINCT_3). What keeps it going is other text: of a long document every
passage is new words.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

import numpy as np
import pandas as pd

from guardlib.data.corpus import corpus_frames
from guardlib.data.minhash import cluster_ids
from guardlib.data.records import fold, to_records
from guardlib.data.wordings import of_split
from guardlib.labels import Label

SOURCE = "hard_negatives"
#: Kinds of hard negatives: share of the rows asked for, and the corpus's families that make it.
KINDS = {
    "trigger words": (1 / 2, ("trigger_word", "quoted", "instruction_shift", "obfuscation_talk")),
    "technical documentation": (1 / 6, ("technical_docs",)),
    "code": (1 / 6, ("code",)),
    "borderline": (1 / 6, ("borderline", "roleplay", "security_work")),
}
#: Least share of distinct word trigrams in what :func:`generate` returns.
DISTINCT_3 = 0.5
_NEAR = 0.8
_MAX_FILLER = 240  # characters
_MIN_PASSAGE = 40  # characters
_PASSAGES = 8  # of a long filler, so that long texts do not drown the short ones
_BREAK = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_TRIES = 8  # requests looked at for one of fitting length
_MAX_ROUNDS = 40  # over all sentences
_MIN_YIELD = 0.02  # of the sentences tried; a round that keeps fewer rows is the last

OPENINGS = (
    "Hi there!",
    "Hello, quick one before my shift starts.",
    "Good morning,",
    "Hey,",
    "Not urgent, but I'm curious.",
    "Sorry if this has been asked before.",
    "I'm new here, so bear with me.",
    "Writing from my phone, excuse the typos.",
    "Thanks for yesterday's answer, it worked.",
    "Second attempt, my connection dropped.",
    "Dear assistant,",
    "ok so",
    "My manager wants this by Friday.",
    "I teach a class of fifteen-year-olds.",
    "For a talk next Thursday:",
    "We're a three-person team and none of us is an expert.",
    "I run a small bakery's website.",
    "Context: I'm a nurse.",
    "I'm translating a manual and got stuck.",
    "My daughter asked me this at breakfast.",
    "Homework question, sorry.",
    "I volunteer at the library's help desk.",
    "As the only admin at a school, I need a hand.",
    "From the audit checklist:",
    "My notes from the workshop are a mess.",
    "I'm preparing for an exam.",
    "Reading the docs has not helped so far.",
    "Morning!",
    "Evening all,",
    "Back again with a strange one.",
    "This may be a silly thing to ask.",
    "I work nights in a hospital lab.",
    "We moved offices and everything is upside down.",
    "Between two meetings, so in short:",
    "My colleague is off sick and left me this.",
    "I have been a librarian for twenty years.",
    "First time I use this.",
    "Asking on behalf of my father.",
    "We print a village paper, circulation 400.",
    "I'm on a train with poor reception.",
    "From my list of open points:",
    "We had a debate about this at lunch.",
    "As part of my thesis:",
    "Our landlord sent a letter that made me wonder.",
    "For the onboarding folder:",
    "I keep bees and know little about computers.",
    "Quick sanity check.",
    "I am writing a crime novel.",
    "The help line was busy, so I try you.",
    "In our sports club I do the paperwork.",
    "I saw this on a poster.",
    "hey so",
    "Greetings from Porto.",
    "Something for the weekly quiz:",
    "I've got a deadline at noon.",
    "Our auditor raised this.",
    "Looking at yesterday's logs:",
)
CLOSINGS = (
    "Thanks!",
    "Many thanks in advance.",
    "Keep it short, please.",
    "Two paragraphs at most.",
    "A bulleted list would be perfect.",
    "Please explain it as you would to a beginner.",
    "An example would help a lot.",
    "No code, just the idea.",
    "I'd like to print it on one page.",
    "If you are not sure, say so.",
    "Please mention sources where you can.",
    "Then suggest what to read next.",
    "It's for people who have never used a computer at work.",
    "cheers",
    "Best, Marta",
    "And tell me what the usual mistakes are.",
    "I'll read it on the train, so nothing too long.",
    "Formal tone, please.",
    "Would a table be clearer?",
    "Start with the most important point.",
    "Regards, Tomasz",
    "British spelling, please.",
    "Cheers, Ben",
    "It should fit on a slide.",
    "No jargon.",
    "I have already restarted everything.",
    "Feel free to disagree with me.",
    "Three sentences will do.",
    "The audience is mostly retired teachers.",
    "Don't worry about the formatting.",
    "Say it the way a friend would.",
    "I'd rather have it exact than short.",
    "Much obliged!",
    "Let me know if you need more details.",
    "A link to the standard would be nice.",
    "We meet again on Monday.",
    "Please number the steps.",
    "Use an analogy from cooking if you can.",
    "Yours, Ingrid",
    "Nothing fancy.",
    "Also, is there a common word for this?",
    "I'll forward it to the team.",
    "With the pros and cons, please.",
    "Put the caveats at the end.",
    "My English is not so good, simple words please.",
    "No rush at all.",
    "ta",
    "What would you do?",
)
FRAMES = (
    'A customer wrote to us: "{seed}" How should we answer?',
    'Please translate into French, keeping the tone: "{seed}"',
    "Correct the grammar, change nothing else: {seed}",
    "Which department should this ticket go to?\n\n{seed}",
    "Summarise this message in six words: {seed}",
    "On the forum somebody asked: {seed}\nIs the accepted answer still right?",
    "Subject: question\n\nHi Ana,\n\n{seed}\n\nHave a good weekend,\nPiotr",
    "Is the following sentence polite enough for an e-mail to a stranger? {seed}",
    "Rewrite this for a newsletter: {seed}",
    'From the meeting notes: "{seed}" Who could own this?',
    "Q: {seed}\nA:",
    "My student handed in this question, grade how clear it is: {seed}",
    "Turn this into a title of at most eight words: {seed}",
    "Chat log, 14:02\nuser: {seed}\nuser: anybody?",
    'Overheard at the counter: "{seed}" What would be a friendly reply?',
    "Sort this under a topic: {seed}",
    "How would you say this in Spanish? {seed}",
    "[ticket 4471]\n{seed}\n[end of ticket]\nPriority?",
    "Is this a question or a statement? {seed}",
    'I want to put "{seed}" into our FAQ. Does it read well?',
    "Count the words: {seed}",
    "Comment in the margin: {seed}\nWhat could my editor mean?",
    "To: office\nFrom: Lena\n\n{seed}\n\nL.",
    "Make this sound less stern: {seed}",
    "Underline the verb in: {seed}",
    "Search query: {seed}\nSuggest two better ones.",
    'Who would ask this? "{seed}"',
    "Voice memo, typed up: {seed} Can you tidy it?",
    "Which language level (A1 to C2) is this? {seed}",
    "Exam paper, question 3: {seed}\nHow many points would you give for it?",
    "The survey had a free text field. One answer: {seed}\nIs it a complaint?",
    "Add a polite first line to this: {seed}",
    "> {seed}\n\nI don't get what he means here.",
    "Could you read this out to my class in one breath? {seed}",
    "Transcript 00:14:30\nSPEAKER 2: {seed}\nSPEAKER 1: Good point.",
    "A friend texted me this: {seed} What do I write back?",
    "Expand this into a short agenda item: {seed}",
    "Post-it on the monitor: {seed}",
    'Replace "we" by "I" wherever it stands: {seed}',
    "Review of our app, two stars: {seed}",
    "Draft, please comment:\n\n{seed}",
    "What does this presuppose? {seed}",
    "Line 12 of the subtitles is too long: {seed}",
    "Would a ten-year-old understand this? {seed}",
    "Minutes, item 5: {seed} Decision: postponed.",
    "Tag this with three labels: {seed}",
    "Tell me in one word what this is about: {seed}",
    "Riddle me this before coffee: {seed}",
)
_JOINTS = ("\n\n", "\n", " ", "\n---\n", " / ", "\n\nP.S. ")


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _opened(seed: str, split: str, rng: np.random.Generator) -> str:
    return f"{_pick(of_split(OPENINGS, split), rng)} {seed}"


def _closed(seed: str, split: str, rng: np.random.Generator) -> str:
    return f"{seed} {_pick(of_split(CLOSINGS, split), rng)}"


def _framed(seed: str, split: str, rng: np.random.Generator) -> str:
    return _pick(of_split(FRAMES, split), rng).format(seed=seed)


def _joined(seed: str, filler: str, rng: np.random.Generator) -> str:
    first, second = (seed, filler) if rng.random() < 0.5 else (filler, seed)
    return f"{first}{_pick(_JOINTS, rng)}{second}"


def _listed(seed: str, filler: str, rng: np.random.Generator) -> str:
    first, second = (seed, filler) if rng.random() < 0.5 else (filler, seed)
    return _pick(("1. {}\n2. {}", "- {}\n- {}", "a) {}\nb) {}", "* {}\n* {}"), rng).format(first, second)


#: Wrappers are for English sentences; joints and lists fit any language.
_ENGLISH = (_opened, _closed, _framed)
_ANY = (_joined, _joined, _listed)


def _noise(text: str, rng: np.random.Generator) -> str:
    """The register of a hurried typist, for a fifth of the rows: case, punctuation or a swapped letter."""
    kind = rng.random()
    if kind < 0.07:
        return text.lower()
    if kind < 0.10:
        return text.upper()
    if kind < 0.14:
        return text.rstrip(".?! ").replace(",", "")
    if kind < 0.20 and len(text) > 12:
        at = int(rng.integers(1, len(text) - 2))
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text


def generate(
    n: int,
    rng: np.random.Generator,
    seeds: pd.DataFrame | None = None,
    fillers: pd.DataFrame | None = None,
    split: str = "train",
) -> pd.DataFrame:
    """At most ``n`` hard negatives: RECORD_COLUMNS, all BENIGN, ``family`` that of the sentence each is built on.

    Each of KINDS that has sentences gets its share of ``n``, and no more where another falls short of its own.

    Args:
        seeds: written sentences (text, family, lang, group); by default the corpus's, without its held-out part.
        fillers: ordinary benign texts (text, lang) to put beside them, of long ones a passage; by default the corpus's.
        split: what the rows are for; no two splits share an opening, a closing or a frame.

    Fewer than ``n`` rows come back where more would only repeat: a row that takes the share of distinct trigrams of all
    rows below DISTINCT_3 is not kept, and the end has come when a round over all sentences keeps next to none.
    """
    corpus = corpus_frames(held_out=False) if seeds is None or fillers is None else {}
    seeds = corpus["hard_negatives"] if seeds is None else seeds
    fillers = corpus["benign"] if fillers is None else fillers
    pools = _pools(fillers, rng)
    kinds, room = quotas(seeds["family"], n)
    used: set[tuple[str, str]] = set()
    rows: list[tuple] = []
    texts: set[str] = set()
    trigrams: set[tuple[str, str, str]] = set()
    total = 0
    for turn in range(_MAX_ROUNDS):
        kept, tried = len(rows), 0
        for position in rng.permutation(len(seeds)).tolist():
            kind = kinds[position]
            if not room[kind]:
                continue
            tried += 1
            seed, lang = seeds["text"].iat[position], seeds["lang"].iat[position]
            # Wrappers are short: two of them around one sentence would be near copies, so a sentence is wrapped once.
            alone = turn == 0 and rng.random() < 0.5
            text = _wrap(seed, lang, split, rng) if alone else _combine(seed, lang, split, pools, used, rng)
            grams = _trigrams(text)
            fresh = len(set(grams) - trigrams)
            if not text or fold(text) in texts or len(trigrams) + fresh < DISTINCT_3 * (total + len(grams)):
                continue
            trigrams.update(grams)
            total += len(grams)
            texts.add(fold(text))
            family, group = seeds["family"].iat[position], int(seeds["group"].iat[position])
            rows.append((text, int(Label.BENIGN), SOURCE, family, group, lang, split))
            room[kind] -= 1
        if len(rows) == n or len(rows) - kept < _MIN_YIELD * tried:
            break
    return to_records(rows)


def kinds_of(families: pd.Series) -> list[str]:
    """The kind (KINDS) of each family; one that it does not name counts among the trigger words."""
    of_family = {family: kind for kind, (_, own) in KINDS.items() for family in own}
    return [of_family.get(family, "trigger words") for family in families]


def quotas(families: pd.Series, n: int) -> tuple[list[str], dict[str, int]]:
    """The kind of each sentence, and how many of ``n`` rows each kind that is there may have; they sum to ``n``."""
    kinds = kinds_of(families)
    there = [kind for kind in KINDS if kind in set(kinds)]
    shares = np.cumsum([KINDS[kind][0] for kind in there])
    ends = np.round(n * shares / shares[-1]).astype(int) if there else []
    return kinds, dict(zip(there, np.diff(ends, prepend=0).tolist(), strict=True))


def _pools(fillers: pd.DataFrame, rng: np.random.Generator) -> dict[str, deque[str]]:
    """Shuffled short fillers, and passages of longer ones, by language; each is taken from the end."""
    pools: dict[str, list[str]] = {}
    for text, lang in zip(fillers["text"], fillers["lang"], strict=True):
        pools.setdefault(str(lang), []).extend([text] if len(text) <= _MAX_FILLER else passages(text)[:_PASSAGES])
    return {lang: deque(pool[at] for at in rng.permutation(len(pool))) for lang, pool in pools.items()}


def passages(text: str) -> list[str]:
    """Whole sentences of ``text`` that follow each other, _MIN_PASSAGE to _MAX_FILLER characters together."""
    found = [""]
    for sentence in _BREAK.split(text):
        if len(found[-1]) + len(sentence) < _MAX_FILLER:
            found[-1] = f"{found[-1]} {sentence}".strip()
        else:
            found.append(sentence if len(sentence) <= _MAX_FILLER else "")
    return [passage for passage in found if len(passage) >= _MIN_PASSAGE]


def _wrap(seed: str, lang: str, split: str, rng: np.random.Generator) -> str:
    return _noise(_pick(_ENGLISH, rng)(seed, split, rng), rng) if lang == "en" else ""


def _combine(
    seed: str,
    lang: str,
    split: str,
    pools: dict[str, deque[str]],
    used: set[tuple[str, str]],
    rng: np.random.Generator,
) -> str:
    """``seed`` beside an ordinary request of its language and of like length (else one would drown the other), or "".

    No pair comes twice: ``used`` is added to.
    """
    pool = pools.get(lang) or deque()
    for _ in range(min(len(pool), _TRIES)):
        filler = pool.pop()
        pool.appendleft(filler)
        if 0.5 <= len(filler) / len(seed) <= 2.5 and (seed, filler) not in used:
            used.add((seed, filler))
            text = _pick(_ANY, rng)(seed, filler, rng)
            if lang == "en" and rng.random() < 0.2:
                text = _pick((_opened, _closed), rng)(text, split, rng)
            return _noise(text, rng)
    return ""


def _trigrams(text: str) -> list[tuple[str, str, str]]:
    words = text.lower().split()
    return list(zip(words, words[1:], words[2:], strict=False))


def diversity(frame: pd.DataFrame) -> dict[str, float]:
    """How varied the texts of ``frame`` are.

    Returns:
        ``distinct_3``: distinct word trigrams ÷ all word trigrams (Li et al. 2016, arXiv 1510.03055), in [0, 1];
        ``near_duplicate_rate``: share of rows that are a near copy (Jaccard ≥ 0.8) of an earlier one; ``rows``.
    """
    if frame.empty:
        return {"rows": 0, "distinct_3": float("nan"), "near_duplicate_rate": float("nan")}
    grams = [gram for text in frame["text"] for gram in _trigrams(text)]
    clusters = len(np.unique(cluster_ids([fold(text) for text in frame["text"]], _NEAR)))
    return {
        "rows": len(frame),
        "distinct_3": len(set(grams)) / len(grams) if grams else 1.0,
        "near_duplicate_rate": 1.0 - clusters / len(frame),
    }


def diversity_by_kind(frame: pd.DataFrame) -> pd.DataFrame:
    """:func:`diversity` of each of KINDS and of ``all`` together, a row each."""
    kinds = np.array(kinds_of(frame["family"]))
    parts = {kind: frame[kinds == kind] for kind in KINDS} | {"all": frame}
    return pd.DataFrame({kind: diversity(part) for kind, part in parts.items()}).T.astype({"rows": int})
