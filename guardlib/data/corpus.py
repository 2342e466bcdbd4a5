"""The corpus inside the package: what a machine without network or mirror trains on, and is tested on.

Near copies form groups; a fixed 15 % of the groups, chosen by a hash of their text, is a benchmark and never trained
on, whatever the seed or the profile.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from guardlib.data.minhash import cluster_ids
from guardlib.data.records import SourceError, fold, screen
from guardlib.labels import HARMFUL_REQUEST, LABEL_NAMES, Label

FOLDER = Path(__file__).parent / "corpus"
PARTS = ("attacks", "goals", "benign", "hard_negatives")
HELD_OUT_SHARE = 0.15
_GROUP_THRESHOLD = 0.7  # stricter than for training data: the held-out part must be new text

_COLUMNS = {
    "attacks": ("text", "label", "family", "lang"),
    "goals": ("text", "kind", "category"),
    "benign": ("text", "family", "lang"),
    "hard_negatives": ("text", "family", "lang"),
}
#: Goals read alone: a harmful one is a harmful request; an injection goal is only an instruction, to be composed.
_GOAL_KINDS = {"harmful": (Label.JAILBREAK, HARMFUL_REQUEST), "injection": (Label.DIRECT_INJECTION, "injection_goal")}


@functools.lru_cache(maxsize=4)
def _read(folder: Path) -> pd.DataFrame:
    """All parts as records with two more columns: ``part`` and ``held_out``; ``split`` is the part's name."""
    frames = []
    for part in PARTS:
        by_file = {path.name: _rows(path, _COLUMNS[part]) for path in part_files(folder, part)}
        rows = [row for found in by_file.values() for row in found]
        labels, families = _labels(part, rows)
        frame, bad = screen(
            [row["text"] for row in rows],
            labels,
            families,
            [row.get("lang", "en") for row in rows],
            f"corpus_{part}",
            part,
        )
        if bad:
            places = [(name, line) for name, found in by_file.items() for line in range(1, len(found) + 1)]
            name, line = places[bad[0]["row"]]
            raise SourceError(f"{name} row {line} of the built-in corpus: {bad[0]['reason']}; reinstall guardlib")
        frames.append(frame)
    records = pd.concat(frames, ignore_index=True)
    folded = [fold(text) for text in records["text"]]
    groups = cluster_ids(folded, _GROUP_THRESHOLD)
    keys: dict[int, str] = {}
    for group, text in zip(groups, folded, strict=True):
        keys[group] = min(keys.get(group, text), text)  # does not depend on the order of lines or files
    held = {group: _unit_hash(text) < HELD_OUT_SHARE for group, text in keys.items()}
    return records.assign(group=groups, held_out=[held[group] for group in groups])


def part_files(folder: Path, part: str) -> list[Path]:
    """``attacks.jsonl``, ``attacks_2.jsonl`` and so on: a part in files that an editor opens and a diff shows."""
    files = [folder / f"{part}.jsonl"]
    while (more := folder / f"{part}_{len(files) + 1}.jsonl").is_file():
        files.append(more)
    return files


def _unit_hash(text: str) -> float:
    """A number in [0, 1) that depends on ``text`` alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise SourceError(f"built-in corpus file {str(path)!r} cannot be read ({error}); reinstall guardlib") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or any(column not in row for column in columns):
            found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            raise SourceError(f"{path.name} row {number}: expected the keys {', '.join(columns)}, found {found}")
    return rows


def _labels(part: str, rows: list[dict]) -> tuple[list, list[str]]:
    if part == "goals":
        pairs = [
            _GOAL_KINDS.get(row["kind"], (f"kind {row['kind']!r} is not harmful or injection", "")) for row in rows
        ]
        return [label for label, _ in pairs], [family for _, family in pairs]
    families = [str(row["family"]) for row in rows]
    if part != "attacks":
        return [Label.BENIGN] * len(rows), families
    return [_attack_label(row["label"]) for row in rows], families


def _attack_label(value: object) -> Label | str:
    name = str(value).strip().lower()
    if name in LABEL_NAMES[1:]:
        return Label(LABEL_NAMES.index(name))
    return f"label {value!r} is not one of {', '.join(LABEL_NAMES[1:])}"


def corpus_frames(held_out: bool, folder: Path = FOLDER) -> dict[str, pd.DataFrame]:
    """The parts (PARTS → records) that are for training (``held_out=False``) or for testing (``True``).

    ``group`` is the near-duplicate cluster within the corpus. Raises SourceError where a file is missing or damaged.
    """
    records = _read(folder)
    chosen = records[records["held_out"] == held_out]
    return {part: chosen[chosen["split"] == part].drop(columns="held_out").reset_index(drop=True) for part in PARTS}


def corpus_benchmark_frames(folder: Path = FOLDER) -> dict[str, pd.DataFrame]:
    """The fixed held-out 15 % of the corpus by group: ``attacks, goals, benign, hard_negatives`` → records.

    The same rows in every run, and in training in none.
    """
    return corpus_frames(held_out=True, folder=folder)


def corpus_status(used: Mapping[str, int]) -> list[dict]:
    """One ``sources.json`` row per part. ``used``: rows that a run takes for training, by source."""
    return [
        {
            "name": f"corpus_{part}",
            "dataset_id": f"guardlib/data/corpus/{part}*.jsonl",
            "config": None,
            "revision": None,
            "licence": "Apache-2.0",
            "permissive": True,
            "kind": "attack" if part in ("attacks", "goals") else "benign",
            "origin": "built-in",
            "used": True,
            "rows": int(used.get(f"corpus_{part}", 0)),
            "quarantined": 0,
            "why_not": "",
        }
        for part in PARTS
    ]
