"""Benchmarks whose data a user must bring: a file in the mirror, read as any file of prompts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guardlib.data.files import ENDINGS
from guardlib.data.records import FormatError, SourceError, fold
from guardlib.evaluation.benchmarks import BENCHMARKS, BENIGN, Context, benchmark, build_benchmarks
from guardlib.evaluation.prompts import PromptFileError, read_prompts
from guardlib.evaluation.suites.public import notinject
from guardlib.settings import get_profile

#: Benchmarks whose rows come from such a file.
SUPPLIED = ("pint", "guardset_x", "notinject_unseen")


def supplied(context: Context, stem: str, how: str) -> pd.DataFrame:
    """Labelled rows of ``<mirror>/<stem>.<ending>``, whichever of the known endings is there.

    Raises:
        SourceError: no such file; ``how`` says where it is to be had. FormatError: it cannot be used.
    """
    paths = [context.mirror / f"{stem}{ending}" for ending in ENDINGS] if context.mirror else []
    path = next((path for path in paths if Path(path).is_file()), None)
    if path is None:
        place = f"{context.mirror}/{stem}.yaml (or .jsonl, .csv, .parquet)" if context.mirror else "a mirror"
        raise SourceError(f"{stem}: not run without its data; {how}, and put it into {place}")
    try:
        return read_prompts(path, labelled=True)
    except PromptFileError as error:
        raise FormatError(str(error)) from error


@benchmark(
    "guardset_x",
    measures="GuardSet-X: requests judged against safety policies of many domains, where a user supplies it.",
    licence="that of the copy supplied",
    positive="label 1 of the file",
    over_defence="policy-abiding (GuardSet-X)",
)
def guardset_x(context: Context) -> pd.DataFrame:
    return supplied(context, "guardset-x", "take it from its authors (arXiv 2506.19054) as text, label, category")


@benchmark(
    "notinject_unseen",
    measures="NotInject without the rows that PIGuard's checkpoint was chosen on, where a user supplies that file.",
    licence="MIT",
    positive="nothing: every row is benign",
    kinds=(BENIGN,),
    derived=True,  # rows of notinject
)
def notinject_unseen(context: Context) -> pd.DataFrame:
    how = "take datasets/valid.json of github.com/leolee99/PIGuard"
    seen = set(supplied(context, "leolee99/piguard-valid", how)["text"].map(fold))
    rows = notinject(context)
    return rows[~rows["text"].map(fold).isin(seen)]


def supplied_status(mirror: Path | None) -> list[dict]:
    """What ``sources.json`` says of a set, said of each of SUPPLIED: whether its file is there and can be read."""
    _, status = build_benchmarks(get_profile("paper"), mirror, SUPPLIED)  # all rows of the file
    return [
        {
            "name": row["benchmark"],
            "dataset_id": "",
            "config": None,
            "revision": None,
            "licence": BENCHMARKS[row["benchmark"]].licence,
            "permissive": False,
            "kind": "mixed",
            "origin": "mirror" if row["ran"] else "",
            "used": row["ran"],
            "rows": row["n"],
            "quarantined": row["set_aside"],
            "why_not": row["why_not"],
        }
        for row in status
    ]
