"""Word pieces and the characters behind them.

Departures from BERT's tokenizer:

* the vocabulary is that of :mod:`.vocabulary`; every single-character piece of the backbone stays in it, so a word
  whose piece was pruned falls apart into smaller ones instead of becoming [UNK];
* signs that are no punctuation to BERT (an emoji, an arrow, a blank that counts as a letter) divide words, too: one of
  them would make all that is written together with it one [UNK];
* each piece carries the *raw* characters it covers (case, accents, look-alikes and all), so that a word outside the
  vocabulary is still read; an unknown word longer than C characters becomes several [UNK] pieces of C characters;
* one extra marker, [HIDDEN], says that the text was unfolded from something a reader would not have seen.

Torch-free: the released guard runs this file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Regex, Tokenizer
from tokenizers.pre_tokenizers import BertPreTokenizer, Split
from tokenizers.pre_tokenizers import Sequence as InTurn

from guardlib.paths import run_again

PAD, UNK, CLS, SEP, HIDDEN = 0, 1, 2, 3, 4
#: New name of each special piece and the BERT piece whose pretrained row it takes.
SPECIALS = {"[PAD]": "[PAD]", "[UNK]": "[UNK]", "[CLS]": "[CLS]", "[SEP]": "[SEP]", "[HIDDEN]": "[unused0]"}

CONTINUED = "##"  # what a piece that goes on with a word starts with

#: Signs, and blanks that Unicode calls letters (Hangul fillers).
_SIGN = Regex(r"[\p{S}\u115F\u1160\u3164\uFFA0]")

_ENDS = re.compile(r"\s|[^\w\s]")
_PART = 20_000  # characters of a text that are tokenized together
ASCII = 128  # code points below this are their own character id; the rest share the remaining buckets
_HASH = np.uint32(0x9E3779B1)  # Knuth's multiplicative constant: neighbouring code points land far apart


@dataclass(frozen=True, slots=True)
class Pieces:
    """A text as pieces: ``ids`` int64 [L], ``char_ids`` int32 [L, C], ``spans`` int64 [L, 2] (character offsets)."""

    ids: np.ndarray
    char_ids: np.ndarray
    spans: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def sanitize(text: str) -> str:
    """``text`` with lone surrogates replaced by U+FFFD; they are not Unicode text and no tokenizer takes them."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def hash_characters(code_points: np.ndarray, buckets: int) -> np.ndarray:
    """Character ids in [1, buckets): ASCII keeps its own id, everything else is hashed. uint32 [...] → int32 [...]."""
    mixed = (code_points.astype(np.uint32) * _HASH) >> np.uint32(8)
    hashed = ASCII + mixed % np.uint32(buckets - ASCII)
    return np.where(code_points < ASCII, np.maximum(code_points, 1), hashed).astype(np.int32)


