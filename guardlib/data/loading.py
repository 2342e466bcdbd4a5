"""Where a set's rows come from: a mirror folder, else the Hub, else one clear line. ``load_dataset`` reads both."""

from __future__ import annotations

import functools
import os
import re
import tempfile
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from guardlib.data.records import FormatError, SourceError

PROBE_SECONDS = 3.0
THREE_WAYS = (
    "set GUARDLIB_DATA (or --data) to a folder that holds it as <folder>/<owner>/<name>/, "
    "or allow the network (and set HF_TOKEN for a gated set), or run on the built-in corpus with neither"
)
#: Files that a user brings for a benchmark and a mirror may hold, without their endings.
SUPPLIED_FILES = ("guardset-x", "lakera/pint-benchmark", "leolee99/piguard-valid")


@dataclass(frozen=True, slots=True)
class RawDataset:
    """Splits as the set has them, with its own columns."""

    splits: dict[str, pd.DataFrame]
    origin: str  # "mirror" | "hub"
    revision: str | None


def check_mirror(mirror: Path | str | None) -> Path | None:
    """``mirror`` as a path; SourceError where it is no folder of ``<owner>/<name>/README.md`` or SUPPLIED_FILES."""
    if mirror is None or str(mirror) == "":
        return None
    path = Path(mirror).expanduser()
    if not path.is_dir():
        raise SourceError(f"mirror {str(path)!r} is not a folder; {THREE_WAYS}")
    signs = ("*/*/README.md", *(f"{stem}.*" for stem in SUPPLIED_FILES))
    if not any(next(path.glob(sign), None) for sign in signs):
        raise SourceError(
            f"mirror {str(path)!r} holds no <owner>/<name>/README.md and no file that a benchmark asks for, so it is "
            f"not a mirror; {THREE_WAYS}"
        )
    return path


def read_dataset(
    dataset_id: str, config: str | None, mirror: Path | None, *, on_hub: bool, revision: str | None = None
) -> RawDataset:
    """All splits of a set: from ``mirror`` where it has the folder, else from the Hub where that has it.

    Raises:
        SourceError: one line that names the set, why it could not be had, and what to do.
    """
    if mirror is not None and (mirror / dataset_id).is_dir():
        return _from_mirror(mirror / dataset_id, config, dataset_id)
    absent = f"not in the mirror {str(mirror)!r}" if mirror is not None else "no mirror given"
    if not on_hub:
        raise SourceError(f"{dataset_id}: {absent}, and it is not on the Hub; give a mirror that has it (--data PATH)")
    if why := why_no_hub():
        raise SourceError(f"{dataset_id}: {absent}, and offline: {why}; give a mirror that has it (--data PATH)")
    return _from_hub(dataset_id, config, revision)


@functools.cache
def why_no_hub() -> str | None:
    """Why the Hub cannot be used, or None. Asked once per run; never takes longer than PROBE_SECONDS.

    One HEAD request in a thread: a name server that does not answer ignores the socket's timeout.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in ("1", "true", "yes", "on"):
        return "HF_HUB_OFFLINE is set"
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    outcome = [f"{endpoint} did not answer within {PROBE_SECONDS:g} s"]

    def probe() -> None:
        try:
            request = urllib.request.Request(endpoint, method="HEAD", headers={"User-Agent": "guardlib"})
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                outcome[0] = ""
        except urllib.error.HTTPError:  # it answered; a mirror of the Hub need not have a front page
            outcome[0] = ""
        except (OSError, ValueError) as error:
            outcome[0] = f"{endpoint} cannot be reached ({' '.join(str(error).split())})"

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return outcome[0] or None


def _from_mirror(folder: Path, config: str | None, dataset_id: str) -> RawDataset:
    # The cache is thrown away: a mirror is read in place, and a changed file must never be answered from a stale copy.
    with tempfile.TemporaryDirectory(prefix="guardlib-") as cache:
        try:
            return RawDataset(_load(str(folder), config, cache_dir=cache), "mirror", None)
        except Exception as error:  # load_dataset raises a dozen unrelated types on a damaged folder
            raise FormatError(
                f"{dataset_id}: cannot be read from the mirror {str(folder)!r} ({_one_line(error)}); copy it again"
            ) from error


def _from_hub(dataset_id: str, config: str | None, revision: str | None) -> RawDataset:
    from huggingface_hub import HfApi

    token = os.environ.get("HF_TOKEN") or None
    try:
        commit = revision or HfApi(token=token).dataset_info(dataset_id, timeout=10).sha
        return RawDataset(_load(dataset_id, config, revision=commit, token=token), "hub", commit)
    except Exception as error:  # network, licence not accepted, bad token, damaged files: all end in one line
        hint = _way_in(error, dataset_id, token) or THREE_WAYS
        raise SourceError(f"{dataset_id}: the Hub did not give it ({_one_line(error)}); {hint}") from error


def _way_in(error: Exception, dataset_id: str, token: str | None) -> str | None:
    """What opens a set that was refused: a token, another token, or its licence; None where it was no refusal."""
    said = str(error).lower()
    if not re.search(r"gated|\b40[13]\b|unauthorized|forbidden|authenticated", said):
        return None
    page = f"https://huggingface.co/datasets/{dataset_id}"
    if token is None:
        return f"no token: accept its licence at {page} and set HF_TOKEN"
    if re.search(r"\b401\b|unauthorized|invalid", said):
        return "HF_TOKEN is not valid: make one at https://huggingface.co/settings/tokens and set it"
    return f"licence not accepted: accept it at {page} with the account of HF_TOKEN"


def _load(path: str, config: str | None, **kwargs) -> dict[str, pd.DataFrame]:
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(path, config, **kwargs)
        # Plain Python values: what a text column holds must reach the quarantine check as it is.
        return {str(split): pd.DataFrame(rows.to_dict(), dtype=object) for split, rows in loaded.items()}
    finally:
        if shown:
            datasets.enable_progress_bars()


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
