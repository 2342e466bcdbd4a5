"""A small mirror in a temporary folder, laid out like the real one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def add_dataset(mirror: Path, dataset_id: str, splits: dict[str, pd.DataFrame], config: str = "default") -> Path:
    """Write ``<mirror>/<dataset_id>/`` with a README that names the splits, and one parquet file each."""
    folder = mirror / dataset_id
    (folder / "data").mkdir(parents=True, exist_ok=True)
    lines = ["---", "configs:", f"- config_name: {config}", "  data_files:"]
    for split, frame in splits.items():
        frame.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
        lines += [f"  - split: {split}", f"    path: data/{split}-00000-of-00001.parquet"]
    (folder / "README.md").write_text("\n".join([*lines, "---", f"# {dataset_id}", ""]), encoding="utf-8")
    return folder


def github_rows(*rows: tuple, lang: str = "") -> pd.DataFrame:
    """Rows of (text, label, category, subset)."""
    return pd.DataFrame([(*row, lang) for row in rows], columns=["text", "label", "category", "subset", "lang"])
