"""Training rows → length-bucketed batches of windows.

Everything random is drawn from ``default_rng([seed, epoch])``: an epoch can be made again, so a resumed run sees what
an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from guardlib.config import TrainingConfig
from guardlib.data.attacks import ATTACKS
from guardlib.data.attacks.wrappers import payload_middle
from guardlib.data.generated import MADE, OBFUSCATED, WRAPPED
from guardlib.data.indirect import INDIRECT
from guardlib.data.injections import COMPOSED
from guardlib.labels import ENGLISH, Label
from guardlib.text.reading import Batch, Reader, Window, batches_by_length
from guardlib.text.views import RAW, View
from guardlib.training.planted import planted_spans, planted_tokens

_CHARS_PER_TOKEN = 7  # an excerpt this generous always fills its window
_WRITTEN = ("corpus_attacks", COMPOSED, WRAPPED)  # sources of attacks that the project wrote or put together
_OWN = ("corpus_attacks", *MADE)
_MOST_REPEATS = 6  # of one row in one epoch
_LENGTHS = (40, 700)  # characters between which a text's length counts: below, noise; above, the window is full
_PIECE = (32, 97)  # tokens of a piece of a text, from and below
_PLACES = {"start": 0.0, "middle": 0.5, "end": 1.0}  # attacks.POSITIONS of an instruction in its document
_LENGTH_STEP = 8  # lengths are rounded up to a multiple: on a CPU every new shape costs bfloat16 a compiled kernel
_BUCKET_BATCHES = 40  # batches sorted by length together; enough to leave little padding, few enough to stay shuffled


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Model input, labels int64 [B], planted int8 [B, L] (see training.planted) and rows int64 [B].

    ``rows`` are numbers of rows of the training frame, for error reports.
    """

    inputs: Batch
    labels: np.ndarray
    planted: np.ndarray
    rows: np.ndarray

    @property
    def tokens(self) -> int:
        """Tokens the model reads, padding included."""
        return self.inputs.input_ids.size


