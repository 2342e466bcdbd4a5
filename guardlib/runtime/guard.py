"""The public face: text in, verdict out. Needs numpy, onnxruntime and tokenizers; never torch."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import overload

import numpy as np
import onnxruntime

from guardlib.labels import LABEL_NAMES, Label
from guardlib.paths import RELEASE, stage_folder
from guardlib.runtime.decision import TextScores, WindowScores, decide
from guardlib.runtime.response import encode_verdict
from guardlib.runtime.session import (
    DEEP,
    FRONT,
    SETTINGS,
    TOKENIZER,
    GuardLoadError,
    GuardModel,
    GuardSettings,
    make_again,
    parse_settings,
    read_verified,
    run_windows,
)
from guardlib.runtime.thresholds import threshold_at_fpr
from guardlib.text.reading import Reader
from guardlib.text.tokenizer import GuardTokenizer, sanitize
from guardlib.text.views import Unfolder
from guardlib.text.word_order import WordOrder

__all__ = ["MAX_CHARACTERS", "Guard", "GuardLoadError", "Verdict"]

#: Longest text that is read. Cost is linear in length: this is minutes of reading, more than any prompt.
MAX_CHARACTERS = 1_000_000
_CHUNK = 200_000  # characters of a list that are tokenized together; bounds memory
_EXCERPT = 160


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard thinks of one text.

    Attributes:
        flagged: an attack: ``score`` reaches the threshold.
        label: the class; BENIGN exactly when not flagged.
        score: calibrated probability of an attack of any kind, 1 - P(benign), of the worst window; in a
            text of several windows each counts less (:func:`.decision.discount_by_length`).
        probabilities: of benign, direct injection, jailbreak, obfuscation.
        confidence: probability of the verdict as given: ``score`` where flagged, else 1 - ``score``.
        route: the branch that decided, ``fast`` or ``deep``.
        code16: the verdict in two bytes (see :mod:`.response`).
        views: names of the readings tried, the deciding one first; ``raw`` is the text as it stands.
        view: the deciding reading.
        span: character offsets of the deciding window, in the original text where ``view`` is ``raw``, else in the
            unfolded one (a surrogate pair counts as the one character it encodes).
        excerpt: the start of that window (at most 160 characters), so that an unfolded text can be seen.
    """

    flagged: bool
    label: Label
    score: float
    probabilities: tuple[float, float, float, float]
    confidence: float
    route: str
    code16: int
    views: tuple[str, ...]
    view: str
    span: tuple[int, int]
    excerpt: str

    def to_dict(self) -> dict:
        """Plain JSON types; ``probabilities`` by class name."""
        values = asdict(self) | {"label": self.label.name.lower(), "views": list(self.views), "span": list(self.span)}
        return values | {"probabilities": dict(zip(LABEL_NAMES, self.probabilities, strict=True))}


