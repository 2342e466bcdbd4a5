"""Which way round a text runs: its words as written, or last word first.

Every word of a text with its words in reverse order is known, so a vocabulary cannot tell. Order can: "of the" runs
forward, "the of" does not. The evidence of two neighbouring words is the log odds of seeing them in ordinary text
against seeing them in the same text with its words reversed (naive Bayes, two classes), learnt from training texts.

Torch-free: the released guard runs this file.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

START, END = "^", "$"
#: A text runs backward where its evidence is at most this, and that of its reversal at least the opposite.
BACKWARD = -3.0
#: A stretch of so many neighbours (a short sentence) runs forward where its evidence is at least this.
STRETCH, FORWARD = 8, 4.0
#: So many may run forward where their evidence is at least this.
PHRASE, SOME = 5, 2.0
_TOKEN = re.compile(r"[^\W_]+|[.,?!:;]")
_INSPECTED = 1000  # characters; keeps the decision O(1)
_SIZE = 8000  # neighbours in the table, the most frequent: about 150 kB of JSON
_MIN_COUNT = 5  # fewer sightings are chance
_MIN_ODDS, _MAX_ODDS = 1.0, 3.0  # weaker evidence is noise; stronger would let one pair decide


def reverse_order(text: str) -> str:
    """``a bc d`` → ``d bc a``. Words are what single spaces separate, so that no text loses anything."""
    return " ".join(text.split(" ")[::-1])


class WordOrder:
    """Evidence by pair of neighbours, ``{"of the": 3.0, …}``; an empty table knows nothing and scores 0."""

    def __init__(self, table: Mapping[str, float]) -> None:
        self.table = dict(table)

    @classmethod
    def learn(cls, texts: Iterable[str]) -> WordOrder:
        """The table of ``texts``, most of which must run forward. Cost is linear in their length (capped per text)."""
        forward, backward = Counter[str](), Counter[str]()
        for text in texts:
            text = text[:_INSPECTED]
            forward.update(_neighbours(text))
            backward.update(_neighbours(reverse_order(text)))
        table = {}
        for pair, count in sorted((forward + backward).items(), key=lambda item: (-item[1], item[0])):
            odds = math.log((forward[pair] + 0.5) / (backward[pair] + 0.5))
            if count < _MIN_COUNT or len(table) == _SIZE:
                break
            if abs(odds) >= _MIN_ODDS:
                table[pair] = round(max(-_MAX_ODDS, min(odds, _MAX_ODDS)), 1)
        return cls(table)

    def score(self, text: str) -> float:
        """Evidence that ``text`` (its first 1,000 characters) runs forward; negative: backward."""
        return sum(self.table.get(pair, 0.0) for pair in _neighbours(text[:_INSPECTED]))

    def is_backward(self, text: str) -> bool:
        """Whether ``text`` runs backward, no stretch of it runs forward, and reversed it runs forward.

        The second keeps a sentence that runs forward from being hidden among others that run backward.
        """
        if self.score(text) > BACKWARD or self.score(reverse_order(text[:_INSPECTED])) < -BACKWARD:
            return False
        return self._strongest(text, STRETCH) < FORWARD

    def has_forward(self, text: str) -> bool:
        """Whether a few words of ``text``, which runs backward, may run forward: a sentence put beside it, say.

        Of texts that run backward throughout one in nine looks so; with an attack beside them, three in four do
        (measured on the corpus).
        """
        return self._strongest(text, PHRASE) >= SOME

    def _strongest(self, text: str, length: int) -> float:
        """The highest evidence of ``length`` neighbours in a row."""
        totals = list(itertools.accumulate((self.table.get(pair, 0.0) for pair in _neighbours(text)), initial=0.0))
        return max((after - before for before, after in zip(totals, totals[length:], strict=False)), default=0.0)


def _neighbours(text: str) -> Iterator[str]:
    """Pairs of neighbouring words and marks, lower case, with start and end; and what the first and last look like."""
    words = text.split()
    if not words:
        return
    before = START
    for token in _TOKEN.findall(text.lower()):
        yield f"{before} {token}"
        before = token
    yield f"{before} {END}"
    yield f"{START}{_look(words[0])} {_look(words[-1])}{END}"


def _look(word: str) -> str:
    """``A.``: begins with a capital, ends a sentence; ``a``: neither."""
    return ("A" if word[:1].isupper() else "a") + ("." if word[-1:] in ".?!" else "")