class GuardTokenizer:
    """Text → :class:`Pieces`. Safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, chars_per_token: int, char_buckets: int) -> None:
        self._tokenizer = dividing_signs(tokenizer)
        self.chars_per_token = chars_per_token
        self.char_buckets = char_buckets
        self.vocab_size = tokenizer.get_vocab_size()

    @classmethod
    def load(cls, path: str | Path, chars_per_token: int, char_buckets: int) -> GuardTokenizer:
        """Read a ``tokenizer.json`` of :mod:`.vocabulary`. Raises ValueError naming the file."""
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror}); {run_again(path, '03')}") from error
        return cls.parse(raw, path, chars_per_token, char_buckets)

    @classmethod
    def parse(cls, raw: bytes, path: str | Path, chars_per_token: int, char_buckets: int) -> GuardTokenizer:
        """As :meth:`load`, from bytes that were read already; ``path`` is what an error names."""
        try:
            tokenizer = Tokenizer.from_buffer(raw)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{path} is not a tokenizer file ({error}); {run_again(path, '03')}") from error
        for name, index in zip(SPECIALS, range(len(SPECIALS)), strict=True):
            if tokenizer.token_to_id(name) != index:
                raise ValueError(f"{path}: piece {name} has id {tokenizer.token_to_id(name)}, expected {index}")
        return cls(tokenizer, chars_per_token, char_buckets)

    def words(self) -> frozenset[str]:
        """Whole words (two letters or more) of the vocabulary: what counts as readable (see :mod:`.views`)."""
        return frozenset(w for w in self._tokenizer.get_vocab() if len(w) > 1 and w.isalpha())

    def names(self) -> list[str]:
        """Every piece of the vocabulary, in order of its id."""
        vocabulary = self._tokenizer.get_vocab()
        return sorted(vocabulary, key=vocabulary.__getitem__)

    def spellings(self) -> np.ndarray:
        """Characters of every piece, as the vocabulary has it and with a capital: int32 [2, V, C]; specials: none."""
        names = [piece.removeprefix(CONTINUED) for piece in self.names()]
        names[: len(SPECIALS)] = [""] * len(SPECIALS)
        return np.stack([self._characters(names), self._characters([name.capitalize() for name in names])])

    def _characters(self, names: Sequence[str]) -> np.ndarray:
        """Character ids of short texts: int32 [len(names), C], as :meth:`encode` gives them."""
        width = self.chars_per_token
        padded = "".join(name[:width].ljust(width) for name in names).encode("utf-32-le")
        code_points = np.frombuffer(padded, dtype=np.uint32).reshape(len(names), width)
        inside = np.arange(width) < np.array([[len(name)] for name in names])
        return np.where(inside, hash_characters(code_points, self.char_buckets), 0)

    def fingerprint(self) -> str:
        """Short hash of everything that decides how a text is cut."""
        return hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()[:16]

    def encode(self, texts: Sequence[str]) -> list[Pieces]:
        """Pieces of each text, without [CLS] and [SEP]. Cost is linear in characters.

        A long text is cut into parts, one after the other: what the tokenizer tells of a token takes hundreds of bytes.
        """
        texts = [sanitize(text) for text in texts]
        short = [text for text in texts if len(text) <= _PART]
        found = map(self.pieces, short, self.cut(short))
        return [next(found) if len(text) <= _PART else self._in_parts(text) for text in texts]

    def _in_parts(self, text: str) -> Pieces:
        parts, start = [], 0
        while start < len(text):
            stop = start + _PART
            if stop < len(text):
                # After a blank or another sign, where words end; scripts without them have words of one character.
                places = (match.start() for match in _ENDS.finditer(text[start:stop][::-1]))
                stop -= next(places, 0)
            part = self.pieces(text[start:stop], self.cut([text[start:stop]])[0])
            parts.append((part.ids, part.char_ids, part.spans + start))
            start = stop
        return Pieces(*map(np.concatenate, zip(*parts, strict=True)))

    def cut(self, texts: Sequence[str]) -> list[Encoding]:
        """The word pieces of each text, without its characters; ``texts`` as :func:`sanitize` leaves them."""
        return self._tokenizer.encode_batch(texts, add_special_tokens=False)

    def pieces(self, text: str, encoding: Encoding) -> Pieces:
        """The word pieces of ``text`` with their characters."""
        width = self.chars_per_token
        ids = np.asarray(encoding.ids, dtype=np.int64)
        if not len(ids):
            return Pieces(ids, np.zeros((0, width), np.int32), np.zeros((0, 2), np.int64))
        spans = np.asarray(encoding.offsets, dtype=np.int64)
        lengths = spans[:, 1] - spans[:, 0]
        # An unknown word is as many pieces as it needs to be read in full; a known piece is one.
        repeats = np.where(ids == UNK, np.maximum(-(-lengths // width), 1), 1)
        if repeats.max() > 1:
            part = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
            ids, spans = np.repeat(ids, repeats), np.repeat(spans, repeats, axis=0)
            repeated = np.repeat(repeats, repeats)
            starts = spans[:, 0] + part * width
            spans = np.stack([starts, np.where(part == repeated - 1, spans[:, 1], starts + width)], axis=1)
        code_points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        char_ids = hash_characters(code_points, self.char_buckets)
        positions = spans[:, :1] + np.arange(width)
        inside = positions < spans[:, 1:]
        return Pieces(ids, np.where(inside, char_ids[np.minimum(positions, len(char_ids) - 1)], 0), spans)


def dividing_signs(tokenizer: Tokenizer) -> Tokenizer:
    """``tokenizer`` with every sign a word of its own."""
    tokenizer.pre_tokenizer = InTurn([Split(_SIGN, "isolated"), BertPreTokenizer()])
    return tokenizer
