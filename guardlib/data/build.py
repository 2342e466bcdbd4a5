"""Stage 01 in one call: sources → records → deduplicated, clustered, leak-free, split → with generated rows."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from guardlib.config import Profile
from guardlib.data import generated, hard_negatives, injections
from guardlib.data.catalogue import BENCHMARK, MATERIAL, TRAIN
from guardlib.data.corpus import corpus_benchmark_frames, corpus_frames, corpus_status
from guardlib.data.files import file_status, load_files
from guardlib.data.indirect import indirect
from guardlib.data.leakage import KINDS, LeakFinder
from guardlib.data.records import rng_for
from guardlib.data.sources import SourceResult, load_available
from guardlib.data.splits import SPLITS, cluster, deduplicate, identity, split_by_cluster
from guardlib.labels import HARMFUL_REQUEST, RECORD_COLUMNS, Label

#: What no row may be, or hide: the leakage check can be repeated with it.
PROTECTED_FILE = "protected.parquet"
POLICIES = ("exclude", "benign", "jailbreak")
#: Parts of the built-in corpus are small and varied: they take this multiple of the cap per source.
_CORPUS_SHARE = 4
#: Documents with a hidden instruction, per row that one attack generator makes.
_INDIRECT_SHARE = 9
#: Jailbreaks with a goal in them, likewise.
_WRAPPED_SHARE = 3
#: Direct injections put together from clauses, likewise; and as many benign twins.
_COMPOSED_SHARE = 4
#: Benign requests and texts that hard negatives are put beside.
_FILLER_SOURCES = (
    "corpus_benign",
    "alpaca_instructions",
    "banking77",
    "clinc150",
    "dolly_2k",
    "gpteacher_roleplay",
    "mgsm",
    "mobileaibench_benign",
    "self_instruct",
    "self_instruct_t0",
    "xquad",
)


class LeakError(RuntimeError):
    """The finished dataset still holds benchmark rows: a fault of this package, never of the data."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """What stage 01 hands on. The three splits have RECORD_COLUMNS; ``protected`` is what :func:`protected_rows` gave,
    ``leakage`` the report of the leakage check."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    protected: pd.DataFrame
    sources: list[dict]
    leakage: dict
    quarantine: list[dict]

    def write(self, folder: Path | str) -> list[Path]:
        """Write parquet files, sources.json, leakage.json and quarantine.jsonl; their paths. Same rows, same bytes."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for split in SPLITS:
            paths.append(folder / f"{split}.parquet")
            getattr(self, split).to_parquet(paths[-1], index=False)
        paths.append(folder / PROTECTED_FILE)
        self.protected.to_parquet(paths[-1], index=False)
        texts = {
            "sources.json": json.dumps(self.sources, indent=2) + "\n",
            "leakage.json": json.dumps(self.leakage, indent=2) + "\n",
            "quarantine.jsonl": "".join(json.dumps(row) + "\n" for row in self.quarantine),
        }
        for name, text in texts.items():
            paths.append(folder / name)
            paths[-1].write_text(text, encoding="utf-8")
        return paths


def build_dataset(
    profile: Profile,
    mirror: Path | str | None,
    benchmarks: pd.DataFrame | None = None,
    progress: bool = True,
) -> Dataset:
    """All splits of a run. Depends on the profile, the sources and the benchmarks only; the same bytes every time.

    Args:
        mirror: folder of dataset repositories; None: the Hub where it can be reached, and the built-in corpus.
        benchmarks: BENCHMARK_COLUMNS rows that must not be trained on. The benchmark splits of all sources and the
            held-out part of the corpus are kept out in any case, in full, however few rows of them are scored.

    Raises:
        SourceError: the mirror is not one, the corpus is damaged, or a file of ``data.files`` cannot be used.
        ValueError: a setting of ``profile.data`` out of range, or a source to leave out that is not there.
        LeakError: the finished dataset fails its own check.
    """
    settings = profile.data
    if settings.harmful_request_policy not in POLICIES:
        policy = settings.harmful_request_policy
        raise ValueError(f"harmful_request_policy {policy!r} does not exist; expected one of {', '.join(POLICIES)}")

    def say(message: str) -> None:
        if progress:
            print(message, flush=True)

    own = load_files(settings)  # first: what is wrong with them shows before minutes of reading
    results, status = load_available(
        mirror, settings.max_rows_per_source, profile.seed, settings.licences, progress, in_full=settings.leave_out
    )
    results |= own
    status += [file_status(path, result) for path, result in own.items()]
    rows = _gather(results, profile)
    from_corpus = corpus_status(rows["source"].value_counts())
    used = sum(row["used"] for row in status)
    say(f"{len(rows):,} rows from {used} sets and the built-in corpus; {len(status) - used} sets not used")
    left_out, rows = _apart(rows, settings.leave_out)
    rows, dropped = deduplicate(rows)
    targets = protected_rows(results, benchmarks)
    finder = LeakFinder(targets, settings.near_duplicate_threshold, progress)
    leaks = finder.find(rows)
    overlap = _overlap(rows, leaks)
    rows = rows.drop(index=leaks["row"]).reset_index(drop=True)
    copies, conflicts = dropped["duplicates"], dropped["conflicts"]
    say(f"{copies:,} copies, {conflicts:,} contradictions and {len(leaks):,} benchmark rows removed")
    rows = cluster(pd.concat([left_out, rows], ignore_index=True), settings.near_duplicate_threshold, progress)
    say(f"{rows['group'].nunique():,} clusters of near copies in {len(rows):,} rows")
    rows = _without(rows, settings.leave_out)
    rows = split_by_cluster(rows, settings.validation_share, settings.test_share, profile.seed)

    made = _generate(rows, profile)
    new = _not_in(made, rows)
    known = len(made) - len(new)
    made, made_dropped = deduplicate(new)
    made_leaks = finder.find(made)
    made = made.drop(index=made_leaks["row"]).reset_index(drop=True)
    rows = apply_policy(rows, settings.harmful_request_policy)
    final = pd.concat([rows[list(RECORD_COLUMNS)], made[list(RECORD_COLUMNS)]], ignore_index=True)
    say(f"{len(made):,} rows generated, {len(made_leaks):,} more removed as benchmark rows; {len(final):,} rows in all")

    # The finder remembers its verdicts: this finds a row that was not dropped, not one that it missed.
    remaining = finder.find(final)
    straddling = int((final.groupby("group")["split"].nunique() > 1).sum())
    if len(remaining) or straddling:
        found = f"{len(remaining)} rows leak and {straddling} groups are in two splits"
        raise LeakError(f"{found}; please report this with the profile {profile.name} and the seed {profile.seed}")
    frames = {split: _shuffled(final[final["split"] == split], profile.seed, split) for split in SPLITS}
    leakage = {
        "threshold": settings.near_duplicate_threshold,
        "benchmark_rows": len(targets),
        "removed": _by_kind(leaks),
        "removed_by_source": overlap,
        "removed_generated": _by_kind(made_leaks),
        "generated_again": {"in sources": known, **made_dropped},
        "remaining": len(remaining),
        "groups_in_two_splits": straddling,
        **dropped,
    }
    quarantine = [row for result in results.values() for row in result.quarantined]
    return Dataset(**frames, protected=targets, sources=status + from_corpus, leakage=leakage, quarantine=quarantine)


def protected_rows(results: dict[str, SourceResult], benchmarks: pd.DataFrame | None) -> pd.DataFrame:
    """``benchmark, example_id, text`` of all that must never be trained on."""
    frames = [] if benchmarks is None else [benchmarks[["benchmark", "example_id", "text"]].astype("str")]
    held = {name: result.role(BENCHMARK) for name, result in results.items()}
    held |= {f"corpus_{part}": frame for part, frame in corpus_benchmark_frames().items()}
    for name, frame in held.items():
        ids = [f"{name}/{number}" for number in range(len(frame))]
        frames.append(pd.DataFrame({"benchmark": name, "example_id": ids, "text": frame["text"].tolist()}))
    return pd.concat(frames, ignore_index=True)


def apply_policy(rows: pd.DataFrame, policy: str) -> pd.DataFrame:
    """``rows`` without those that only serve to make others, and with plain harmful requests as ``policy`` has them.

    ``exclude`` drops them, ``benign`` and ``jailbreak`` label them so.
    """
    harmful = (rows["family"] == HARMFUL_REQUEST) & (rows["label"] != Label.BENIGN)
    if policy == "exclude":
        return rows[~harmful & ~rows["material"]]
    label = Label.BENIGN if policy == "benign" else Label.JAILBREAK
    return rows.assign(label=rows["label"].where(~harmful, int(label)))[harmful | ~rows["material"]]


def _gather(results: dict[str, SourceResult], profile: Profile) -> pd.DataFrame:
    """Training rows and material of every source, with the column ``material``. The corpus is first: its rows win."""
    frames = []
    limit = profile.data.max_rows_per_source * _CORPUS_SHARE
    for part, frame in corpus_frames(held_out=False).items():
        if len(frame) > limit and f"corpus_{part}" not in profile.data.leave_out:
            frame = frame.iloc[sorted(rng_for(profile.seed, "cap", part).choice(len(frame), limit, replace=False))]
        frames.append(frame.assign(material=part == "goals"))
    for role in (TRAIN, MATERIAL):
        frames += [result.role(role).assign(material=role == MATERIAL) for result in results.values()]
    return pd.concat(frames, ignore_index=True)


def _generate(rows: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """Generated rows of each split, from its own texts; fewer for the smaller splits."""
    settings = profile.data
    train_share = 1 - settings.validation_share - settings.test_share
    shares = {
        "train": 1.0,
        "validation": settings.validation_share / train_share,
        "test": settings.test_share / train_share,
    }
    frames = []
    for split, share in shares.items():
        pool = rows[rows["split"] == split]
        benign = pool[pool["label"] == Label.BENIGN]
        sentences = benign[benign["source"] == "corpus_hard_negatives"]
        fillers = benign[benign["source"].isin(_FILLER_SOURCES)]
        wanted = round(settings.hard_negatives * share)
        rng = rng_for(profile.seed, "hard_negatives", split)
        varied = hard_negatives.generate(wanted, rng, sentences, fillers, split)
        per_attack = round(settings.generated_per_attack * share)
        frames += [
            varied,
            generated.obfuscated(pool, varied, per_attack, profile.seed, split),
            indirect(pool, _instructions(pool), per_attack * _INDIRECT_SHARE, profile.seed, split),
            generated.wrapped(pool, per_attack * _WRAPPED_SHARE, profile.seed, split),
            injections.composed(pool, per_attack * _COMPOSED_SHARE, profile.seed, split),
        ]
    return pd.concat(frames, ignore_index=True)


def _instructions(pool: pd.DataFrame) -> pd.DataFrame:
    """What can be hidden in a document: material instructions and short direct injections that stand alone."""
    direct = pool[(pool["label"] == Label.DIRECT_INJECTION) & (pool["text"].str.len() <= generated.MAX_HIDDEN)]
    alone = (
        direct["material"]
        | (direct["source"] == "owasp_aitg")
        | ((direct["source"] == "corpus_attacks") & ~direct["family"].str.startswith("indirect"))
    )
    return direct[alone]


def _apart(rows: pd.DataFrame, sources: Collection[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of ``sources``, and the others. Apart, no copy elsewhere takes the place of a row that is left out."""
    if unknown := set(sources) - set(rows["source"]):
        known = ", ".join(sorted(rows["source"].unique()))
        raise ValueError(f"data.leave_out names {min(unknown)!r}, of which there are no rows; expected some of {known}")
    own = rows["source"].isin(sources)
    return rows[own], rows[~own]


def _without(rows: pd.DataFrame, sources: Collection[str]) -> pd.DataFrame:
    """``rows`` without those of ``sources`` and without all others of their clusters."""
    left = rows["group"].isin(rows.loc[rows["source"].isin(sources), "group"])
    return rows[~left].reset_index(drop=True)


def _not_in(made: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    known = set(identity(rows))
    return made[~identity(made).isin(known)].reset_index(drop=True)


def _by_kind(leaks: pd.DataFrame) -> dict[str, int]:
    return {kind: int((leaks["kind"] == kind).sum()) for kind in KINDS}


def _overlap(rows: pd.DataFrame, leaks: pd.DataFrame) -> list[dict]:
    """How many rows of each source were found in each benchmark, by kind."""
    named = leaks.assign(source=rows["source"].to_numpy()[leaks["row"].to_numpy(dtype=np.int64)])
    counts = named.groupby(["source", "benchmark", "kind"]).size().rename("rows").reset_index()
    return [row | {"rows": int(row["rows"])} for row in counts.to_dict("records")]


def _shuffled(frame: pd.DataFrame, seed: int, split: str) -> pd.DataFrame:
    return frame.iloc[rng_for(seed, "shuffle", split).permutation(len(frame))].reset_index(drop=True)
