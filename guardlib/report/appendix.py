"""What notebook 09 found, as Markdown for the README."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guardlib.paths import APPENDIX, project_root, stage_folder
from guardlib.report import tables
from guardlib.report.provenance import read_manifest
from guardlib.report.results import overridden, results_folder
from guardlib.report.style import readable

#: Files of notebook 09 that its tables are read from.
FILES = tuple(f"{name}.csv" for name in ("runs", "summary", "sizes", "expert_use", "guards", "guard_effect"))


def appendix_folder(profile: str, root: Path | None = None) -> Path:
    """Where the files of notebook 09 are kept, beside those of the other eight."""
    return results_folder(profile, root) / "distillation"


def appendix_section(profile: str, root: Path | None = None) -> str:
    """Markdown with what notebook 09 of ``profile`` found.

    Raises:
        FileNotFoundError: it has no manifest; the message names the command that makes one.
    """
    folder = stage_folder(profile, APPENDIX[0], root)
    manifest = read_manifest(folder)
    if manifest is None:
        raise FileNotFoundError(f"{folder} has no manifest; run: python run_all.py --profile {profile} --only 09")
    summary, sizes, effect = (pd.read_csv(folder / f"{name}.csv") for name in ("summary", "sizes", "guard_effect"))
    students = pd.DataFrame(
        {
            "Student": summary["recipe"].map(readable),
            "Seeds": summary["seeds"],
            "Test perplexity": [_interval(row.perplexity, row.low, row.high) for row in summary.itertuples()],
            "Difference from routed": [
                _interval(row.difference, row.difference_low, row.difference_high, "+") for row in summary.itertuples()
            ],
        }
    )
    student = sizes.set_index("model").loc["student"]
    together = effect[effect["benchmark"] == "all"]
    guards = pd.DataFrame(
        {
            "Guard, all benchmarks (percent)": together["metric"].map({"auroc": "AUROC", "tpr": "TPR", "fpr": "FPR"}),
            "Seeds": together["seeds"],
            "Alone": [tables.rate(value) for value in together["alone"]],
            "Taught": [tables.rate(value) for value in together["taught"]],
            "Difference": [tables.rate(row.difference, row.low, row.high) for row in together.itertuples()],
        }
    )
    machine, kept = manifest.machine, appendix_folder(profile, root).relative_to(root or project_root())
    changed = [f"`{each}`" for each in overridden(manifest.profile)]
    named = f"`{profile}`" + (f" with {', '.join(changed)}" if changed else "")
    parts = [
        f"Profile {named}, commit `{manifest.commit}`, seed {manifest.seed}, {manifest.seconds / 60:.0f} minutes "
        f"on {machine['cpu']}, {machine['cores']} cores. The teacher's perplexity, over tokens of its own, is "
        f"{manifest.headline['teacher_perplexity']:.1f}. The student has 1/{student.parameters_ratio:.1f} of its "
        f"parameters and is {student.ms_per_sequence_ratio:.1f} times as fast. Intervals are 95 %, over "
        "seeds of training.",
        tables.to_markdown(students),
        (folder / "verdict.txt").read_text(encoding="utf-8"),
        tables.to_markdown(guards),
        f"What stands behind these tables is in `{kept.as_posix()}`: {', '.join(FILES)}.",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _interval(value: float, low: float, high: float, sign: str = "") -> str:
    return tables.DASH if pd.isna(value) else f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"
