"""Two vocabularies made one: each teacher token's place in the student's, and the teacher's logits moved there.

Legend: N positions, T teacher tokens, V student tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from guardlib.distillation.errors import PairError

MIN_COVERAGE = 0.2  # of the text's teacher tokens that the student has as one token too
_BEFORE = "\n"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# The last that a token has counts: GPT-2's one token is start, end and unknown, and what a text needs is its end.
_ROLES = ("unk_token_id", "pad_token_id", "bos_token_id", "eos_token_id")


@dataclass(frozen=True, slots=True)
class VocabularyMap:
    """``student_of_teacher`` int64 [T]: the student token a teacher token begins with, −1 for none.

    ``exact`` bool [T]: the two are the same text. ``student_size`` is V.
    """

    student_of_teacher: np.ndarray
    exact: np.ndarray
    student_size: int

    def coverage(self, teacher_ids: np.ndarray) -> dict[str, float]:
        """Shares of the vocabulary and of a text (``teacher_ids``: its tokens) with a place in the student's."""
        mapped, ids = self.student_of_teacher >= 0, np.asarray(teacher_ids)
        return {
            "vocabulary_exact": float(self.exact.mean()),
            "vocabulary_mapped": float(mapped.mean()),
            "text_exact": float(self.exact[ids].mean()) if len(ids) else 0.0,
            "text_mapped": float(mapped[ids].mean()) if len(ids) else 0.0,
        }


def align_vocabularies(teacher, student, teacher_size: int, student_size: int) -> VocabularyMap:
    """Match tokens by the bytes they stand for; special tokens by their role.

    A teacher token that the student lacks takes the student token that the student's own tokenizer begins its text
    with: that is what the student has to say next to go the same way. (Of what is no text by itself, part of a letter
    say, the longest student token it begins with.) The sizes are those of the models' output: rows beyond the tokenizer
    (padding) are matched by nothing, and tokens beyond the rows (added, but never given a row) match nothing.
    """
    student_ids: dict[bytes, int] = {}
    for index, text in sorted(token_bytes(student).items(), reverse=True):
        if index < student_size:
            student_ids[text] = index  # of several with the same bytes, the first
    spelt = {index: text for text, index in student_ids.items()}
    longest = max(map(len, student_ids), default=0)
    place, exact = np.full(teacher_size, -1, np.int64), np.zeros(teacher_size, bool)
    for index, text in token_bytes(teacher).items():
        if index < teacher_size and text:
            exact[index] = text in student_ids
            begins = None if exact[index] else _first_token(student, text)
            if spelt.get(begins) and text.startswith(spelt[begins]):  # no special token, nor another spelling
                place[index] = begins
                continue
            prefixes = (text[:length] for length in range(min(len(text), longest), 0, -1))
            place[index] = next((student_ids[prefix] for prefix in prefixes if prefix in student_ids), -1)
    for role in _ROLES:
        ours, theirs = getattr(teacher, role, None), getattr(student, role, None)
        if ours is not None and theirs is not None and ours < teacher_size and theirs < student_size:
            place[ours], exact[ours] = theirs, True
    return VocabularyMap(place, exact, student_size)


def _first_token(tokenizer, text: bytes) -> int | None:
    """The token that ``tokenizer`` begins ``text`` with inside a longer text; None where that does not tell.

    Read after the end of a line: at the start of all, some put a blank before the first word.
    """
    try:
        texts = [_BEFORE, _BEFORE + text.decode()]
    except UnicodeDecodeError:
        return None
    before, both = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return both[len(before)] if both[: len(before)] == before and len(both) > len(before) else None


def token_bytes(tokenizer) -> dict[int, bytes]:
    """The bytes that each token adds to a text; special tokens are left out.

    Knows byte-level BPE (GPT-2's alphabet, "Ġ"), SentencePiece ("▁", "<0x0A>") and WordPiece ("##").
    """
    vocabulary = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids)
    names = [token for token, index in vocabulary.items() if index not in special]
    if any("Ġ" in name for name in names):
        alphabet = _byte_alphabet()
        read = lambda token: bytes(alphabet[c] for c in token) if set(token) <= alphabet.keys() else token.encode()  # noqa: E731
    elif any("▁" in name for name in names):
        read = _sentence_piece
    else:
        read = lambda token: token[2:].encode() if token.startswith("##") else b" " + token.encode()  # noqa: E731
    return {vocabulary[name]: read(name) for name in names}


def _sentence_piece(token: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte (Radford et al. 2019, ``bytes_to_unicode``), reversed."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def check_coverage(mapping: VocabularyMap, teacher_ids: np.ndarray) -> dict[str, float]:
    """The map's coverage; PairError where teacher and student hardly share a word."""
    coverage = mapping.coverage(teacher_ids)
    if coverage["text_exact"] < MIN_COVERAGE:
        raise PairError(
            f"the student's vocabulary has {coverage['text_exact']:.1%} of the text's teacher tokens; expected at "
            f"least {MIN_COVERAGE:.0%}: choose a student whose tokenizer reads the same language and case"
        )
    return coverage


class LogitProjector(nn.Module):
    """Teacher logits [N, T] → logits over the student's vocabulary [N, V], in the dtype they came in.

    Tokens that share a place add their probabilities. Summed in float32: half precision would lose the small ones.
    """

    def __init__(self, mapping: VocabularyMap) -> None:
        super().__init__()
        kept = np.flatnonzero(mapping.student_of_teacher >= 0)
        self.register_buffer("kept", torch.from_numpy(kept), persistent=False)
        self.all_kept = len(kept) == len(mapping.student_of_teacher)
        self.register_buffer("place", torch.from_numpy(mapping.student_of_teacher[kept]), persistent=False)
        self.student_size = mapping.student_size
        identity = np.arange(mapping.student_size)
        self.same = len(kept) == len(identity) == len(mapping.exact) and bool(
            (mapping.student_of_teacher == identity).all()
        )

    def forward(self, teacher_NT: Tensor) -> Tensor:
        if self.same:
            return teacher_NT
        logits = teacher_NT.float()
        highest = logits.amax(dim=-1, keepdim=True)
        shares_TN = (logits - highest).exp().T
        mass_VN = torch.zeros(self.student_size, len(logits), device=logits.device)  # whole rows add up faster
        mass_VN.index_add_(0, self.place, shares_TN if self.all_kept else shares_TN[self.kept])
        return (mass_VN.T.clamp(min=torch.finfo(torch.float32).tiny).log() + highest).to(teacher_NT.dtype)