class Epoch:
    """One pass over the training frame, as windows in a fixed shuffled order of batches."""

    def __init__(self, frame: pd.DataFrame, reader: Reader, config: TrainingConfig, *, seed: int, epoch: int) -> None:
        rng = np.random.default_rng([seed, epoch])
        self._reader = reader
        self._rows = np.repeat(np.arange(len(frame)), repeats(frame, config, rng))
        self._planted = planted_spans(frame)
        self._texts = frame["text"].to_numpy()
        frame = frame.iloc[self._rows]
        self._labels = frame["label"].to_numpy(np.int64)
        self._windows = training_windows(frame, reader, rng, config)
        lengths = [-(-len(window) // _LENGTH_STEP) * _LENGTH_STEP for window in self._windows]
        self._lengths = np.minimum(lengths, reader.max_length)
        self._batches = shuffled_batches(self._lengths, config.tokens_per_batch, rng)

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def tokens(self) -> int:
        """Tokens of the whole epoch, padding included."""
        return sum(map(self.tokens_of, range(len(self))))

    def tokens_of(self, index: int) -> int:
        """Tokens of one batch, padding included."""
        rows = self._batches[index]
        return len(rows) * int(self._lengths[rows].max())

    def __getitem__(self, index: int) -> TrainingBatch:
        rows = self._batches[index]
        windows, length = [self._windows[row] for row in rows], int(self._lengths[rows].max())
        spans = [self._planted.get(row) for row in self._rows[rows]]
        planted = planted_tokens(windows, spans, self._texts[self._rows[rows]], length)
        return TrainingBatch(self._reader.collate(windows, length), self._labels[rows], planted, self._rows[rows])


def repeats(frame: pd.DataFrame, config: TrainingConfig, rng: np.random.Generator) -> np.ndarray:
    """How often each row is read in an epoch, int64 [N]: once on average; short texts and those of small sources more.

    A source (per label) of n rows gets n^source_temperature of the epoch (Conneau & Lample 2019, arXiv 1901.07291,
    section 3.1, who balance languages so): 1 takes the data as it is, 0 gives every source the same. Of transformed
    texts each kind of transform counts as a source. Generated documents, of which it takes many to learn what is wrong
    in one, count ``config.document_weight``, attacks and twins alike. Where there are attacks of real sets, those that
    were written or put together here in English count ``config.written_weight`` beside them: they are many, and of few
    styles. (Real sets have few attacks in other languages: there these are all a model has to learn from.) On top of
    that, a text of c characters counts as 1 / sqrt(c): the budget is one of tokens, and a long text has no more labels
    than a short one. Of what is in English, attacks together get ``config.attack_share`` (None: what falls to them), or
    the balance of sources would decide how readily the model flags; of what is in other languages
    ``config.attack_share_abroad``.
    At most 6 times, which is cut off last: small sets then stay a little below their share.
    """
    source = frame["source"]
    kinds = _tricks(frame).where(source == OBFUSCATED, source).fillna(source)
    sizes = frame.groupby([kinds, "label"])["label"].transform("size").to_numpy(np.float64)
    characters = frame["text"].str.len().clip(*_LENGTHS).to_numpy(np.float64)
    weights = sizes ** (config.source_temperature - 1) / np.sqrt(characters)
    attack = frame["label"].to_numpy() != Label.BENIGN
    english = frame["lang"].isin(ENGLISH).to_numpy()
    weights[source == INDIRECT] *= config.document_weight
    if (attack & ~source.isin(_OWN)).any():
        weights[attack & source.isin(_WRITTEN) & english] *= config.written_weight
    if config.attack_share is not None:
        for language, share in ((english, config.attack_share), (~english, config.attack_share_abroad)):
            _balance(weights, language, attack, share)
    weights = np.minimum(weights * (len(weights) / weights.sum()), _MOST_REPEATS)
    whole = np.floor(weights).astype(np.int64)
    return whole + (rng.random(len(whole)) < weights - whole)


def _balance(weights: np.ndarray, rows: np.ndarray, attack: np.ndarray, share: float) -> None:
    """Give attacks ``share`` of the weight of ``rows``, whose sum stays; in place. One kind alone stays as it is."""
    attacks, benign = rows & attack, rows & ~attack
    whole = weights[rows].sum()
    if attacks.any() and benign.any():
        weights[attacks] *= share * whole / weights[attacks].sum()
        weights[benign] *= (1 - share) * whole / weights[benign].sum()


def _tricks(frame: pd.DataFrame) -> pd.Series:
    """Kind of the attack that each row's family names; NaN where it names none."""
    return frame["family"].map({name: attack.kind for name, attack in ATTACKS.items()})


def training_windows(
    frame: pd.DataFrame, reader: Reader, rng: np.random.Generator, config: TrainingConfig
) -> list[Window]:
    """One window per row: of a long attack the start, where its instructions stand, of a long benign text any place.

    What says BENIGN or JAILBREAK is all over a text: ``config.piece_share`` of those are read as a piece of some dozen
    tokens, which costs less and teaches as much. An injected instruction may stand anywhere: those are read whole, and
    so are texts made in pairs, an attack and its benign twin, or length would tell the two apart. Of a generated
    document that hides an instruction and does not fit, the window is about where the instruction stands; of its twin,
    at any such place. Of a prompt that carries a hidden text it is about that text: the same words around it carry
    attacks and benign texts alike, and alone they would be examples of both.
    """
    room = reader.max_length * _CHARS_PER_TOKEN
    views = []
    documents = frame["source"] == INDIRECT
    carriers = (frame["source"] == OBFUSCATED) & (_tricks(frame) == "wrapper")
    for text, label, whole in zip(frame["text"], frame["label"], documents | carriers, strict=True):
        choices = reader.views(text[: 4 * room])
        view = choices[rng.integers(len(choices))]
        if view.hidden and rng.random() < config.raw_share:
            view = View(RAW, text, False)
        if label == Label.BENIGN and len(view.text) > room and not view.hidden and not whole:
            view = View(view.name, excerpt(text if view.name == RAW else view.text, room, rng), False)
        views.append(view if whole else View(view.name, view.text[:room], view.hidden))
    pieces = reader.tokenizer.encode([view.text for view in views])
    windows = []
    paired = frame["source"].isin((INDIRECT, OBFUSCATED, COMPOSED)) | (frame["family"] == "document")
    divisible = frame["label"].isin((Label.BENIGN, Label.JAILBREAK)) & ~paired
    places = np.where(documents, frame["family"].map(hidden_at), 0.0).astype(np.float64)
    twins = np.isnan(places)
    places[twins] = rng.choice(list(_PLACES.values()), twins.sum())
    for row in np.flatnonzero(carriers):
        before = np.searchsorted(pieces[row].spans[:, 0], payload_middle(views[row].text))
        places[row] = before / max(len(pieces[row]), 1)
    columns = zip(views, pieces, places, frame["label"], divisible, strict=True)
    for row, (view, piece, place, label, cut) in enumerate(columns):
        stop = min(len(piece), reader.room(view.hidden))
        start = round(place * (len(piece) - stop))
        stop += start
        if cut and rng.random() < config.piece_share:
            length = min(int(rng.integers(*_PIECE)), stop)
            start = int(rng.integers(stop - length + 1)) if label == Label.BENIGN else 0
            stop = start + length
        windows.append(Window(row, view, piece, start, stop))
    return windows


def hidden_at(family: str) -> float:
    """Where in its document an instruction or note of this ``family`` stands, 0 (start) to 1 (end); NaN: nowhere."""
    return _PLACES.get(family.rsplit("/", 1)[-1], math.nan)


def excerpt(text: str, room: int, rng: np.random.Generator) -> str:
    """``room`` characters from a random place of ``text``, starting at a word where one is near."""
    start = int(rng.integers(0, len(text) - room + 1))
    space = text.find(" ", start, start + 40)
    return text[space + 1 if start and space >= 0 else start :][:room]


def shuffled_batches(lengths: Sequence[int], tokens_per_batch: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Row numbers in shuffled batches of at most ``tokens_per_batch`` padded tokens, rows of like length together."""
    sizes = np.asarray(lengths)
    order = rng.permutation(len(sizes))
    bucket = max(int(_BUCKET_BATCHES * tokens_per_batch / max(sizes.mean(), 1)), 1)
    batches: list[np.ndarray] = []
    for start in range(0, len(order), bucket):
        rows = order[start : start + bucket]
        batches += [rows[group] for group in batches_by_length(sizes[rows], tokens_per_batch)]
    return [batches[i] for i in rng.permutation(len(batches))]