class Guard:
    """A loaded guard. Holds no state between scans: threads may share one."""

    def __init__(self, model: GuardModel, reader: Reader, settings: GuardSettings, threshold: float) -> None:
        self.model = model
        self.reader = reader
        self.settings = settings
        self.threshold = threshold

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        threads: int | None = None,
        threshold: float | None = None,
        fpr: float | None = None,
    ) -> Guard:
        """Read a guard folder, checking every digest. Threads may share a guard; processes load their own.

        Args:
            path: the folder; None: the release inside the package, else the one that the workbook made here.
            threads: CPU threads for one scan; None: those this process may use, at most 4. (A list is split into word
                pieces on all of them, unless the environment says ``TOKENIZERS_PARALLELISM=false``.)
            threshold: flag from this score on; None: the guard's default.
            fpr: instead of a threshold, the operating point that flags this share of benign validation texts.

        Raises:
            GuardLoadError: a file is missing, truncated, changed or of another format; the message names it.
            ValueError: a threshold outside [0, 1], an ``fpr`` the guard was not calibrated for, or both given.
        """
        folder = _find(path)
        contents = read_verified(folder)
        settings = parse_settings(contents[SETTINGS], folder / SETTINGS)
        try:
            tokenizer = GuardTokenizer.parse(
                contents[TOKENIZER], folder / TOKENIZER, settings.chars_per_token, settings.char_buckets
            )
        except ValueError as error:
            raise GuardLoadError(str(error)) from error
        try:
            model = GuardModel(contents[FRONT], contents[DEEP], threads)
        except ValueError:
            raise
        except Exception as error:  # onnxruntime raises a different class for every way a graph can be wrong
            raise GuardLoadError(
                f"{folder / FRONT} or {DEEP} is not a graph onnxruntime {onnxruntime.__version__} can run ({error}); "
                f"{make_again(folder)}"
            ) from error
        order = WordOrder(settings.word_order)
        unfolder = Unfolder(tokenizer.words(), settings.lookalikes, order) if settings.use_views else None
        guard = cls(model, Reader(tokenizer, unfolder, settings.max_length), settings, settings.calibration.threshold)
        guard.threshold = guard.resolve_threshold(threshold, fpr)
        return guard

    def resolve_threshold(self, threshold: float | None = None, fpr: float | None = None) -> float:
        """The score from which a text is flagged: ``threshold``, else the point for ``fpr``, else this guard's own.

        Raises:
            ValueError: see :meth:`load`.
        """
        if threshold is not None and fpr is not None:
            raise ValueError(f"threshold ({threshold}) and fpr ({fpr}) exclude each other; expected one of them")
        for name, value in (("threshold", threshold), ("fpr", fpr)):
            if value is not None and (not isinstance(value, numbers.Real) or isinstance(value, bool)):
                raise ValueError(f"{name} is {value!r}; expected a number such as 0.5 or 0.01")
        if threshold is not None:
            if not 0 <= threshold <= 1:
                raise ValueError(f"threshold is {threshold}; expected a score from 0 to 1")
            return float(threshold)
        if fpr is not None:
            calibration = self.settings.calibration
            points = {float(rate): value for rate, value in calibration.thresholds.items()}
            points[self.settings.target_fpr] = calibration.threshold_at_fpr
            for rate, value in points.items():
                if np.isclose(fpr, rate):
                    return value
            known = ", ".join(f"{rate:g}" for rate in sorted(points))
            raise ValueError(f"fpr is {fpr}; this guard was calibrated for {known}: use one of them, or a threshold")
        return self.threshold

    def calibrate(self, benign: Iterable[str], fpr: float = 0.01) -> float:
        """From now on flag at most the share ``fpr`` of ``benign``, texts of your own that nobody is to be stopped for.

        The points that a guard comes with were settled on benign texts of public sets; yours will look otherwise. What
        share of others like them is flagged is as uncertain as ``fpr`` of so many texts is: take several times
        1 / ``fpr``.

        Returns:
            The threshold, now this guard's own, for ``Guard.load(threshold=…)`` the next time.

        Raises:
            TypeError: one str, or not all are str.
            ValueError: ``fpr`` outside [0, 1], so few texts that not one might be flagged, or more than the share of
                them with the highest score there is.
        """
        if not 0 <= fpr <= 1:
            raise ValueError(f"fpr is {fpr}; expected a share from 0 to 1, such as 0.01")
        if isinstance(benign, str):
            raise TypeError("calibrate got str; expected an iterable of str: from one text no threshold can be had")
        benign = list(benign)
        if len(benign) * fpr < 1:
            needed = f"at least {math.ceil(1 / fpr):,}" if fpr else "an fpr above 0"
            raise ValueError(f"{len(benign):,} texts are too few for an fpr of {fpr:g}; expected {needed}")
        scores = np.array([verdict.score for verdict in self.scan_iter(benign, truncate=True)])
        threshold = threshold_at_fpr(scores, np.zeros(len(scores), int), fpr)
        if threshold > 1:
            raise ValueError(
                f"{(scores == 1).sum():,} of {len(scores):,} texts score 1, more than an fpr of {fpr:g} lets pass; "
                "expected benign ones: look at them with scan"
            )
        self.threshold = threshold
        return threshold

    @overload
    def scan(
        self, text: str, *, threshold: float | None = ..., fpr: float | None = ..., truncate: bool = ...
    ) -> Verdict: ...

    @overload
    def scan(
        self, text: list[str], *, threshold: float | None = ..., fpr: float | None = ..., truncate: bool = ...
    ) -> list[Verdict]: ...

    def scan(self, text, *, threshold=None, fpr=None, truncate=False):
        """Judge a text, or each of a list in order.

        Long texts are read in overlapping windows and in every view; the worst one decides. Content never raises.
        INT8 activations are scaled per batch, so a text may score a little differently alone and in a list.

        Args:
            text: str, or a list or tuple of str.
            threshold, fpr: as in :meth:`load`, for this call.
            truncate: read only the first 1,000,000 characters of a longer text instead of refusing it.

        Raises:
            TypeError: not a str or list of them; names the type (and the place in the list).
            ValueError: a text longer than 1,000,000 characters without ``truncate``; a bad threshold.
        """
        limit = self.resolve_threshold(threshold, fpr)
        if isinstance(text, str):
            return self._scan([_checked(text, None, truncate)], limit)[0]
        texts = [_checked(item, place, truncate) for place, item in enumerate(_listed(text))]
        return [verdict for part in _chunks(texts) for verdict in self._scan(part, limit)]

    def scan_iter(
        self,
        texts: Iterable[str],
        *,
        batch: int = 32,
        threshold: float | None = None,
        fpr: float | None = None,
        truncate: bool = False,
    ) -> Iterator[Verdict]:
        """Judge a stream of texts in order, ``batch`` of them together; no more than that is read ahead.

        Args and errors are those of :meth:`scan`; TypeError also for one str, ValueError for a ``batch`` below 1.
        """
        if batch < 1:
            raise ValueError(f"batch is {batch}; expected at least 1")
        if isinstance(texts, str):
            raise TypeError("scan_iter got str; expected an iterable of str: for one text there is scan")
        limit = self.resolve_threshold(threshold, fpr)
        stream, error = enumerate(texts), None
        while error is None:
            checked: list[str] = []
            try:
                for place, item in itertools.islice(stream, batch):
                    checked.append(_checked(item, place, truncate))
            except Exception as caught:  # the stream's own, too: after the verdicts on what came before it
                error = caught
            for chunk in _chunks(checked):
                yield from self._scan(chunk, limit)
            if error is None and len(checked) < batch:
                return
        raise error

    def score_windows(self, texts: list[str], every_branch: bool = False) -> WindowScores:
        """Raw outputs per window; ``every_branch`` runs the deep graph for all of them, for analysis."""
        threshold = -np.inf if every_branch else self.settings.calibration.router_threshold
        return run_windows(self.model, self.reader, texts, threshold)

    def _scan(self, texts: list[str], threshold: float) -> list[Verdict]:
        scores = self.score_windows(texts)
        decided = decide(scores, self.settings.calibration)
        views: list[dict[str, None]] = [{} for _ in texts]  # ordered sets
        for window in scores.windows:
            views[window.text][window.view.name] = None
        return [_verdict(index, scores, decided, views[index], threshold) for index in range(len(texts))]


