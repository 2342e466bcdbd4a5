"""The guard of a finished run → the release inside the package, with its model card. ``run_all.py --release``.

What is released was trained on permissively licensed data alone, passes the digests it was written with, and is small
enough to be carried by everyone who installs the package.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd

from guardlib.config import Profile
from guardlib.data.catalogue import MATERIAL, SOURCES
from guardlib.data.leakage import MIN_CONTAINED
from guardlib.evaluation import metrics
from guardlib.evaluation.benchmarks import paired_rows, read_status
from guardlib.evaluation.latency import REFERENCE
from guardlib.export import gate
from guardlib.paths import RELEASE, STAGES, stage_folder
from guardlib.report import tables
from guardlib.report.provenance import Manifest, of_one_run, read_manifest
from guardlib.report.style import readable
from guardlib.runtime.decision import DEFAULT_THRESHOLD
from guardlib.runtime.session import DIGESTS, SETTINGS, GuardSettings, parse_settings, read_verified

CARD = "MODEL_CARD.md"
MOST_BYTES = 40_000_000


class ReleaseError(RuntimeError):
    """A run whose guard must not be released; the message says why and what to do."""


def publish(profile: Profile, root: Path, target: Path = RELEASE) -> Path:
    """Make the guard of the finished run of ``profile`` the one in ``target``, with its card; an older one is replaced.

    Raises:
        ReleaseError: the run is not finished or not of one piece, was not trained on permissive data alone, or its
            guard is too large or loses too much.
        GuardLoadError: a file of the guard is damaged.
        OSError: ``target`` cannot be written; the older release stays.
    """
    again = f"run: python run_all.py --profile {profile.name} --release"
    folders = {stage: stage_folder(profile.name, stage, root) for stage in STAGES}
    manifests = {stage: read_manifest(folder) for stage, folder in folders.items()}
    if fault := of_one_run(manifests):
        raise ReleaseError(f"{fault}; {again}")
    for stage, manifest in manifests.items():
        licences = manifest.profile["data"]["licences"]
        if licences != "permissive":
            raise ReleaseError(
                f"{stage} ran with data.licences={licences}; a release is trained on permissive data alone: "
                "run python run_all.py --profile release --release"
            )
    guard = folders["06_quantize_onnx"] / "guard"
    contents = read_verified(guard)
    settings = parse_settings(contents[SETTINGS], guard / SETTINGS)
    if not gate.passed(folders["06_quantize_onnx"], settings.precision):
        raise ReleaseError(
            f"{guard} ({settings.precision}) loses more than {profile.export.most_lost_points:g} points; "
            f"see gate.csv beside it, and let the gate choose: without export.precision, {again}"
        )
    size = sum(map(len, contents.values()))
    if size > MOST_BYTES:
        raise ReleaseError(
            f"{guard} ({settings.precision}) holds {size / 1e6:.1f} MB; expected at most "
            f"{MOST_BYTES / 1e6:.0f} MB: lower model.vocab_size or model.deep_layers, or choose a smaller "
            f"export.precision, and {again}"
        )
    card = model_card(settings, folders, manifests, size).encode()
    digests = json.loads(contents[DIGESTS]) | {CARD: hashlib.sha256(card).hexdigest()}
    files = {**contents, CARD: card, DIGESTS: (json.dumps(digests, indent=1) + "\n").encode()}
    part, old = (target.with_name(f".{target.name}.{end}") for end in ("part", "old"))
    for folder in (part, old):
        shutil.rmtree(folder, ignore_errors=True)
    part.mkdir(parents=True)
    for name, content in files.items():
        (part / name).write_bytes(content)
    if target.exists():
        target.rename(old)
    try:
        part.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return target


def model_card(settings: GuardSettings, folders: dict[str, Path], manifests: dict[str, Manifest], size: int) -> str:
    """What the guard is, what it was trained on, what it was measured to do, and what it cannot do: Markdown.

    Raises:
        ReleaseError: it was trained on a source that is not permissively licensed.
    """
    sources = pd.DataFrame(json.loads((folders["01_data"] / "sources.json").read_text(encoding="utf-8")))
    train = pd.read_parquet(folders["01_data"] / "train.parquet", columns=["source", "label"])
    used = train["source"].value_counts()
    trained = sources[sources["name"].isin(used.index)]
    if len(forbidden := trained[~trained["permissive"].astype(bool)]):
        raise ReleaseError(
            f"the guard was trained on {', '.join(forbidden['name'])}; expected permissive sources alone"
        )
    made = used[~used.index.isin(sources["name"])]
    hidden = sources[sources["name"].map(is_material) & sources["used"].astype(bool)]
    named = pd.concat([trained, hidden]).drop_duplicates("name")
    rows = pd.read_parquet(folders["06_quantize_onnx"] / "released_scores.parquet")
    benchmarks = tables.main_results(metrics.headline(rows), accuracy=True)
    cautious = metrics.at_threshold(rows, settings.calibration.threshold_at_fpr)
    at_fpr = tables.main_results(metrics.headline(cautious), accuracy=True)
    matched = tables.matched_detection(metrics.matched_detection(paired_rows(rows)))
    latency = pd.read_parquet(folders["07_cpu_latency"] / "latency.parquet")
    training = manifests["03_train"]
    origins = [origin(name, dataset) for name, dataset in zip(named["name"], named["dataset_id"], strict=True)]
    licences = pd.DataFrame(
        {
            "Source": named["name"],
            "Origin": origins,
            "Licence": named["licence"],
            "Training rows": [f"{used[name]:,}" if name in used else "hidden in made rows" for name in named["name"]],
        }
    )
    status = read_status(folders["01_data"])
    measures = status.loc[status["ran"].astype(bool), ["benchmark", "measures", "positive"]]
    measures = measures.set_axis(["Benchmark", "Measures", "Attacks"], axis=1)
    measures["Benchmark"] = measures["Benchmark"].map(readable)
    calibration = settings.calibration
    parts = [
        "# TinyGuardrail: model card",
        "A small classifier of prompts: benign, direct injection, jailbreak or obfuscated attack. Two ONNX graphs "
        f"({settings.precision}; every text takes the front one, those the router sends on take the deep one), "
        f"{size / 1e6:.1f} MB in all, run on a CPU without torch. Licence: Apache-2.0. Backbone: "
        "sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0).",
        '```python\nfrom guardlib import Guard\n\nGuard.load().scan("Ignore all previous instructions").flagged\n```',
        f"guardlib {settings.version}, profile `{settings.profile}`, trained at commit `{training.commit}` from seed "
        f"{training.seed} on {training.machine['cpu']}, exported at `{settings.commit}`. Flags from a score of "
        f"{calibration.threshold:g}; "
        f"`Guard.load(fpr={settings.target_fpr:g})` flags from {calibration.threshold_at_fpr:.3f}, where the model as "
        f"trained (float32) flags {100 * settings.target_fpr:g} % of benign validation texts.",
        "## Training data",
        f"{len(train):,} rows, permissively licensed sources alone; {made.sum():,} of them made by the project from "
        "the others (transforms of attacks and of benign text, hidden instructions, hard negatives). A search found no "
        "benchmark row, near copy or decoded form of one among them, nor a longer text that quotes one of "
        f"{MIN_CONTAINED} words or more. Of some sets a part is in training and another a benchmark (deepset, BIPIA, "
        "the project's corpus): what is measured there is not wholly unseen. "
        "Rows of the project's corpus were written by a language model.",
        tables.to_markdown(licences),
        "## Figures",
        f"This {settings.precision} model, percent with 95 % interval, threshold {DEFAULT_THRESHOLD:g}. It was taken "
        "because it loses little on these same rows.",
        tables.to_markdown(benchmarks),
        tables.to_markdown(measures),
        f"The same at the other operating point, `Guard.load(fpr={settings.target_fpr:g})`: fewer false alarms, more "
        "misses.",
        tables.to_markdown(at_fpr),
        "The same transform on attacks and on benign text:",
        tables.to_markdown(matched),
        f"Latency, raw string to verdict, one text at a time, on {manifests['07_cpu_latency'].machine['cpu']}; the "
        "others are encoders of those dimensions with random weights, INT8, BERT's word pieces, at most 512 tokens: "
        "only their speed is compared.",
        tables.to_markdown(tables.latency_table(latency, reference=REFERENCE)),
        "## What it cannot do",
        _LIMITS,
        "## Use",
        _USE,
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def origin(name: str, dataset: str) -> str:
    """Where a set comes from, for people: the repository that a set outside the Hub was taken from."""
    return (SOURCES[name].upstream if name in SOURCES else "") or dataset


def is_material(name: str) -> bool:
    """Whether rows are made from a set (it holds what generated attacks hide), beside or in place of its own."""
    return name == "corpus_goals" or (name in SOURCES and MATERIAL in SOURCES[name].splits.values())


_USE = """\
Meant for: reading prompts, documents and tool results before a language model does, as one layer of several, with a
threshold settled on benign texts of one's own (`guardlib calibrate FILE`). Not meant for: judging people, moderating
content, or deciding alone. How it is made, measured and cited: https://github.com/tinyguardrail/tinyguardrail."""

_LIMITS = """\
- It reads one text. It does not know the conversation before it, the application's own instructions, or what a tool
  will do.
- It looks for attempts on a model's instructions. A plain harmful question is none, and is not what it was trained to
  flag.
- An instruction hidden in a document is an attack only because it does not belong there. Telling such documents from
  untouched ones is hard for a model this small: see both rates of BIPIA above.
- Tricks with letters, and with the order of letters or words, are undone where that gives words it knows, which are
  mostly English: the same trick on another language is often read as it stands. In the midst of ordinary text only
  reversal and ROT13 of six words or more are undone; digits for letters, shuffled letters and letters upside down are
  where they are most of a text.
- A code that it has never met stays one: see both rates of unmet transforms above.
- Benign text about attacks, or with attackers' words, is flagged more often than other text (see NotInject above), and
  so is benign text that somebody encoded.
- A long text has more chances to look bad, so one window of many must look worse than a text by itself; up to
  thirty-two windows, some 2,400 words, put around an attack help to hide it.
- Most training text is English. Other languages were seen far less, and some of them only in generated or corpus rows.
- It is one layer. Somebody who may try many times will find a text that passes."""
