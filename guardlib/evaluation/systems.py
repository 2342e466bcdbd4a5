"""Texts × systems → score rows.

The guard and its two branches are three readings of one pass over the texts. Baselines are fitted on the same training
rows and scored on the same benchmark rows. Every system's thresholds come from the same validation rows. A system that
raises, or gives something that is no probability, is named and set apart; the others go on.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from guardlib.config import RESUMING, Profile
from guardlib.data.records import frame_digest
from guardlib.evaluation.baselines import BASELINES, fit_baseline
from guardlib.evaluation.cache import AnswerCache, text_key
from guardlib.evaluation.hub_guards import GuardAbsent, fit_hub_guard, hub_guard, revision
from guardlib.evaluation.prompts import read_prompts
from guardlib.evaluation.scores import check_probabilities, score_rows, split_as_benchmark
from guardlib.fingerprint import code_digests, digest_of, file_digest
from guardlib.labels import NUM_CLASSES, SCORE_COLUMNS
from guardlib.model.build import Guardrail
from guardlib.model.inference import decide, score_windows
from guardlib.runtime.thresholds import threshold_at_fpr

#: System name → how texts are routed.
BRANCHES = {"guard": "router", "fast": "fast", "deep": "deep"}
_BRANCH_WORDS = {
    "guard": "the trained guard: its router decides which texts go deep",
    "fast": "the trained guard with no text sent deep",
    "deep": "the trained guard with every text sent deep",
}
_MODEL_FILES = ("model.safetensors", "model.json", "tokenizer.json")
_HUB_TEXTS = 1000  # of a guard of the Hub that are answered before the next are begun: on a CPU all of them take hours
_PARTS = (*(f"p{k}" for k in range(NUM_CLASSES)), "route", "seconds")


class SystemsFailed(RuntimeError):
    """Benchmarks or systems that failed; raised at the end, when all others have been measured."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Of one system over N texts: ``probabilities`` [N, 4] or [N, 2], ``route`` per text or "" for all."""

    probabilities: np.ndarray
    route: np.ndarray | str = ""


@dataclass(frozen=True, slots=True)
class Scorer:
    """One pass over texts that gives the answers of one system or several.

    Attributes:
        name: of the pass; ``systems`` are the names of what it answers for.
        key: digest of everything the answers depend on besides the text.
        answer: texts → answers per system.
        describe: what it is, in words.
        prepare: fits or loads what ``answer`` needs; called before its time is taken.
        at_once: texts that are answered, and kept, together; None: all, which is fastest where texts repeat each other.
    """

    name: str
    systems: tuple[str, ...]
    key: str
    answer: Callable[[Sequence[str]], dict[str, Answers]]
    describe: str = ""
    prepare: Callable[[], object] = lambda: None
    at_once: int | None = None


@dataclass(slots=True)
class Board:
    """Score rows of every system that answered, and the reasons of those that did not.

    ``failed``: system → what is wrong with it. ``absent``: system → why it could not be had.
    """

    rows: pd.DataFrame
    failed: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    computed: int = 0  # texts that were not in the cache, over all passes


def guard_scorer(guardrail: Guardrail, folder: Path, profile: Profile) -> Scorer:
    """The routed guard and each branch alone, from one pass. ``folder`` holds the files of the trained model."""

    def answer(texts: Sequence[str]) -> dict[str, Answers]:
        tokens = profile.evaluation.tokens_per_batch
        scores = score_windows(guardrail.model, guardrail.reader, list(texts), tokens, progress="guard")
        readings = {system: decide(scores, guardrail.calibration, route) for system, route in BRANCHES.items()}
        return {system: Answers(texts.probabilities, texts.route) for system, texts in readings.items()}

    files = {name: file_digest(folder / name) for name in _MODEL_FILES if (folder / name).is_file()}
    code = code_digests({"guardlib.model.build", "guardlib.model.inference"})
    return Scorer("guard", tuple(BRANCHES), digest_of([files, code]), answer, "the trained guard and its two branches")


def baseline_scorer(name: str, train: pd.DataFrame, validation: pd.DataFrame, profile: Profile) -> Scorer:
    """A registered baseline, fitted when it first meets a text it has no answer for. ValueError: it does not exist."""
    if name not in BASELINES:
        raise ValueError(f"baseline {name!r} does not exist; expected one of {', '.join(BASELINES)}")
    predict = functools.cache(lambda: fit_baseline(name, train, validation, profile))
    read = ("tokens_per_batch", "backbone_windows", "frozen_rows", "finetune_tokens", "finetune_rate")
    training = {part: value for part, value in profile.to_dict()["training"].items() if part not in RESUMING}
    settings = [profile.seed, training, {part: getattr(profile.evaluation, part) for part in read}]
    model = {part: getattr(profile.model, part) for part in ("backbone", "max_length")}
    code = code_digests({"guardlib.evaluation.baselines"})
    key = digest_of([name, settings, model, code, frame_digest(train), frame_digest(validation)])
    return Scorer(
        name, (name,), key, lambda texts: {name: Answers(predict()(texts))}, BASELINES[name].describe(profile), predict
    )


