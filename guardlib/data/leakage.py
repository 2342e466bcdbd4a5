"""Benchmark rows in training data: the same text, a near copy, either of them encoded, or one within a longer text."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed
from tqdm.auto import tqdm

from guardlib.data.attacks import ATTACKS, from_base64
from guardlib.data.minhash import BAR_DELAY, Index, shares_band, shingles, signatures
from guardlib.data.records import fold
from guardlib.text.decoders import apply_deletions, from_word_structure
from guardlib.text.escapes import from_escapes
from guardlib.text.invisible import strip_invisible
from guardlib.text.views import CODES

LEAK_COLUMNS = ("row", "benchmark", "example_id", "kind", "similarity")
KINDS = ("exact", "near", "decoded", "contained")
_MIN_DECODED = 8  # characters; shorter decoded scraps are chance
_FEW = 8  # different characters, or fewer, in which any two texts are near: bits, Morse; they are decoded instead
MIN_CONTAINED = 8  # words of a benchmark row; shorter ones occur in texts that know nothing of it
MAX_DECODED = 20_000  # characters
_BITS = 24  # of the table of shingles seen in a benchmark
_SHIFT = np.uint32(32 - _BITS)
_CHUNK = 4096  # forms at a time
_NESTED = 2  # codes within one another
_JOB = 2048  # texts that a worker decodes at a time, about a second

_WORD = re.compile(r"\w+")
_SEGMENT = re.compile(r"[A-Za-z0-9+/]{16,}={0,2}")
#: Digits for letters, of which 1 may be i or l: both sides are compared by what is left when all that could be meant
#: for another is the same.
_SKELETON = str.maketrans("013457@$9l|", "oieastasgii")

#: Decoders beyond the inverses of ATTACKS: tricks that occur in the sources, and those that the guard's reader undoes.
_DECODERS: tuple[Callable[[str], str], ...] = (
    lambda text: " ".join(_segments(text)),
    unquote,
    lambda text: _without_codes(from_escapes(strip_invisible(text))[0]),
    from_word_structure,
    lambda text: apply_deletions(text)[0],
)


def decoded_forms(text: str, decoders: Sequence[Callable[[str], str]] | None = None) -> list[str]:
    """What ``text`` may hide, folded: every inverse of ATTACKS and a few decoders, where they change something.

    Of a longer text, the first MAX_DECODED characters. ``decoders`` takes the place of :func:`all_decoders`.
    """
    text = text[:MAX_DECODED].strip()
    raw = fold(text)
    forms: dict[str, None] = {}
    for undo in all_decoders() if decoders is None else decoders:
        try:
            form = fold(undo(text))
        except ValueError:  # not the output of this attack
            continue
        if form != raw and len(form) >= _MIN_DECODED:
            forms[form] = None
    return list(forms)


def _segments(text: str) -> Iterator[str]:
    """What runs of base64 within ``text`` say; other runs of such letters are words and paths."""
    for segment in _SEGMENT.findall(text):
        with contextlib.suppress(ValueError):
            yield from_base64(segment)


def _without_codes(text: str) -> str:
    """``text`` with every segment that is a code of bytes as what it spells, and codes within codes."""
    for _ in range(_NESTED):
        before = text
        for _, pattern, decode in CODES:
            text = pattern.sub(lambda match, decode=decode: decode(match.group()) or match.group(), text)
        if text == before:
            break
    return text


def all_decoders() -> tuple[Callable[[str], str], ...]:
    """Every inverse of ATTACKS, as they are registered now, and a few more decoders."""
    return (*(attack.inverse for attack in ATTACKS.values() if attack.inverse), *_DECODERS)


def _words(folded: str) -> list[str]:
    """The words of a folded text, with digits for letters as letters."""
    return _WORD.findall(folded.translate(_SKELETON))


def few_characters(folded: str) -> bool:
    """Whether a text consists of so few different characters that near copies of it mean nothing."""
    return len(set(folded)) <= _FEW


def find_leaks(train: pd.DataFrame, benchmarks: pd.DataFrame, threshold: float = 0.8) -> pd.DataFrame:
    """Training rows that are, or hide, a benchmark row or a near copy of one; see :class:`LeakFinder`."""
    return LeakFinder(benchmarks, threshold).find(train)


@dataclass(frozen=True, slots=True)
class _Verdict:
    rank: int  # into KINDS
    target: int  # row of the benchmarks
    similarity: float


class LeakFinder:
    """Finds rows that are, hold or hide a row of ``benchmarks`` (``text, benchmark, example_id``), or a near copy.

    Both sides are taken as written and in every decoded form; near copies are looked for wherever at least one side is
    as written, with digits that stand for letters as those letters. Near: Jaccard similarity of 5-gram shingles of at
    least ``threshold``; candidates by LSH (a pair at 0.8 is found with probability 0.998), the similarity itself is
    exact. Forms of up to eight different characters (bits, Morse) are near to all others of their kind and are compared
    by what they decode to. Held: a benchmark row of eight words or more, as written, stands word for word within a form
    of the row (a goal that a jailbreak quotes). What is found depends on each row's text alone and is remembered by
    text, so that checking a dataset again after it was put together costs next to nothing.
    """

    def __init__(self, benchmarks: pd.DataFrame, threshold: float = 0.8, progress: bool = False) -> None:
        self._benchmarks = benchmarks
        self._threshold = threshold
        self._progress = progress
        self._targets: dict[str, tuple[int, bool]] = {}  # folded form → (benchmark row, decoded?)
        # Forms as written come first: what a row says openly counts before what it hides.
        for position, form, decoded in sorted(_forms(benchmarks["text"], progress), key=lambda item: item[2]):
            self._targets.setdefault(form, (position, decoded))
        self._written = _Targets([form for form, (_, decoded) in self._targets.items() if not decoded], threshold)
        self._hidden = _Targets([form for form, (_, decoded) in self._targets.items() if decoded], threshold)
        openings: dict[tuple[str, ...], list[tuple[list[str], str]]] = {}
        for form in (form for form, (_, decoded) in self._targets.items() if not decoded):
            words = _words(form)
            if len(words) >= MIN_CONTAINED:
                openings.setdefault(tuple(words[:MIN_CONTAINED]), []).append((words, form))
        self._openings = openings
        self._known: dict[str, _Verdict | None] = {}

    def find(self, train: pd.DataFrame) -> pd.DataFrame:
        """One row per leaking row of ``train`` (any frame with ``text``): LEAK_COLUMNS.

        ``row`` is the *position* in ``train``, ``kind`` one of KINDS (the first that applies), ``similarity`` in [0, 1]
        that to the benchmark row named (of a contained one: its share of the words).
        """
        self._learn([text for text in dict.fromkeys(train["text"]) if text not in self._known])
        rows = []
        for row, text in enumerate(train["text"]):
            if (verdict := self._known[text]) is not None:
                named = self._benchmarks.iloc[verdict.target]
                rows.append((row, named["benchmark"], named["example_id"], KINDS[verdict.rank], verdict.similarity))
        return pd.DataFrame(rows, columns=list(LEAK_COLUMNS)).astype({"row": "int64", "similarity": "float64"})

    def _learn(self, texts: list[str]) -> None:
        self._known |= dict.fromkeys(texts)
        open_forms: list[tuple[int, str, bool]] = []
        for position, form, decoded in _forms(texts, self._progress):
            if form in self._targets:
                self._note(texts[position], form, decoded, 1.0, exact=True)
            else:
                open_forms.append((position, form, decoded))
        plain = [item for item in open_forms if not item[2]]
        for forms, targets in ((open_forms, self._written), (plain, self._hidden)):
            for number, form, score in targets.near([form for _, form, _ in forms]):
                position, _, decoded = forms[number]
                self._note(texts[position], form, decoded, score, exact=False)
        for position, form, decoded in open_forms:
            if self._known[texts[position]] is None and (held := self._held(form)):
                target, share = held
                kind = KINDS.index("decoded" if decoded else "contained")
                self._known[texts[position]] = _Verdict(kind, self._targets[target][0], share)

    def _held(self, form: str) -> tuple[str, float] | None:
        """A benchmark row that stands word for word in ``form``, and its share of the words."""
        words = _words(form)
        for start in range(len(words) - MIN_CONTAINED + 1):
            for target, text in self._openings.get(tuple(words[start : start + MIN_CONTAINED]), ()):
                if words[start : start + len(target)] == target:
                    return text, len(target) / len(words)
        return None

    def _note(self, text: str, target_form: str, decoded: bool, score: float, exact: bool) -> None:
        target, target_decoded = self._targets[target_form]
        rank = 2 if decoded or target_decoded else 0 if exact else 1
        before = self._known[text]
        if before is None or (rank, -score) < (before.rank, -before.similarity):
            self._known[text] = _Verdict(rank, target, score)


class _Targets:
    """Folded texts whose near copies are looked for."""

    def __init__(self, texts: list[str], threshold: float) -> None:
        self._texts = texts = [text for text in texts if not few_characters(text)]
        self._threshold = threshold
        self._shingles = shingles([text.translate(_SKELETON) for text in texts])
        self._signed = signatures(self._shingles)
        self._seen = np.zeros(1 << _BITS, dtype=bool)
        for hashes in self._shingles:
            self._seen[hashes >> _SHIFT] = True

    def near(self, forms: list[str]) -> Iterator[tuple[int, str, float]]:
        """``(position in forms, target, similarity)``: for each form that has a near copy, one of them."""
        places, kept = [], []
        for start in range(0, len(forms), _CHUNK):
            chunk = [form.translate(_SKELETON) for form in forms[start : start + _CHUNK]]
            for place, hashes in enumerate(shingles(chunk), start=start):
                if self._could_be_near(hashes):
                    places.append(place)
                    kept.append(hashes)
        if not kept or not self._texts:
            return
        signed = signatures(kept)
        index = Index(self._threshold)
        for key in np.flatnonzero(shares_band(self._signed, signed)).tolist():
            index.add(key, self._shingles[key], self._signed[key])
        for item in np.flatnonzero(shares_band(signed, self._signed)).tolist():
            for key, score in index.near(kept[item], signed[item]):
                yield places[item], self._texts[key], score
                break  # one is enough

    def _could_be_near(self, hashes: np.ndarray) -> bool:
        """False only where no target can be near: |A∩B| ≥ t |A∪B| needs |A∩B| ≥ t |A|: most shingles must be seen."""
        missing = hashes[~self._seen[hashes >> _SHIFT]]
        # Most texts miss many, and need no exact count: these distinct ones alone are too many for all that are seen.
        if len(set(missing[:256].tolist())) > (1 / self._threshold - 1) * (len(hashes) - len(missing)):
            return False
        distinct = np.unique(hashes)
        return np.count_nonzero(self._seen[distinct >> _SHIFT]) >= self._threshold * len(distinct)


def _forms(texts: Iterable[str], progress: bool) -> Iterator[tuple[int, str, bool]]:
    """``(position, folded form, decoded?)`` of every form of every text; decoded on all cores, in order."""
    texts = list(texts)
    jobs = [texts[start : start + _JOB] for start in range(0, len(texts), _JOB)]
    workers = Parallel(n_jobs=max(min(cpu_count(), len(jobs)), 1), return_as="generator")
    decoders = all_decoders()  # handed over: a worker would not know of attacks registered outside the package
    position = 0
    results = workers(delayed(_decode)(job, decoders) for job in jobs)
    bar = tqdm(total=len(texts), desc="decoding", unit="text", delay=BAR_DELAY, disable=not progress, leave=False)
    for decoded in results:
        bar.update(len(decoded))
        for raw, forms in decoded:
            yield position, raw, False
            for form in forms:
                yield position, form, True
            position += 1
    bar.close()


def _decode(texts: list[str], decoders: Sequence[Callable[[str], str]]) -> list[tuple[str, list[str]]]:
    """Each text folded, and its decoded forms."""
    return [(fold(text), decoded_forms(text, decoders)) for text in texts]
