"""Teachers of guards: an ensemble of guards, or any sequence classifier of the Hub.

Legend: B texts of a batch, K classes (4; 2 for a teacher that only tells attack from benign), F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from guardlib.distillation.errors import PairError
from guardlib.distillation.finished import model_digest
from guardlib.distillation.pair import check_reachable
from guardlib.labels import LABEL_NAMES
from guardlib.model.dual_branch import DualBranchModel
from guardlib.model.inference import to_tensors
from guardlib.model.transformer import POOLED
from guardlib.training.examples import TrainingBatch
from guardlib.training.trainer import pick_precision

_BENIGN_NAMES = ("benign", "safe", "legit", "legitimate", "no_injection", "negative", "normal", "clean")


class Judgement(NamedTuple):
    """``logits`` [B, K], column 0 benign; ``features`` [B, F], what the teacher thinks of a text before it decides."""

    logits: Tensor
    features: Tensor


class GuardTeacher(Protocol):
    """What :class:`guardlib.distillation.guards.Guidance` needs of a teacher."""

    features: int
    identity: str  # whose judgement it is: changes with weights and classes

    def judge(self, batch: TrainingBatch, texts: Sequence[str]) -> Judgement:
        """Judge a batch; ``texts`` are the whole texts of its rows."""


class Pooled:
    """Keeps what a guard's deep head was last given: the pooled state, [B, 3 D]."""

    def __init__(self, model: DualBranchModel) -> None:
        self.state: Tensor | None = None
        self._hook = model.deep.head.register_forward_pre_hook(self._keep)

    def _keep(self, _, inputs) -> None:
        self.state = inputs[0]

    def remove(self) -> None:
        """Stop listening."""
        self._hook.remove()


class Ensemble:
    """Several guards that read the same windows as the student: mean probability, features side by side."""

    def __init__(self, guards: Sequence[DualBranchModel]) -> None:
        if not guards:
            raise PairError("an ensemble of 0 guards cannot teach; expected at least one")
        self.guards = [guard.eval().requires_grad_(False) for guard in guards]
        self._pooled = [Pooled(guard) for guard in self.guards]
        self.features = sum(POOLED * guard.config.d_model for guard in self.guards)
        self.identity = f"ensemble {model_digest(*self.guards)}"

    @torch.no_grad()
    def judge(self, batch: TrainingBatch, texts: Sequence[str]) -> Judgement:
        device = next(self.guards[0].parameters()).device
        inputs = to_tensors(batch.inputs, device)
        dtype = pick_precision("auto", device)  # as the student reads, outside whose autocast this is called
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits = [guard(*inputs).deep_logits for guard in self.guards]
        logs = torch.stack(logits).float().log_softmax(-1)
        mean = logs.logsumexp(0) - torch.log(torch.tensor(float(len(self.guards))))
        return Judgement(mean, torch.cat([pooled.state.float() for pooled in self._pooled], dim=-1))


class HubClassifier:
    """A sequence classifier by id or path. ``benign`` names its benign class where its own names do not say.

    Raises:
        PairError: it cannot be loaded, or none or several of its classes could be the benign one.
    """

    def __init__(self, name: str, benign: str | None = None, max_length: int = 512) -> None:
        check_reachable(name)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(name)
            self.model: nn.Module = AutoModelForSequenceClassification.from_pretrained(name)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise PairError(
                f"classifier {name!r} cannot be loaded ({reason}); expected a Hub id or a folder"
            ) from error
        self.model.eval().requires_grad_(False)
        self.columns = class_columns(self.model.config.id2label, benign, name)
        self._ours = _has_ours(self.model.config.id2label.values())
        self.features = self.model.config.hidden_size
        self.identity = f"{name} {model_digest(self.model)} {self.columns}"
        self.max_length = min(max_length, self.tokenizer.model_max_length)

    @torch.no_grad()
    def judge(self, batch: TrainingBatch, texts: Sequence[str]) -> Judgement:
        device = next(self.model.parameters()).device
        inputs = self.tokenizer(
            list(texts), truncation=True, max_length=self.max_length, padding=True, return_tensors="pt"
        ).to(device)
        output = self.model(**inputs, output_hidden_states=True)
        logits = output.logits.float()[:, self.columns]
        return Judgement(logits if self._ours else fold(logits, 2), output.hidden_states[-1][:, 0].float())


def fold(logits_BK: Tensor, classes: int) -> Tensor:
    """Logits of benign and attack where the teacher tells no kinds of attack apart, [B, 2]; else as they are."""
    if logits_BK.shape[-1] == classes:
        return logits_BK
    logits = logits_BK.float()
    return torch.stack([logits[:, 0], logits[:, 1:].logsumexp(-1)], dim=-1)


def class_columns(id2label: dict[int, str], benign: str | None, name: str) -> list[int]:
    """Columns in our order: the four classes where it has them by name, else the benign one and then all others."""
    names = {str(label).lower(): int(column) for column, label in id2label.items()}
    if _has_ours(names):
        return [names[label] for label in LABEL_NAMES]
    wanted = (benign.lower(),) if benign else _BENIGN_NAMES
    found = [column for label, column in names.items() if label in wanted]
    if len(found) != 1 or len(names) < 2:
        raise PairError(
            f"classifier {name} has the classes {', '.join(map(str, id2label.values()))}; expected the four of this "
            "project, or two and more of which one is benign: name that one (benign=…)"
        )
    return [found[0], *(column for column in sorted(names.values()) if column != found[0])]


def _has_ours(labels: Iterable[str]) -> bool:
    """Whether the four classes are among ``labels``."""
    return set(LABEL_NAMES) <= {str(label).lower() for label in labels}
