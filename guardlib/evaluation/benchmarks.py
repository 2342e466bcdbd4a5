"""Benchmarks: each is one registered function that builds labelled rows from sources no model here is trained on.

A benchmark says what it measures, under which licence its rows come, and what counts as positive. What cannot be had
is listed with the reason and the others run; the built-in corpus alone gives several of them. The functions
themselves are in :mod:`guardlib.evaluation.suites`; whatever they register gets its contract tests for free.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from guardlib.config import Profile
from guardlib.data.corpus import corpus_benchmark_frames
from guardlib.data.minhash import BAR_DELAY
from guardlib.data.records import FormatError, empty_records, fold, rng_for
from guardlib.data.sources import BENCHMARK, TRAIN, SourceError, SourceResult, load_source
from guardlib.evaluation.metrics import CLUSTER_MARK
from guardlib.labels import BENCHMARK_COLUMNS, NUM_CLASSES, Label
from guardlib.paths import run_again

ATTACK, BENIGN = "attack", "benign"
CORPUS_LICENCE = "Apache-2.0 (written for this project by a language model, in this package)"


STATUS_FILE = "benchmark_status.json"


class BenchmarkError(ValueError):
    """Benchmark rows that cannot be used: wrong columns, duplicate ids, missing or unknown labels, empty texts."""


@dataclass(slots=True)
class Context:
    """What a benchmark is built from. Each source is read once; ``missed`` are those the current one went without."""

    profile: Profile
    mirror: Path | None
    missed: set[str] = field(default_factory=set)
    set_aside: list[dict] = field(default_factory=list)
    _read: dict[tuple[str, str], SourceResult | SourceError] = field(default_factory=dict)

    def source(self, name: str, role: str = BENCHMARK) -> pd.DataFrame:
        """The benchmark splits (or those of another role) of a source as records.

        Raises:
            SourceError: it cannot be had. FormatError: it does not look as expected.
        """
        if (name, role) not in self._read:
            try:
                self._read[name, role] = load_source(name, self.mirror, seed=self.profile.seed, roles=(role,))
            except SourceError as error:
                self._read[name, role] = error
        found = self._read[name, role]
        if isinstance(found, SourceError):
            self.missed.add(name)
            raise found
        self.set_aside += found.quarantined
        return found.frame.copy()

    def source_if_any(self, name: str) -> pd.DataFrame:
        """As :meth:`source`, but no rows where it cannot be had: for benchmarks that also have other material."""
        return self._if_any(name, BENCHMARK)

    def kept_back(self, name: str, rows: int) -> pd.DataFrame:
        """``rows`` rows of a *training* source, in the order of a hash of their text; none where it cannot be had.

        Benchmark rows and their near copies never enter training, so these are held out as soon as a dataset is built
        beside the benchmark. They are new texts of a familiar kind: in-distribution.
        """
        frame = self._if_any(name, TRAIN)
        chance = frame["text"].map(lambda text: group_of(f"kept back {text}"))
        return frame.loc[chance.sort_values(kind="stable").index[:rows]]

    def _if_any(self, name: str, role: str) -> pd.DataFrame:
        try:
            return self.source(name, role)
        except FormatError:
            raise
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
        over_defence: what kind of benign text its benign rows are; "variant": their variant says; "" : no kind of its
            own in the over-defence table.
        cap_share: of the profile's cap on rows; below 1 where rows are long.
        derived: made of rows that other benchmarks have too, a protocol out of context, or tricks that are kept from
            training: in no pooled figure.
        benign_elsewhere: its benign rows alone are those of other benchmarks: they are in no pooled figure.
    """

    name: str
    measures: str
    licence: str
    positive: str
    build: Callable[[Context], pd.DataFrame]
    kinds: tuple[str, ...] = (ATTACK, BENIGN)
    paired: bool = False
    over_defence: str = ""
    cap_share: float = 1.0
    derived: bool = False
    benign_elsewhere: bool = False


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
        ``(rows, status)``: BENCHMARK_COLUMNS, and ``{benchmark, n, n_attack, n_benign, ran, failed, why_not,
        absent_sources, set_aside, measures, licence, positive}``. ``ran`` is False, with the reason in ``why_not``,
        where a benchmark could not be built: ``failed`` tells what is broken (wrong columns, rows against the contract,
        a function that raises) from what is only absent. ``absent_sources`` names sources it was built without,
        ``set_aside`` counts rows of its sources that could not be used.

    Raises:
        ValueError: a name that is not registered.
    """
    unknown = [name for name in names or () if name not in BENCHMARKS]
    if unknown:
        raise ValueError(f"benchmark {unknown[0]!r} does not exist; expected one of {', '.join(BENCHMARKS)}")
    context = Context(profile, mirror)
    frames, status = [], []
    chosen = [BENCHMARKS[name] for name in names or BENCHMARKS]
    for item in tqdm(chosen, desc="benchmarks", unit="set", delay=BAR_DELAY, leave=False):
        context.missed, context.set_aside = set(), []
        rows, why_not, failed = pd.DataFrame(columns=list(BENCHMARK_COLUMNS)), "", False
        try:
            rows = check_benchmarks(_finish(item.build(context), item, profile))
        except Exception as error:  # one broken benchmark must not cost the others
            absent = isinstance(error, SourceError) and not isinstance(error, FormatError)
            why_not, failed = (str(error) if isinstance(error, ValueError) else repr(error)), not absent
        status.append(_status(item, rows, why_not, failed, context))
        if len(rows):
            frames.append(rows)
    return (pd.concat(frames, ignore_index=True) if frames else rows), status


def write_status(status: list[dict], folder: Path) -> Path:
    """Write the status rows of :func:`build_benchmarks` as ``benchmark_status.json`` into ``folder``."""
    path = folder / STATUS_FILE
    path.write_text(json.dumps(status, indent=1) + "\n", encoding="utf-8")
    return path


def read_status(folder: Path) -> pd.DataFrame:
    """Status rows written by :func:`write_status`; BenchmarkError where there are none."""
    try:
        return pd.DataFrame(json.loads((folder / STATUS_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise BenchmarkError(
            f"{folder / STATUS_FILE} cannot be read ({error}); {run_again(folder, '01')} --force"
        ) from None


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


def underived_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of those benchmarks that are not made of others' rows; score or benchmark rows."""
    return rows[~rows["benchmark"].isin([entry.name for entry in BENCHMARKS.values() if entry.derived])]


