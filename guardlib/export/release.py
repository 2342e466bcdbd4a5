"""The guard folder: two graphs, word pieces, settings and their digests — all that the run time reads — and its price.

``write_guards`` makes one folder per precision: ``guard/`` is the one to release, ``guard_<precision>/`` the others.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path

import pandas as pd

import guardlib
from guardlib.config import Profile
from guardlib.export.onnx import ExportError, Graphs, export_graphs
from guardlib.export.parity import compare_precisions
from guardlib.export.quantize import BITS, calibration_feeds, quantize_graphs, theory_table
from guardlib.fingerprint import file_digest
from guardlib.labels import LABEL_NAMES
from guardlib.model.build import Guardrail
from guardlib.report.provenance import git_commit
from guardlib.runtime.guard import Guard
from guardlib.runtime.response import answer_sizes
from guardlib.runtime.session import DEEP, DIGESTS, FILES, FORMAT, FRONT, SETTINGS, TOKENIZER, GuardSettings

PRECISIONS = tuple(BITS)
MOST_OFF = 1e-4  # of a probability, float32 graphs against torch


def write_guards(
    guardrail: Guardrail,
    profile: Profile,
    trained: Path,
    folder: Path,
    *,
    texts: pd.Series,
    notes: str,
    commit: str | None = None,
) -> pd.DataFrame:
    """Export, quantize and pack ``guardrail``; also writes ``sizes.csv`` and ``sizes_theory.csv`` into ``folder``.

    Args:
        trained: the folder of stage 03; its ``tokenizer.json`` and the look-alikes in ``model.json`` go into the guard.
        texts: of the validation split; a sample of them settles the ranges of activations.
        notes: where the training data came from.
        commit: git commit of the code; None: asked of git.

    Returns:
        Files on disk: ``precision, file, bytes, parameters, theory_bytes`` (the last two for the graphs).

    Raises:
        ExportError: a graph could not be made.
    """
    commit = git_commit() if commit is None else commit
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("guard*"):
        shutil.rmtree(old)
    sample = texts.sample(min(profile.export.calibration_texts, len(texts)), random_state=profile.seed).tolist()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".graphs-") as scratch:
        spellings = guardrail.reader.tokenizer.spellings()
        full = export_graphs(guardrail.model.cpu(), spellings, Path(scratch) / "float32", profile.export.opset)
        feeds = calibration_feeds(full, guardrail.reader, sample)
        for precision in PRECISIONS:
            graphs = full
            if precision != "float32":
                graphs = quantize_graphs(full, Path(scratch) / precision, precision, feeds)
            write_guard_folder(
                guard_folder(folder, precision, profile), guardrail, graphs, trained / "tokenizer.json",
                profile, precision=precision, notes=notes, commit=commit,
            )  # fmt: skip
    theory = theory_table(guardrail.model)
    theory.to_csv(folder / "sizes_theory.csv", index=False)
    sizes = _sizes_on_disk(folder, profile, theory)
    sizes.to_csv(folder / "sizes.csv", index=False)
    return sizes


def guard_folder(folder: Path, precision: str, profile: Profile) -> Path:
    """Where the guard of ``precision`` lies: ``guard/`` for the one to release, else ``guard_<precision>/``."""
    return folder / ("guard" if precision == profile.export.precision else f"guard_{precision}")


def write_guard_folder(
    folder: Path,
    guardrail: Guardrail,
    graphs: Graphs,
    tokenizer: Path,
    profile: Profile,
    *,
    precision: str,
    notes: str,
    commit: str,
) -> Path:
    """Write ``front.onnx, deep.onnx, tokenizer.json, guard.json, sha256.json``; returns ``folder``.

    The digests are written last and the folder appears in one step, so one that exists is complete. An older one is
    replaced.

    Args:
        graphs: files of the precision to release.
        tokenizer: the ``tokenizer.json`` the model was trained with.
        notes, commit: as in :func:`write_guards`.

    Raises:
        OSError: the folder cannot be written.
    """
    config, unfolder = guardrail.model.config, guardrail.reader.unfolder
    settings = GuardSettings(
        format=FORMAT,
        version=guardlib.__version__,
        profile=profile.name,
        precision=precision,
        labels=LABEL_NAMES,
        max_length=config.max_length,
        chars_per_token=config.chars_per_token,
        char_buckets=config.char_buckets,
        use_views=config.use_views,
        lookalikes=unfolder.lookalikes if unfolder else {},
        word_order=unfolder.order.table if unfolder else {},
        calibration=guardrail.calibration,
        target_fpr=profile.evaluation.target_fpr,
        notes=notes,
        commit=commit,
    )
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    shutil.copyfile(graphs.front, part / FRONT)
    shutil.copyfile(graphs.deep, part / DEEP)
    shutil.copyfile(tokenizer, part / TOKENIZER)
    text = json.dumps(dataclasses.asdict(settings), indent=1, ensure_ascii=False)
    (part / SETTINGS).write_text(text + "\n", encoding="utf-8")
    digests = {name: file_digest(part / name) for name in FILES}
    (part / DIGESTS).write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)
    return folder


def _sizes_on_disk(folder: Path, profile: Profile, theory: pd.DataFrame) -> pd.DataFrame:
    in_theory = theory.set_index(["precision", "part"])
    rows = []
    for precision in PRECISIONS:
        for name in FILES:
            row = {"precision": precision, "file": name}
            row["bytes"] = (guard_folder(folder, precision, profile) / name).stat().st_size
            part = name.removesuffix(".onnx")
            if (precision, part) in in_theory.index:
                row |= in_theory.loc[(precision, part), ["parameters", "theory_bytes"]].to_dict()
            rows.append(row)
    return pd.DataFrame(rows).astype({"parameters": "Int64", "theory_bytes": "Int64"})


def get_model_info(guardrail: Guardrail, sizes: pd.DataFrame) -> dict[str, dict[str, float]]:
    """What the model is made of and weighs.

    Args:
        sizes: of :func:`write_guards`.

    Returns:
        ``parameters`` per part and active per token on each route (:meth:`.DualBranchModel.info`); per precision
        ``megabytes_in_theory`` of the weights and ``megabytes_on_disk`` of the whole folder.
    """
    theory = theory_table(guardrail.model).query("part == 'total'").set_index("precision")["theory_bytes"]
    on_disk = sizes.groupby("precision")["bytes"].sum()
    return {
        "parameters": guardrail.model.info(),
        "megabytes_in_theory": {name: float(theory[name] / 1e6) for name in PRECISIONS},
        "megabytes_on_disk": {name: float(on_disk[name] / 1e6) for name in PRECISIONS},
    }


def parity(guardrail: Guardrail, folder: Path, texts: pd.Series, profile: Profile) -> pd.DataFrame:
    """How far the float32 guard and that of ``export.precision`` are from torch on ``export.parity_texts`` texts drawn.

    Reads ``folder``, writes ``parity.json`` there; columns as :func:`guardlib.export.parity.compare_precisions`.

    Raises:
        ExportError: a probability of the float32 guard is more than 1e-4 off: the export itself is wrong.
    """
    sample = texts.drop_duplicates()
    sample = sample.sample(min(profile.export.parity_texts, len(sample)), random_state=profile.seed)
    shown = dict.fromkeys(("float32", profile.export.precision))
    folders = {precision: guard_folder(folder, precision, profile) for precision in shown}
    graphs = {precision: Graphs(path / FRONT, path / DEEP) for precision, path in folders.items()}
    frame = compare_precisions(guardrail, graphs, sample.tolist())
    (folder / "parity.json").write_text(frame.to_json(orient="records", indent=1) + "\n", encoding="utf-8")
    exact = frame[(frame["reference"] == "torch") & (frame["candidate"] == "float32")]
    worst = float(exact[["max_dp_fast", "max_dp_deep"]].max(axis=None))
    if not worst <= MOST_OFF:
        raise ExportError(
            f"the float32 graphs are {worst:.2g} off the model in a probability, of at most {MOST_OFF:g}, on "
            f"{len(sample):,} texts: see {folder / 'parity.json'}"
        )
    return frame


def answer_size_table(guard: Guard, texts: list[str]) -> pd.DataFrame:
    """Bytes of an answer on ``texts`` as 16-bit code and as JSON: one row (see :func:`.response.answer_sizes`)."""
    return pd.DataFrame([answer_sizes(guard.scan(texts, truncate=True))])


def headline(
    sizes: pd.DataFrame, parity_rows: pd.DataFrame, released: str, changes: pd.DataFrame
) -> dict[str, float | str]:
    """Figures for the manifest: what is released, megabytes, parity, and the largest loss of a metric, in points."""
    megabytes = sizes.groupby("precision")["bytes"].sum() / 1e6
    full = parity_rows.set_index(["reference", "candidate"]).loc[("torch", "float32")]
    return {
        "released": released,
        "released_mb": float(megabytes[released]),
        "float32_mb": float(megabytes["float32"]),
        "float32_max_dp": float(max(full["max_dp_fast"], full["max_dp_deep"])),
        "mean_loss_points": float(changes["loss"].mean()),
        "largest_loss_points": float(changes["loss"].max()),
    }
