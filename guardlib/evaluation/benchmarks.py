"""Benchmarks: each is one registered function that builds labelled rows from sources no model here is trained on.

A benchmark says what it measures, under which licence its rows come, and what counts as positive. What cannot be had
is listed with the reason and the others run; the built-in corpus alone gives several of them. The functions
themselves are in :mod:`guardlib.evaluation.suites`; whatever they register gets its contract tests for free.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from guardlib.config import Profile
from guardlib.data.corpus import corpus_benchmark_frames
from guardlib.data.records import empty_records, fold, rng_for
from guardlib.data.sources import BENCHMARK, SourceError, load_source
from guardlib.evaluation.ranking import CLUSTER_MARK
from guardlib.labels import BENCHMARK_COLUMNS, NUM_CLASSES

ATTACK, BENIGN = "attack", "benign"


class BenchmarkError(ValueError):
    """Benchmark rows that cannot be used: wrong columns, duplicate ids, missing or unknown labels, empty texts."""


@dataclass(slots=True)
class Context:
    """What a benchmark is built from. Each source is read once; ``missed`` are those the current one went without."""

    profile: Profile
    mirror: Path | None
    missed: set[str] = field(default_factory=set)
    _read: dict[str, pd.DataFrame] = field(default_factory=dict)
    _absent: dict[str, str] = field(default_factory=dict)

    def source(self, name: str) -> pd.DataFrame:
        """The benchmark splits of a source as records; SourceError where it cannot be had."""
        if name not in self._read and name not in self._absent:
            try:
                self._read[name] = load_source(name, self.mirror, seed=self.profile.seed, roles=(BENCHMARK,)).frame
            except SourceError as error:
                self._absent[name] = str(error)
        if name in self._absent:
            self.missed.add(name)
            raise SourceError(self._absent[name])
        return self._read[name].copy()

    def source_if_any(self, name: str) -> pd.DataFrame:
        """As :meth:`source`, but no rows where it cannot be had: for benchmarks that also have other material."""
        try:
            return self.source(name)
        except SourceError:
            return empty_records()

    def corpus(self, part: str) -> pd.DataFrame:
        """The held-out rows of one part of the built-in corpus: attacks, goals, benign or hard_negatives."""
        return corpus_benchmark_frames()[part].copy()

    def rng(self, *names: str) -> np.random.Generator:
        """A generator that depends on the seed and ``names`` only: no row depends on which others were built."""
        return rng_for(self.profile.seed, "benchmark", *names)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One registered benchmark.

    Attributes:
        measures: one sentence.
        positive: what counts as an attack here, in words; "nothing" where every row is benign.
        build: context → frame with at least text, label, family, variant, lang; and ``base`` (the text or goal that a
            row was made from, by default its text), which becomes its group. SourceError: it cannot be had.
        kinds: kinds of row it promises: "attack", "benign" or both.
        paired: every variant holds both kinds: attacks and benign text under the same transform.
    """

    name: str
    measures: str
    licence: str
    positive: str
    build: Callable[[Context], pd.DataFrame]
    kinds: tuple[str, ...] = (ATTACK, BENIGN)
    paired: bool = False


BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(name: str, **facts) -> Callable:
    """Register the decorated function as benchmark ``name``; ``facts`` are the other fields of :class:`Benchmark`."""

    def register(build: Callable[[Context], pd.DataFrame]) -> Callable[[Context], pd.DataFrame]:
        if name in BENCHMARKS:
            raise ValueError(f"benchmark {name!r} is registered twice; give the second another name")
        BENCHMARKS[name] = Benchmark(name=name, build=build, **facts)
        return build

    return register


def build_benchmarks(
    profile: Profile, mirror: Path | None, names: Sequence[str] | None = None
) -> tuple[pd.DataFrame, list[dict]]:
    """All registered benchmarks (or those in ``names``) as rows, and one status row each.

    The same profile and sources give the same rows. At most ``profile.data.benchmark_rows`` rows are taken per
    benchmark, label and variant, and the same base texts in every variant, so that transforms stay comparable.

    Returns:
        ``(rows, status)``: BENCHMARK_COLUMNS, and ``{benchmark, n, n_attack, n_benign, ran, why_not, absent_sources,
        measures, licence, positive}``. ``ran`` is False, with the reason in ``why_not``, where a benchmark could not be
        built; ``absent_sources`` names sources it was built without.

    Raises:
        ValueError: a name that is not registered. BenchmarkError: a benchmark built rows that break the contract.
    """
    unknown = [name for name in names or () if name not in BENCHMARKS]
    if unknown:
        raise ValueError(f"benchmark {unknown[0]!r} does not exist; expected one of {', '.join(BENCHMARKS)}")
    context = Context(profile, mirror)
    frames, status = [], []
    for item in (BENCHMARKS[name] for name in names or BENCHMARKS):
        context.missed = set()
        try:
            rows, why_not = _finish(item.build(context), item.name, profile), ""
        except SourceError as error:
            rows, why_not = pd.DataFrame(columns=list(BENCHMARK_COLUMNS)), str(error)
        status.append(_status(item, rows, why_not, sorted(context.missed)))
        if len(rows):
            frames.append(rows)
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(BENCHMARK_COLUMNS))
    return check_benchmarks(table), status