def pooled_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that stand in one benchmark alone, for figures over all; score or benchmark rows."""
    elsewhere = [entry.name for entry in BENCHMARKS.values() if entry.benign_elsewhere]
    rows = underived_rows(rows)
    return rows[~(rows["benchmark"].isin(elsewhere) & (rows["label"] == Label.BENIGN))]


def group_of(base: str) -> str:
    """Name of the cluster of rows made from ``base``: a hash of the folded text, the same in every benchmark."""
    return hashlib.blake2b(fold(base).encode(errors="surrogatepass"), digest_size=6).hexdigest()


def _finish(rows: pd.DataFrame, item: Benchmark, profile: Profile) -> pd.DataFrame:
    """Built rows → BENCHMARK_COLUMNS: duplicates dropped, ids and groups given, capped."""
    needed = ("text", "label", "family", "variant", "lang")
    if missing := [column for column in needed if column not in rows.columns]:
        raise BenchmarkError(f"{item.name} built rows without {', '.join(missing)}; expected {', '.join(needed)}")
    if (wrong := ~rows["label"].isin(range(NUM_CLASSES))).any():
        raise BenchmarkError(
            f"{item.name} built a row with label {rows.loc[wrong, 'label'].iloc[0]}; expected 0 to {NUM_CLASSES - 1}"
        )
    base = rows["base"] if "base" in rows.columns else rows["text"]
    rows = rows.assign(benchmark=item.name, group=base.map(group_of), label=rows["label"].astype("int64"))
    rows = rows.drop_duplicates(["variant", "text"]).reset_index(drop=True)
    # Numbered before the cap, so that an example has the same id in every profile.
    rows["example_id"] = [
        f"{item.name}/{number:05d}{CLUSTER_MARK}{group}" for number, group in enumerate(rows["group"])
    ]
    if profile.data.benchmark_rows is not None:
        limit = max(1, round(profile.data.benchmark_rows * item.cap_share))
        chance = rows["group"].map(lambda group: group_of(f"{profile.seed} {group}"))
        kept = (
            rows.assign(chance=chance).sort_values(["chance", "example_id"]).groupby(["label", "variant"]).head(limit)
        )
        rows = rows.loc[sorted(kept.index)]
    return rows[list(BENCHMARK_COLUMNS)].reset_index(drop=True)


def _status(item: Benchmark, rows: pd.DataFrame, why_not: str, failed: bool, context: Context) -> dict:
    attacks = int((rows["label"] > 0).sum())
    return {
        "benchmark": item.name,
        "n": len(rows),
        "n_attack": attacks,
        "n_benign": len(rows) - attacks,
        "ran": len(rows) > 0,
        "failed": failed,
        "why_not": why_not or ("" if len(rows) else "its sources hold no row"),
        "absent_sources": sorted(context.missed),
        "set_aside": len(context.set_aside),
        "measures": item.measures,
        "licence": item.licence,
        "positive": item.positive,
    }


# Fills the registry. At the end, because the suites need the names above.
from guardlib.evaluation import suites  # noqa: E402, F401
