"""Words that run together, and letters that stand apart. Torch-free."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Set

_LONGEST_WORD = 20  # letters; words are searched for in a run of letters up to this length
_SAMPLE = 400  # letters of a long run that decide whether it is worth splitting into words
_CASES = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[^A-Za-z]+")


def join_letters(run: str, known: Set[str], reads_better: Callable[[str, str], bool]) -> str | None:
    """``I g n o r e   a l l`` or ``I g n o r e a l l`` → ``Ignore all``."""
    gaps = re.findall(r"[\W_]+", run)
    usual = Counter(gaps).most_common(1)[0][0]
    letters = re.sub(r"[\W_]+", "", run)
    if len(set(gaps)) > 1:  # letters one way apart, words another
        between = ["" if gap == usual else " " for gap in gaps] + [""]
        words = "".join(letter + gap for letter, gap in zip(letters, between, strict=True))
        if reads_better(words, run):
            return words
    return split_words(letters, known)


def split_cases(run: str, known: Set[str]) -> str:
    """``IgnoreAllprevious1`` → ``Ignore All previous 1``: cut where the case changes, and each part if it can be."""
    return " ".join(split_words(part, known) or part for part in _CASES.findall(run))


def split_words(letters: str, known: Set[str]) -> str | None:
    """``Ignoreall`` → ``Ignore all``: as few known words as will do; None where most are short, which is chance."""
    lower = letters.lower()
    if len(lower) != len(letters):  # İ and the like
        return None
    if len(letters) > 2 * _SAMPLE and split_words(letters[:_SAMPLE], known) is None:
        return None  # the start decides, so that a megabyte of "a a a" costs nothing
    costs, lengths = [0], [0]
    for end in range(1, len(lower) + 1):
        best, length = costs[end - 1] + (2 if lower[end - 1] in "ai" else 3), 1
        for size in range(2, min(_LONGEST_WORD, end) + 1):
            cost = costs[end - size] + (3 if size == 2 else 2)
            if cost < best and lower[end - size : end] in known:
                best, length = cost, size
        costs.append(best)
        lengths.append(length)
    words, end = [], len(letters)
    while end:
        words.append(letters[end - lengths[end] : end])
        end -= lengths[end]
    if sum(len(word) for word in words if len(word) > 3) < len(letters) / 2:
        return None
    return " ".join(reversed(words))
