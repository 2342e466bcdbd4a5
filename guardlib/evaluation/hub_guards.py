"""Guards that others published on the Hub, through one ``transformers`` adaptor.

They run where they can be downloaded; their published figures are shown in any case, and apart. No code of a
repository is executed: a guard that needs its own is not run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guardlib.data.loading import why_no_hub
from guardlib.evaluation.baselines import Predict, worst_piece
from guardlib.text.reading import TOKENS_PER_BATCH, batches_by_length
from guardlib.text.tokenizer import sanitize

#: Names of the harmless class in the configs of these models.
BENIGN_NAMES = ("benign", "safe", "legit", "label_0", "0")


class GuardAbsent(RuntimeError):
    """A guard of the Hub that cannot be had here; nothing is broken."""


@dataclass(frozen=True, slots=True)
class HubGuard:
    """``published``: how :mod:`guardlib.evaluation.published` calls it; "" where it has no published figure there."""

    hub_id: str
    published: str
    max_length: int = 512


HUB_GUARDS: dict[str, HubGuard] = {
    "protectai_v2": HubGuard("protectai/deberta-v3-base-prompt-injection-v2", "ProtectAI deberta-v3-base v2"),
    "piguard": HubGuard("leolee99/PIGuard", "PIGuard (InjecGuard)"),
    "prompt_guard_2_22m": HubGuard("meta-llama/Llama-Prompt-Guard-2-22M", "Prompt Guard 2 22M"),
    "prompt_guard_2_86m": HubGuard("meta-llama/Llama-Prompt-Guard-2-86M", "Prompt Guard 2 86M"),
    "deepset": HubGuard("deepset/deberta-v3-base-injection", ""),
    "fmops": HubGuard("fmops/distilbert-prompt-injection", ""),
}


def hub_guard(name: str) -> HubGuard:
    """The registered guard ``name``; ValueError where there is none."""
    if name not in HUB_GUARDS:
        raise ValueError(f"hub guard {name!r} does not exist; expected one of {', '.join(HUB_GUARDS)}")
    return HUB_GUARDS[name]


def revision(hub_id: str) -> str:
    """The commit that a model's repository is at; "" where the Hub does not say."""
    import os

    from huggingface_hub import HfApi

    if why_no_hub():
        return ""
    try:
        return HfApi().model_info(hub_id, token=os.environ.get("HF_TOKEN") or None).sha or ""
    except Exception:  # network, licence, no such repository: without a commit the guard is absent
        return ""


def download(hub_id: str, commit: str = "") -> Path:
    """The folder of a model of the Hub, at ``commit`` (empty: the newest).

    Raises:
        GuardAbsent: no network, a gate that is not open, or no such repository; says which.
    """
    import os

    from huggingface_hub import snapshot_download

    if why := why_no_hub():
        raise GuardAbsent(f"{hub_id}: {why}")
    try:
        patterns = ["*.json", "*.safetensors", "*.txt", "*.model"]
        token = os.environ.get("HF_TOKEN") or None
        return Path(snapshot_download(hub_id, revision=commit or None, token=token, allow_patterns=patterns))
    except Exception as error:  # network, licence not accepted, bad token: all end in one line
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise GuardAbsent(f"{hub_id}: the Hub did not give it ({reason})") from error


def load_hub_guard(folder: Path | str, max_length: int = 512, tokens_per_batch: int = TOKENS_PER_BATCH) -> Predict:
    """``predict(texts)`` → [N, 2] (benign, attack) of a sequence classifier in ``folder``.

    Longer texts are cut into chunks of ``max_length`` tokens that do not overlap; the worst one decides.

    Raises:
        GuardAbsent: transformers cannot load it; code that comes with a model is not run.
        ValueError: none, or several, of the model's classes is the harmless one.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from guardlib.model.inference import pick_device

    device = pick_device()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(folder).to(device).eval()
    except (OSError, ValueError, ImportError) as error:  # files that are not there, or code of its own
        reason = " ".join(str(error).split())[:200]
        raise GuardAbsent(
            f"{folder}: transformers cannot load it without code or files of its own ({reason})"
        ) from error
    benign = _benign_class(model.config.id2label, str(folder))
    before, after = _special_tokens(tokenizer)
    room = min(max_length, getattr(model.config, "max_position_embeddings", max_length)) - len(before) - len(after)

    def predict(texts: Sequence[str]) -> np.ndarray:
        chunks, owners = [], []
        for owner, text in enumerate(texts):
            ids = tokenizer(sanitize(text), add_special_tokens=False, verbose=False)["input_ids"]
            for start in range(0, max(len(ids), 1), room):
                chunks.append([*before, *ids[start : start + room], *after])
                owners.append(owner)
        probabilities = np.zeros((len(chunks), 2))
        with torch.inference_mode():
            for rows in batches_by_length([len(chunk) for chunk in chunks], tokens_per_batch):
                batch = tokenizer.pad({"input_ids": [chunks[row] for row in rows]}, return_tensors="pt").to(device)
                p_benign = model(**batch).logits.float().softmax(-1)[:, benign].cpu().numpy()
                probabilities[rows] = np.stack([p_benign, 1 - p_benign], axis=1)
        return worst_piece(probabilities, np.array(owners, dtype=np.int64), len(texts))

    return predict


def _special_tokens(tokenizer) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text."""
    bare, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    start = next(at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
    return whole[:start], whole[start + len(bare) :]


def _benign_class(names: dict[int, str], model: str) -> int:
    found = [number for number, name in names.items() if str(name).lower() in BENIGN_NAMES]
    if len(found) != 1:
        raise ValueError(f"{model} has the classes {list(names.values())}; expected one of {', '.join(BENIGN_NAMES)}")
    return int(found[0])


def fit_hub_guard(name: str, tokens_per_batch: int, commit: str) -> Callable[[], Predict]:
    """A function that downloads guard ``name`` at ``commit`` and returns its ``predict``.

    Without a commit (:func:`revision`) that raises :class:`GuardAbsent`: answers of unknown weights would be mixed.
    """
    guard = hub_guard(name)

    def fit() -> Predict:
        if not commit:
            raise GuardAbsent(f"{guard.hub_id}: {why_no_hub() or 'the Hub does not say which commit it is at'}")
        return load_hub_guard(download(guard.hub_id, commit), guard.max_length, tokens_per_batch)

    return fit