def hub_scorer(name: str, profile: Profile) -> Scorer:
    """A guard of the Hub, downloaded when it first meets a text it has no answer for. ValueError: not registered."""
    guard = hub_guard(name)
    commit = revision(guard.hub_id)
    predict = functools.cache(fit_hub_guard(name, profile.evaluation.tokens_per_batch, commit))
    key = digest_of([guard.hub_id, commit, guard.max_length, code_digests({"guardlib.evaluation.hub_guards"})])
    about = f"{guard.hub_id}, as published" + (f" (commit {commit[:12]})" if commit else "")
    return Scorer(name, (name,), key, lambda texts: {name: Answers(predict()(texts))}, about, predict, _HUB_TEXTS)


def all_scorers(
    guardrail: Guardrail, folder: Path, train: pd.DataFrame, validation: pd.DataFrame, profile: Profile
) -> list[Scorer]:
    """The guard with its branches, the baselines and the Hub's guards that ``profile.evaluation`` names."""
    named = profile.evaluation
    return [
        guard_scorer(guardrail, folder, profile),
        *(baseline_scorer(name, train, validation, profile) for name in named.baselines),
        *(hub_scorer(name, profile) for name in named.hub_guards),
    ]


def score_all(scorers: Iterable[Scorer], benchmarks: pd.DataFrame, cache: Path | None = None) -> Board:
    """Score rows of every system over ``benchmarks`` (BENCHMARK_COLUMNS); answers are kept in the folder ``cache``.

    Each distinct text is read once. ``seconds`` is batch time per text, when it was computed.
    """
    kept = AnswerCache(cache)
    texts = pd.Series({text_key(text): text for text in benchmarks["text"]}, dtype=object)
    order = benchmarks["text"].map(text_key).tolist()
    board, frames = Board(pd.DataFrame(columns=list(SCORE_COLUMNS))), []
    for scorer in tqdm(list(scorers), desc="systems", unit="system", leave=False):
        try:
            answers, computed = _answers(scorer, texts, kept)
            rows = [_rows(benchmarks, system, answers.loc[order]) for system in scorer.systems]
        except GuardAbsent as error:
            board.absent |= dict.fromkeys(scorer.systems, str(error))
        except Exception as error:  # whatever a system does must not cost the others
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            board.failed |= dict.fromkeys(scorer.systems, " ".join(reason.split()))
        else:
            frames += rows
            board.computed += computed
    if frames:
        board.rows = pd.concat(frames, ignore_index=True)
    return board


def _answers(scorer: Scorer, texts: pd.Series, kept: AnswerCache) -> tuple[pd.DataFrame, int]:
    """A row of answers per text key, and how many of them were computed now."""
    columns = [f"{system}/{part}" for system in scorer.systems for part in _PARTS]
    known = kept.read(scorer.name, scorer.key, columns)
    missing = texts[~texts.index.isin(known.index)]
    if missing.empty:
        return known, 0
    scorer.prepare()
    step = scorer.at_once or len(missing)
    for start in range(0, len(missing), step):
        new = _answer(scorer, missing.iloc[start : start + step])
        known = pd.concat([known, new]) if len(known) else new
        kept.write(scorer.name, scorer.key, known)
    return known, len(missing)


def _answer(scorer: Scorer, texts: pd.Series) -> pd.DataFrame:
    """A row of answers per text key, computed now."""
    started = time.perf_counter()
    answered = scorer.answer(texts.tolist())
    seconds = (time.perf_counter() - started) / len(texts)
    new = pd.DataFrame(index=texts.index)
    for system in scorer.systems:
        chances = check_probabilities(answered[system].probabilities, len(texts), system)
        for k in range(NUM_CLASSES):
            new[f"{system}/p{k}"] = chances[:, k] if k < chances.shape[1] else np.nan
        new[f"{system}/route"] = answered[system].route
        new[f"{system}/seconds"] = seconds
    return new


