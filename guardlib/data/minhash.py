"""MinHash signatures of many texts at once, and the near copies among them (datasketch's LSH).

Similarity is the Jaccard index of the sets of character 5-grams of the folded texts. A signature slot is the least
value of an affine hash over a text's shingles (Broder 1997, "On the resemblance and containment of documents"); two
texts agree in a slot with probability equal to their similarity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from datasketch import LeanMinHash, MinHash, MinHashLSH
from scipy.cluster.hierarchy import DisjointSet
from tqdm.auto import tqdm

SHINGLE = 5  # characters
MAX_CHARACTERS = 2000  # of the folded text; bounds the cost of one row
BANDS, ROWS = 20, 6  # a pair of similarity 0.8 shares a band with probability 0.998, one of 0.5 with 0.27
SLOTS = BANDS * ROWS
_CHUNK = 1 << 17  # shingles hashed at a time: keeps the work inside the cache
_TEXT_CHUNK = 1 << 20  # characters shingled at a time
_LSH_SEED = 1
BAR_DELAY = 3.0  # seconds that something takes before a bar is shown for it
_SLACK = 0.15  # four standard deviations of the estimate that agreeing slots give at similarity 0.8


def shingles(texts: Sequence[str]) -> list[np.ndarray]:
    """uint32 hashes of the 5-grams of each *folded* text, in order, with repetition. Short texts are padded."""
    padded = [text[:MAX_CHARACTERS].ljust(SHINGLE) for text in texts]
    found: list[np.ndarray] = []
    for start, stop in _chunks([len(text) for text in padded], _TEXT_CHUNK):
        part = padded[start:stop]
        points = np.frombuffer("".join(part).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        hashed = np.zeros(len(points) - SHINGLE + 1, dtype=np.uint64)
        for offset in range(SHINGLE):
            hashed *= np.uint64(0x9E3779B97F4A7C15)
            hashed += points[offset : offset + len(hashed)]
        hashed ^= hashed >> np.uint64(29)
        hashed *= np.uint64(0xBF58476D1CE4E5B9)
        hashes = (hashed >> np.uint64(32)).astype(np.uint32)
        begin = 0
        for text in part:  # windows that reach into the next text are left out
            found.append(hashes[begin : begin + len(text) - SHINGLE + 1])
            begin += len(text)
    return found


def signatures(shingled: Sequence[np.ndarray]) -> np.ndarray:
    """MinHash signatures [N, SLOTS] uint32 of the shingles of N texts. Same input, same bytes."""
    rng = np.random.default_rng(_LSH_SEED)
    # Odd multipliers make each hash a permutation of the 2^32 values.
    multipliers = rng.integers(0, 1 << 31, SLOTS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    offsets = rng.integers(0, 1 << 32, SLOTS, dtype=np.uint32)
    result = np.empty((len(shingled), SLOTS), dtype=np.uint32)
    for start, stop in _chunks([len(hashes) for hashes in shingled], _CHUNK):
        hashes = np.concatenate(shingled[start:stop])
        begins = np.cumsum([0] + [len(part) for part in shingled[start : stop - 1]])
        for slot in range(SLOTS):
            result[start:stop, slot] = np.minimum.reduceat(hashes * multipliers[slot] + offsets[slot], begins)
    return result


def _chunks(lengths: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges whose lengths sum to at most ``limit`` (or hold one item)."""
    start, size = 0, 0
    for index, length in enumerate(lengths):
        if index > start and size + length > limit:
            yield start, index
            start, size = index, 0
        size += length
    if lengths:
        yield start, len(lengths)


