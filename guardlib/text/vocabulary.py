"""The guard's vocabulary: the backbone's, pruned to what training uses, and pieces learnt for other languages.

The backbone was pretrained on English: of other scripts it knows single letters and little more. Words cut into letters
make texts long and hard to read, so the frequent parts of them become pieces of their own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.trainers import BpeTrainer

from guardlib.text.tokenizer import CONTINUED, SPECIALS, dividing_signs, sanitize

_READ = 4000  # characters of a text
_LEAST_USES = 8  # of a piece that is learnt: less is chance
_MERGES = 12  # tried for each piece: most are known, part of a longer one, or begin words without being one


def prune_vocabulary(backbone_tokenizer: Path, texts: Iterable[str], size: int) -> tuple[str, list[int]]:
    """The backbone's vocabulary, cut to the ``size`` pieces that ``texts`` use most.

    Special pieces and every single-character piece are kept whatever their use.

    Returns:
        tokenizer.json of the pruned tokenizer, and for each new id the backbone's id (its pretrained row).

    Raises:
        ValueError: ``size`` is too small for the pieces that must stay.
    """
    full = _whole(backbone_tokenizer)
    vocabulary: dict[str, int] = full.get_vocab()
    singles = sorted((p for p in vocabulary if len(p.removeprefix(CONTINUED)) == 1), key=vocabulary.__getitem__)
    if size < len(SPECIALS) + len(singles):
        raise ValueError(
            f"model.vocab_size is {size}; expected at least {len(SPECIALS) + len(singles)} "
            "(special and single-character pieces always stay)"
        )
    uses: Counter[int] = Counter()
    batch: list[str] = []
    for text in texts:
        batch.append(sanitize(text)[:_READ])
        if len(batch) == 1000:
            _count(full, batch, uses)
            batch = []
    _count(full, batch, uses)
    names = {index: piece for piece, index in vocabulary.items()}
    taken = set(singles)
    by_use = sorted(uses, key=lambda index: (-uses[index], index))
    chosen = [names[i] for i in by_use if names[i] not in taken and not names[i].startswith("[")]
    pieces = singles + chosen[: size - len(SPECIALS) - len(singles)]
    pieces.sort(key=vocabulary.__getitem__)
    rows = [vocabulary[b] for b in SPECIALS.values()] + [vocabulary[p] for p in pieces]

    config = json.loads(full.to_str())
    config["model"]["vocab"] = {piece: index for index, piece in enumerate([*SPECIALS, *pieces])}
    config["added_tokens"] = []  # "[CLS]" typed by a user is text, not a control piece
    config["post_processor"] = config["truncation"] = config["padding"] = None
    return json.dumps(config, ensure_ascii=False), rows


def learn_pieces(
    tokenizer_json: str, backbone_tokenizer: Path, texts: Sequence[str], most: int
) -> tuple[str, list[list[int]]]:
    """``tokenizer_json`` with at most ``most`` pieces more: what words of ``texts`` often have in common.

    They are merged from letters as byte-pair encoding does (Sennrich et al. 2016, arXiv 1508.07909, section 3.2). One
    that may begin a word is a whole word of ``texts``, for a vocabulary also tells what reads as language.

    Returns:
        tokenizer.json, and for each learnt piece the backbone's pieces that it stands for (its row starts as their
        mean).
    """
    config = json.loads(tokenizer_json)
    vocabulary: dict[str, int] = config["model"]["vocab"]
    pruned, full = Tokenizer.from_str(tokenizer_json), _whole(backbone_tokenizer)
    read = [sanitize(text)[:_READ] for text in texts]
    words: Counter[str] = Counter()
    for text in read:
        words.update(w for w, _ in pruned.pre_tokenizer.pre_tokenize_str(pruned.normalizer.normalize_str(text)))
    # Without a prefix for what goes on with a word: with one, the trainer breaks ties in another order each time.
    learner = Tokenizer(BPE())
    learner.normalizer, learner.pre_tokenizer = pruned.normalizer, pruned.pre_tokenizer
    trainer = BpeTrainer(vocab_size=_MERGES * most, min_frequency=_LEAST_USES, show_progress=False)
    learner.train_from_iterator(read, trainer)
    uses: Counter[str] = Counter()
    for word, parts in zip(words, learner.encode_batch(list(words)), strict=True):
        for number, part in enumerate(parts.tokens):
            uses[CONTINUED + part if number else part] += words[word]
    learnt = []
    for piece, count in sorted(uses.items(), key=lambda use: (-use[1], use[0])):
        body = piece.removeprefix(CONTINUED)
        begins = piece == body
        new_letters = piece not in vocabulary and len(body) > 1 and body.isalpha()
        if new_letters and (words[piece] if begins else count) >= _LEAST_USES:
            learnt.append(piece)
    learnt = learnt[:most]
    vocabulary.update({piece: index for index, piece in enumerate(learnt, start=len(vocabulary))})
    inner = {p.removeprefix(CONTINUED): i for p, i in full.get_vocab().items() if p.startswith(CONTINUED)}
    inner["[UNK]"] = full.token_to_id("[UNK]")
    continued = Tokenizer(WordPiece(inner, unk_token="[UNK]", continuing_subword_prefix=""))
    made_of = [
        continued.encode(piece.removeprefix(CONTINUED)).ids
        if piece.startswith(CONTINUED)
        else full.encode(piece, add_special_tokens=False).ids
        for piece in learnt
    ]
    return json.dumps(config, ensure_ascii=False), made_of


def _whole(backbone_tokenizer: Path) -> Tokenizer:
    full = dividing_signs(Tokenizer.from_file(str(backbone_tokenizer)))
    full.no_truncation()
    full.no_padding()
    return full


def _count(tokenizer: Tokenizer, batch: list[str], uses: Counter[int]) -> None:
    for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
        uses.update(encoding.ids)