def check_benchmarks(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows unchanged if they are benchmark rows; BenchmarkError names the first thing that is wrong otherwise."""
    missing = [column for column in BENCHMARK_COLUMNS if column not in rows.columns]
    if missing:
        raise BenchmarkError(
            f"benchmark rows lack column(s) {', '.join(missing)}; expected {', '.join(BENCHMARK_COLUMNS)}"
        )
    twice = rows.duplicated(["benchmark", "example_id"])
    if twice.any():
        raise BenchmarkError(f"example_id {rows.loc[twice, 'example_id'].iloc[0]!r} appears twice; expected unique ids")
    wrong = ~rows["label"].isin(range(NUM_CLASSES))
    if wrong.any():
        first = rows[wrong].iloc[0]
        raise BenchmarkError(
            f"label of {first.example_id!r} is {first.label}; expected an integer from 0 to {NUM_CLASSES - 1}"
        )
    empty = ~rows["text"].map(lambda text: isinstance(text, str) and bool(text.strip())).astype(bool)
    if empty.any():
        raise BenchmarkError(
            f"text of {rows.loc[empty, 'example_id'].iloc[0]!r} is empty; expected a string with words"
        )
    return rows


def paired_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of those benchmarks that hold attacks and benign text under the same transform; score or benchmark rows."""
    names = [entry.name for entry in BENCHMARKS.values() if entry.paired]
    return rows[rows["benchmark"].isin(names)]


def group_of(base: str) -> str:
    """Name of the cluster of rows made from ``base``: a hash of the folded text, the same in every benchmark."""
    return hashlib.blake2b(fold(base).encode(errors="surrogatepass"), digest_size=6).hexdigest()


def describe() -> pd.DataFrame:
    """What is registered: columns benchmark, measures, positive, licence, kinds, paired."""
    facts = ("measures", "positive", "licence", "kinds", "paired")
    return pd.DataFrame([{"benchmark": b.name} | {f: getattr(b, f) for f in facts} for b in BENCHMARKS.values()])


def _finish(rows: pd.DataFrame, name: str, profile: Profile) -> pd.DataFrame:
    """Built rows → BENCHMARK_COLUMNS: duplicates dropped, ids and groups given, capped."""
    base = rows["base"] if "base" in rows.columns else rows["text"]
    rows = rows.assign(benchmark=name, group=base.map(group_of), label=rows["label"].astype("int64"))
    rows = rows.drop_duplicates(["variant", "text"]).reset_index(drop=True)
    # Numbered before the cap, so that an example has the same id in every profile.
    rows["example_id"] = [f"{name}/{number:05d}{CLUSTER_MARK}{group}" for number, group in enumerate(rows["group"])]
    limit = profile.data.benchmark_rows
    if limit is not None:
        chance = rows["group"].map(lambda group: group_of(f"{profile.seed} {group}"))
        kept = (
            rows.assign(chance=chance).sort_values(["chance", "example_id"]).groupby(["label", "variant"]).head(limit)
        )
        rows = rows.loc[sorted(kept.index)]
    return rows[list(BENCHMARK_COLUMNS)].reset_index(drop=True)


def _status(item: Benchmark, rows: pd.DataFrame, why_not: str, absent: list[str]) -> dict:
    attacks = int((rows["label"] > 0).sum())
    return {
        "benchmark": item.name,
        "n": len(rows),
        "n_attack": attacks,
        "n_benign": len(rows) - attacks,
        "ran": len(rows) > 0,
        "why_not": why_not or ("" if len(rows) else "its sources hold no row"),
        "absent_sources": absent,
        "measures": item.measures,
        "licence": item.licence,
        "positive": item.positive,
    }


# Fills the registry. At the end, because the suites need the names above.
from guardlib.evaluation import suites  # noqa: E402, F401
