"""One set or all of them, as records: :func:`load_source`, :func:`load_available`. The registry is ``SOURCES``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from guardlib.data.catalogue import BENCHMARK, EXCLUDED, MATERIAL, ROLES, SOURCES, TRAIN, Source
from guardlib.data.loading import check_mirror, read_dataset
from guardlib.data.records import FormatError, SourceError, empty_records, rng_for, screen

__all__ = [
    "BENCHMARK", "EXCLUDED", "MATERIAL", "ROLES", "SOURCES", "TRAIN",
    "Source", "SourceError", "SourceResult", "load_available", "load_source", "status_row",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SourceResult:
    """One set as records. ``frame.split`` is the set's own split name; ``roles`` says what each may be used for."""

    frame: pd.DataFrame
    origin: str
    rows: int
    quarantined: list[dict] = field(default_factory=list)
    roles: dict[str, str] = field(default_factory=dict)
    revision: str | None = None

    def role(self, *roles: str) -> pd.DataFrame:
        """The rows of the splits that have one of ``roles``."""
        return self.frame[self.frame["split"].map(self.roles).isin(roles)].reset_index(drop=True)


def load_source(
    name: str,
    mirror: Path | str | None,
    cap: int | None = None,
    seed: int = 0,
    roles: Collection[str] = (TRAIN, BENCHMARK, MATERIAL),
) -> SourceResult:
    """The set ``name`` as records: from ``mirror`` where it holds the set, else from the Hub.

    Args:
        cap: at most this many rows per role, sampled with ``seed``; None: all. Benchmark rows are never sampled here.
        roles: splits with another role are left out.

    Raises:
        SourceError: the set does not exist or cannot be had; FormatError: it does not look as expected. One line.
    """
    if name not in SOURCES:
        raise SourceError(f"source {name!r} does not exist; expected one of {', '.join(SOURCES)}")
    source = SOURCES[name]
    raw = read_dataset(
        source.dataset_id, source.config, check_mirror(mirror), on_hub=source.on_hub, revision=source.revision
    )
    if missing := [split for split in source.splits if split not in raw.splits]:
        raise FormatError(
            f"{source.dataset_id}: split(s) {', '.join(missing)} missing; expected {', '.join(source.splits)}, "
            f"found {', '.join(raw.splits)}"
        )
    frames, quarantined = [], []
    for split, role in source.splits.items():
        if role not in roles:
            continue
        frame, bad = _adapt(source, raw.splits[split], split)
        if cap is not None and role != BENCHMARK and len(frame) > cap:
            rows = rng_for(seed, "cap", name, split).choice(len(frame), size=cap, replace=False)
            frame = frame.iloc[sorted(rows)]
        frames.append(frame)
        quarantined += bad
    frame = pd.concat(frames, ignore_index=True) if frames else empty_records()
    return SourceResult(frame, raw.origin, len(frame), quarantined, dict(source.splits), raw.revision)


def _adapt(source: Source, raw: pd.DataFrame, split: str) -> tuple[pd.DataFrame, list[dict]]:
    try:
        rows = source.adapt(raw, split)
    except SourceError as error:
        raise FormatError(f"{source.dataset_id} ({split}): {error}") from error
    return screen(rows["text"], rows["label"], rows["family"], rows["lang"], source.name, split)


def load_available(
    mirror: Path | str | None,
    max_rows: int | None = None,
    seed: int = 0,
    licences: str = "all",
    progress: bool = True,
    in_full: Collection[str] = (),
) -> tuple[dict[str, SourceResult], list[dict]]:
    """Every set that can be had, and one status row per set of the registry.

    Args:
        max_rows: cap per source; each source takes its ``share`` of it.
        licences: ``all``, or ``permissive``: sets under other terms are left out of training (benchmarks stay).
        in_full: sources that the cap spares.

    Returns:
        ``(results, status)``: results by name (SourceResult; ``.frame`` has RECORD_COLUMNS), and rows
        ``{name, dataset_id, revision, licence, permissive, kind, origin, used, rows, quarantined, why_not}``.

    Raises:
        SourceError: ``mirror`` is given and is not a mirror, or ``licences`` is neither of the two.
    """
    if licences not in ("all", "permissive"):
        raise SourceError(f"licences {licences!r} is not known; expected 'all' or 'permissive'")
    folder = check_mirror(mirror)
    results: dict[str, SourceResult] = {}
    status = []
    for source in tqdm(SOURCES.values(), desc="sources", unit="set", disable=not progress, leave=False):
        roles = (TRAIN, BENCHMARK, MATERIAL) if licences == "all" or source.permissive else (BENCHMARK,)
        cap = None if max_rows is None or source.name in in_full else max(1, round(max_rows * source.share))
        try:
            if not any(role in roles for role in source.splits.values()):
                raise SourceError(f"licence {source.licence} is not permissive")
            results[source.name] = load_source(source.name, folder, cap, seed, roles)
            status.append(status_row(source, results[source.name]))
        except SourceError as error:
            status.append(status_row(source, None, str(error)))
    return results, status


def status_row(source: Source, result: SourceResult | None, why_not: str = "") -> dict:
    """What ``sources.json`` says about one set."""
    return {
        "name": source.name,
        "dataset_id": source.dataset_id,
        "config": source.config,
        "revision": (result.revision if result else None) or source.revision or source.upstream or None,
        "licence": source.licence,
        "permissive": source.permissive,
        "kind": source.kind,
        "origin": result.origin if result else "",
        "used": result is not None,
        "rows": result.rows if result else 0,
        "quarantined": len(result.quarantined) if result else 0,
        "why_not": why_not,
    }