def _rows(benchmarks: pd.DataFrame, system: str, answers: pd.DataFrame) -> pd.DataFrame:
    chances = answers[[f"{system}/p{k}" for k in range(NUM_CLASSES)]].to_numpy(dtype=np.float64)
    known = ~np.isnan(chances).all(axis=0)
    route, seconds = (answers[f"{system}/{part}"].to_numpy() for part in ("route", "seconds"))
    return score_rows(benchmarks, system, chances[:, known], route=route, seconds=seconds)


def score_file(path: Path | str, scorers: Iterable[Scorer], cache: Path | None = None) -> pd.DataFrame:
    """A file of prompts (:func:`guardlib.evaluation.prompts.read_prompts`) scored by every system, in one call.

    Returns:
        columns text, label (-1 where the file has none), family, and one per system: its attack score.

    Raises:
        PromptFileError: the file cannot be used. SystemsFailed: a system failed or cannot be had here; all are named.
    """
    prompts = read_prompts(path)
    asked = prompts.assign(
        benchmark="file",
        example_id=[f"file/{number}" for number in range(len(prompts))],
        label=prompts["label"].clip(0),
        group="",
    )
    board = score_all(scorers, asked, cache)
    if missing := board.failed | board.absent:
        raise SystemsFailed("; ".join(f"system {name}: {why}" for name, why in missing.items()))
    scores = board.rows.pivot(index="example_id", columns="system", values="score").loc[asked["example_id"]]
    scores = scores[list(dict.fromkeys(board.rows["system"]))].reset_index(drop=True).rename_axis(columns=None)
    return pd.concat([prompts[["text", "label", "family"]], scores], axis=1)


def validation_rows(
    guard_rows: pd.DataFrame,
    scorers: Iterable[Scorer],
    validation: pd.DataFrame,
    board: Board,
    cache: Path | None = None,
) -> pd.DataFrame:
    """Scores of every system on the validation split, columns system, score, label.

    The guard's and its branches' are those that training wrote (validation_scores.parquet); only others are run. Those
    that fail are left out, and named in ``board``, where their benchmark rows may be from the cache.
    """
    columns = {"guard": "p_0", "fast": "p_fast_0", "deep": "p_deep_0"}
    parts = [
        pd.DataFrame({"system": system, "score": 1 - guard_rows[column].astype(float), "label": guard_rows["label"]})
        for system, column in columns.items()
    ]
    others = [scorer for scorer in scorers if scorer.name != "guard"]
    scored = score_all(others, split_as_benchmark(validation, "validation"), cache)
    board.failed |= {system: f"on validation texts: {why}" for system, why in scored.failed.items()} | board.failed
    return pd.concat([*parts, scored.rows[["system", "score", "label"]]], ignore_index=True)


def thresholds_at_fpr(validation_rows: pd.DataFrame, target_fpr: float) -> dict[str, float]:
    """Per system the threshold that flags at most ``target_fpr`` of the benign validation rows."""
    return {
        system: threshold_at_fpr(part["score"].clip(0, 1).to_numpy(), part["label"].to_numpy(), target_fpr)
        for system, part in validation_rows.groupby("system", sort=False)
    }


def describe_systems(scorers: Iterable[Scorer], board: Board) -> pd.DataFrame:
    """One row per system: what it is, and whether it ran, failed or could not be had."""
    rows = []
    for scorer in scorers:
        for system in scorer.systems:
            state = "failed" if system in board.failed else "not run" if system in board.absent else "ran"
            why = board.failed.get(system) or board.absent.get(system) or ""
            rows.append(
                {"system": system, "what it is": _BRANCH_WORDS.get(system, scorer.describe), "state": state, "why": why}
            )
    return pd.DataFrame(rows)


def check_ran(board: Board, system: str) -> None:
    """Raise SystemsFailed where ``system`` failed, without which nothing that follows means anything."""
    if system in board.failed:
        raise SystemsFailed(
            f"{system} failed: {board.failed[system]}; answers of the others are kept: mend it and run stage 05 again"
        )


def check_all_ran(board: Board, status: pd.DataFrame) -> None:
    """Raise SystemsFailed, naming them, where a system or a benchmark failed; what is only absent is no failure."""
    broken = status[status["failed"].astype(bool)]
    failures = [f"benchmark {name}: {why}" for name, why in zip(broken["benchmark"], broken["why_not"], strict=True)]
    failures += [f"system {name}: {why}" for name, why in board.failed.items()]
    if failures:
        raise SystemsFailed(
            f"{len(failures)} failed, all others are measured and written; first: {failures[0]}"
            + "".join(f"\n  also: {failure}" for failure in failures[1:])
            + "\nanswers are kept: run stage 05 again once the file is mended, or without the system "
            "(evaluation.baselines, evaluation.hub_guards)"
        )