def _verdict(
    index: int, scores: WindowScores, decided: TextScores, views: dict[str, None], threshold: float
) -> Verdict:
    window = scores.windows[decided.window[index]]
    probabilities = [float(p) for p in decided.probabilities[index]]
    score = min(max(1 - probabilities[Label.BENIGN], 0.0), 1.0)
    flagged = score >= threshold
    label = Label(1 + int(np.argmax(probabilities[1:]))) if flagged else Label.BENIGN
    confidence = score if flagged else 1 - score
    route, name, (start, stop) = str(decided.route[index]), window.view.name, window.span
    return Verdict(
        flagged=flagged,
        label=label,
        score=score,
        probabilities=tuple(probabilities),
        confidence=confidence,
        route=route,
        code16=encode_verdict(flagged, label, confidence, route, name, start, len(window.view.text)),
        views=(name, *(view for view in views if view != name)),
        view=name,
        span=(start, stop),
        excerpt=sanitize(window.view.text[start:stop][:_EXCERPT]),
    )


def _find(path: str | Path | None) -> Path:
    """The guard folder to read. Raises GuardLoadError with what to do where there is none."""
    made = [stage_folder(profile, "06_quantize_onnx") / "guard" for profile in ("paper", "laptop", "release")]
    candidates = [RELEASE, *made] if path is None else [Path(path).expanduser()]
    for folder in candidates:
        if folder.is_dir():
            return folder
    if path is None:
        raise GuardLoadError(
            f"this package holds no released guard ({RELEASE}), and no run made one in {made[-1].parents[2]}; "
            "make one with: make run, or load another with Guard.load(path)"
        )
    if candidates[0].exists():
        raise GuardLoadError(f"{path} is a file; expected the folder of a guard, which holds {FRONT}")
    raise GuardLoadError(f"guard folder {path} does not exist; make one with: python run_all.py")


def _listed(texts: object) -> list | tuple:
    if not isinstance(texts, list | tuple):
        raise TypeError(f"scan got {type(texts).__name__}; expected str or a list of str")
    return texts


def _checked(text: object, index: int | None, truncate: bool) -> str:
    """``text`` as a str that can be read, without lone surrogates."""
    where = "" if index is None else f" at position {index}"
    if not isinstance(text, str):
        raise TypeError(f"scan got {type(text).__name__}{where}; expected str")
    if len(text) > MAX_CHARACTERS:
        if not truncate:
            raise ValueError(
                f"text{where} has {len(text):,} characters; expected at most {MAX_CHARACTERS:,}: "
                "split it, or pass truncate=True (--truncate on the command line)"
            )
        text = text[:MAX_CHARACTERS]
    return sanitize(text)


def _chunks(texts: list[str]) -> Iterator[list[str]]:
    """``texts`` in order, cut into runs of at most about 200,000 characters."""
    chunk: list[str] = []
    characters = 0
    for text in texts:
        if chunk and characters + len(text) > _CHUNK:
            yield chunk
            chunk, characters = [], 0
        chunk.append(text)
        characters += len(text)
    if chunk:
        yield chunk
