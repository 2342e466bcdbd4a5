"""``python -m guardlib.evaluation FILE``: how good a guard is on labelled texts of your own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from guardlib.evaluation.metrics import rates
from guardlib.evaluation.prompts import read_prompts
from guardlib.evaluation.ranking import OVERALL, ranking
from guardlib.evaluation.scores import score_rows
from guardlib.labels import HARMFUL_REQUEST
from guardlib.report.glance import MEASURES
from guardlib.report.tables import DASH, rate
from guardlib.runtime.guard import Guard, Verdict
from guardlib.runtime.session import GuardLoadError

_SHOWN = 100  # characters of a text that was judged wrongly


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m guardlib.evaluation",
        description="How good a guard is on labelled texts of your own: attacks caught, benign texts flagged.",
    )
    parser.add_argument(
        "file",
        type=Path,
        help="CSV, JSON, JSONL, YAML or parquet with text, label (0, 1 or a class) and, if you like, category; those "
        f"of category {HARMFUL_REQUEST}, which attack nobody's instructions, count neither way",
    )
    parser.add_argument("--guard", type=Path, help="guard folder; default: the release inside the package")
    parser.add_argument("--threshold", type=float, help="flag from this score (0 to 1) on; default: the guard's own")
    parser.add_argument("--fpr", type=float, help="instead of a threshold: a point the guard was calibrated for (0.01)")
    parser.add_argument("--worst", type=int, default=3, help="print so many of the worst misses and false alarms")
    parser.add_argument("--out", type=Path, help="write every text with its score to this CSV file")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args(arguments)
    try:
        prompts = read_prompts(options.file, labelled=True)
        if (prompts["family"] == HARMFUL_REQUEST).all():
            raise ValueError(
                f"{options.file}: every text is of category {HARMFUL_REQUEST}, which counts neither way; expected "
                "attacks or benign texts"
            )
        guard = Guard.load(options.guard, threads=options.threads, threshold=options.threshold, fpr=options.fpr)
        progress = tqdm(prompts["text"], desc="scan", unit="text", leave=False)
        verdicts = list(guard.scan_iter(progress, truncate=True))
        if options.out:
            judged_texts(prompts, verdicts).to_csv(options.out, index=False)
    except (GuardLoadError, OSError, ValueError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    rows = verdict_rows(prompts, verdicts, guard.threshold)
    print(f"{options.file.name}, flagged from {guard.threshold:g}; percent with 95 % interval\n")
    print(detection(rows).to_string(index=False) + "\n")
    for name, value in free_of_threshold(rows).items():
        print(f"{name}: {value}")
    for line in worst(prompts, verdicts, options.worst):
        print(line)
    return 0


def verdict_rows(prompts: pd.DataFrame, verdicts: list[Verdict], threshold: float) -> pd.DataFrame:
    """Verdicts on prompts (``prompts.read_prompts``) as score rows, each text a base of its own."""
    examples = prompts.assign(benchmark="file", group="", example_id=[f"file/{n}" for n in range(len(prompts))])
    probabilities = pd.DataFrame([verdict.probabilities for verdict in verdicts]).to_numpy()
    return score_rows(examples, "guard", probabilities, threshold, [verdict.route for verdict in verdicts])


def detection(rows: pd.DataFrame) -> pd.DataFrame:
    """Attacks caught and benign texts flagged, of each category and of all: columns texts, attacks, caught, benign,
    flagged (percent with interval)."""
    found = [rates(rows, ("family",)).rename(columns={"family": "texts"})]
    found.append(rates(rows, ("benchmark",)).drop(columns="benchmark").assign(texts=OVERALL))
    table = []
    for name, part in pd.concat(found[1:] if rows["family"].nunique() == 1 else found).groupby("texts", sort=False):
        sides = part.set_index("metric")
        row = {"texts": name}
        for metric, n, share in (("tpr", "attacks", "caught"), ("fpr", "benign", "flagged")):
            side = sides.loc[metric] if metric in sides.index else None
            row |= {n: 0 if side is None else int(side.n)}
            row |= {share: DASH if side is None else rate(side.rate, side.low, side.high)}
        table.append(row)
    return pd.DataFrame(table)


def free_of_threshold(rows: pd.DataFrame) -> dict[str, str]:
    """AUROC, average precision and recall at given false-positive rates; nothing where one kind of text is missing."""
    found = ranking(rows)
    found = found[(found["benchmark"] == OVERALL) & found["metric"].isin(MEASURES)]
    return {MEASURES[row.metric]: rate(row.value, row.low, row.high) for row in found.itertuples()}


def judged_texts(prompts: pd.DataFrame, verdicts: list[Verdict]) -> pd.DataFrame:
    """The prompts with what the guard says of each: score, flagged, predicted class, route and deciding view."""
    return prompts[["text", "label", "family"]].assign(
        score=[verdict.score for verdict in verdicts],
        flagged=[verdict.flagged for verdict in verdicts],
        predicted=[int(verdict.label) for verdict in verdicts],
        route=[verdict.route for verdict in verdicts],
        view=[verdict.view for verdict in verdicts],
    )


def worst(prompts: pd.DataFrame, verdicts: list[Verdict], most: int) -> list[str]:
    """Lines with the ``most`` lowest-scored misses and highest-scored false alarms: score and start of the text."""
    judged = judged_texts(prompts, verdicts)
    attack = judged["label"] > 0
    lines = []
    for title, wrong, lowest in (
        ("worst misses", judged[attack & ~judged["flagged"]], True),
        ("worst false alarms", judged[~attack & judged["flagged"]], False),
    ):
        shown = wrong.sort_values("score", ascending=lowest, kind="stable").head(most)
        lines += [f"\n{title} ({len(shown):,} of {len(wrong):,}):"] * bool(len(shown))
        lines += [f"  {row.score:.3f}  {' '.join(row.text.split())[:_SHOWN]}" for row in shown.itertuples()]
    return lines


if __name__ == "__main__":
    sys.exit(main())