def shares_band(signed: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
    """bool [N]: which signatures [N, SLOTS] share a band with one of ``others`` [M, SLOTS], or with each other.

    The very condition LSH tests, over all rows at once; most texts share none, and the index need not be asked.
    """
    shared = np.zeros(len(signed), dtype=bool)
    for band in range(BANDS):
        keys = _band_keys(signed, band)
        if others is not None:
            shared |= np.isin(keys, _band_keys(others, band))
        else:
            _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
            shared |= counts[inverse] > 1
    return shared


def _band_keys(signed: np.ndarray, band: int) -> np.ndarray:
    """One uint64 per row that is equal where the band is (and, by chance, in 1 of 2^64 other cases)."""
    keys = np.zeros(len(signed), dtype=np.uint64)
    for slot in range(band * ROWS, (band + 1) * ROWS):
        keys = (keys ^ (keys >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15) + signed[:, slot]
    return keys


class Index:
    """Texts that can be asked for their near copies. Keys are ints; candidates come from LSH, the answer is exact."""

    def __init__(self, threshold: float) -> None:
        if not 0.5 <= threshold <= 1.0:
            raise ValueError(
                f"near-duplicate threshold {threshold!r} must be between 0.5 and 1.0: below, LSH misses pairs"
            )
        self._threshold = threshold
        self._lsh = MinHashLSH(num_perm=SLOTS, params=(BANDS, ROWS))
        self._scheme = MinHash(num_perm=1).scheme
        self._texts: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, key: int, hashes: np.ndarray, signature: np.ndarray) -> None:
        """Make a text findable."""
        self._lsh.insert(key, self._wrap(signature))
        self._texts[key] = (np.unique(hashes), signature)

    def near(
        self, hashes: np.ndarray, signature: np.ndarray, wanted: Callable[[int], bool] = lambda key: True
    ) -> Iterator[tuple[int, float]]:
        """``(key, similarity)`` of each text at least as similar as the threshold, in order of key.

        ``wanted`` is asked right before a key is compared, so that an answer may depend on what was found before it.
        """
        unique = np.unique(hashes)
        for key in sorted(self._lsh.query(self._wrap(signature))):
            if not wanted(key):
                continue
            theirs, their_signature = self._texts[key]
            small, large = sorted((len(unique), len(theirs)))
            agreement = np.count_nonzero(signature == their_signature) / SLOTS
            if small < self._threshold * large or agreement < self._threshold - _SLACK:
                continue
            both = len(np.intersect1d(unique, theirs, assume_unique=True))
            if (score := both / (small + large - both)) >= self._threshold:
                yield key, score

    def _wrap(self, signature: np.ndarray) -> LeanMinHash:
        return LeanMinHash(seed=_LSH_SEED, hashvalues=signature, scheme=self._scheme)


def cluster_ids(
    folded: Sequence[str], threshold: float, owners: Sequence[int] | None = None, progress: bool = False
) -> np.ndarray:
    """Cluster number of each row: rows linked by a chain of near copies share one.

    Args:
        folded: folded texts [N].
        owners: [N] the row each text belongs to, rows numbered from 0; by default every text is a row of its own. A row
            with several texts (as written, decoded) is linked by any of them.
        progress: show a bar, where it takes longer than a moment.

    Returns:
        [rows] int64. A cluster's number is its first row, so it depends on the texts and their order alone.
    """
    owner = list(range(len(folded))) if owners is None else [int(row) for row in owners]
    linked = DisjointSet(range(max(owner, default=-1) + 1))
    shingled = shingles(folded)
    signed = signatures(shingled)
    index = Index(threshold)
    candidates = np.flatnonzero(shares_band(signed)).tolist()
    for item in tqdm(candidates, desc="clustering", unit="text", delay=BAR_DELAY, disable=not progress, leave=False):
        row = owner[item]
        # Rows linked already teach nothing: large clusters stay cheap.
        for other, _ in index.near(
            shingled[item], signed[item], lambda key, row=row: not linked.connected(owner[key], row)
        ):
            linked.merge(row, owner[other])
        index.add(item, shingled[item], signed[item])
    clusters = np.arange(len(linked), dtype=np.int64)
    for rows in linked.subsets():
        if len(rows) > 1:
            clusters[list(rows)] = min(rows)
    return clusters
