"""One batch through teacher and student: what the teacher knows of it, and what each loss says of the student.

Legend: B sequences, L tokens, S aligned positions, N = all real aligned positions of the batch, V student vocabulary,
D the teacher's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from guardlib.config import DistillationConfig
from guardlib.distillation import losses
from guardlib.distillation.curriculum import Curriculum
from guardlib.distillation.experts import ExpertProbe, ExpertReading, expert_layers
from guardlib.distillation.pair import LanguageModel, Match
from guardlib.distillation.student_router import Routing, StudentRouter
from guardlib.distillation.text import Batch
from guardlib.distillation.vocabulary import LogitProjector

PARTS = ("kd", "lm", "feature", "attention", "layerwise", "contrastive")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a student is taught with. ``features``: the curriculum's parts; ``routed``: by the student-aware router."""

    name: str
    taught: bool = True
    features: bool = True
    routed: bool = True


ALONE = Recipe("alone", taught=False, features=False, routed=False)
PLAIN_KD = Recipe("plain_kd", features=False, routed=False)
UNROUTED = Recipe("unrouted", routed=False)  # every part, but the teacher's own mixture as the feature target
ROUTED = Recipe("routed")
RECIPES = {recipe.name: recipe for recipe in (ALONE, PLAIN_KD, UNROUTED, ROUTED)}


class Knowledge(NamedTuple):
    """What the frozen teacher says of a batch: ``logits`` [N, V], ``layers`` per student layer [N, D], ``feature``
    [N, D], ``attention`` [B, S, S], ``pooled`` [B, D] and, where it is asked for, its experts.

    ``feature`` is the state that the layer of ``experts`` leaves, mixed as the teacher mixes it: what the router's own
    mixture replaces, and nothing else. (The last of ``layers`` has the model's last norm on it, a mixture has not.)
    """

    logits: Tensor
    layers: tuple[Tensor, ...]
    feature: Tensor | None
    attention: Tensor | None
    pooled: Tensor | None
    experts: ExpertReading | None


class Teacher:
    """A frozen teacher, its logits moved to the student's vocabulary. Not a module: it is neither trained nor saved."""

    def __init__(self, teacher: LanguageModel, match: Match, device: torch.device) -> None:
        self.model = teacher.model.to(device).eval().requires_grad_(False)
        self.projector = LogitProjector(match.vocabulary).to(device)
        self.layers = match.layers
        self.width = teacher.config.hidden_size
        with_experts = [layer for layer in match.layers if layer in expert_layers(self.model)]
        self.expert_layer = with_experts[-1] if with_experts else None

    @torch.no_grad()
    def read(self, batch: Batch, features: bool = True, experts: bool = True) -> Knowledge:
        """The teacher's knowledge of ``batch``, in its own dtype, whatever autocast is on around."""
        device = next(self.model.parameters()).device
        with torch.autocast(device.type, enabled=False):
            if not features:
                logits = take(self._forward(batch).logits, batch.teacher_at, batch.aligned)
                return Knowledge(self.projector(logits), (), None, None, None, None)
            if self.expert_layer is None:
                return self._knowledge(batch)
            with ExpertProbe(self.model, self.expert_layer) as probe:
                knowledge = self._knowledge(batch)
                knowledge = knowledge._replace(feature=take(probe.after, batch.teacher_at, batch.aligned))
                if experts:
                    reading = probe.read(lambda x: take(x, batch.teacher_at, batch.aligned))
                    knowledge = knowledge._replace(experts=reading)
                return knowledge

    def _forward(self, batch: Batch, **wanted):
        return self.model(input_ids=batch.teacher_ids, attention_mask=batch.teacher_mask, use_cache=False, **wanted)

    def _knowledge(self, batch: Batch) -> Knowledge:
        """All but the experts; of a dense teacher the feature is the last of the layers."""
        output = self._forward(batch, output_hidden_states=True, output_attentions=True)
        at, real = batch.teacher_at, batch.aligned
        hidden = output.hidden_states
        layers = tuple(take(hidden[layer + 1], at, real) for layer in self.layers)
        return Knowledge(
            logits=self.projector(take(output.logits, at, real)),
            layers=layers,
            feature=layers[-1],
            attention=pool_attention(output.attentions[self.layers[-1]], at, batch.teacher_segment),
            pooled=mean_of_real(hidden[-1], batch.teacher_mask),
            experts=None,
        )


class Learner(nn.Module):
    """The student and the projections that exist only while it learns (student width → teacher width)."""

    def __init__(self, student: nn.Module, teacher_width: int | None) -> None:
        super().__init__()
        self.student = student
        if teacher_width is not None:
            width, depth = student.config.hidden_size, student.config.num_hidden_layers
            self.layers = nn.ModuleList(nn.Linear(width, teacher_width, bias=False) for _ in range(depth))
            self.feature = nn.Linear(width, teacher_width, bias=False)
            self.pooled = nn.Linear(width, teacher_width, bias=False)

    def forward(
        self,
        batch: Batch,
        knowledge: Knowledge | None,
        shares: Curriculum | None,
        config: DistillationConfig,
        router: StudentRouter | None = None,
        progress: float = 0.0,
    ) -> tuple[dict[str, Tensor], Tensor, Routing | None]:
        """Raw losses of the parts that have a share, the student's own auxiliary loss (0 where it has no experts), and
        the routing."""
        features = knowledge is not None and bool(knowledge.layers) and shares is not None and any(shares[1:])
        output = self.student(
            input_ids=batch.student_ids, attention_mask=batch.student_mask, use_cache=False,
            output_hidden_states=features, output_attentions=features and shares.attention > 0,
        )  # fmt: skip
        targets_BL = batch.student_ids.masked_fill(batch.student_mask == 0, -100)
        raw = {"lm": losses.language_model_loss(output.logits[:, :-1].flatten(0, 1), targets_BL[:, 1:].flatten())}
        routing = None
        with torch.autocast(batch.student_ids.device.type, enabled=False):  # losses are float32 whatever is around
            if knowledge is not None:
                logits = take(output.logits, batch.student_at, batch.aligned)
                raw["kd"] = losses.kd_loss(logits, knowledge.logits, config.temperature, config.top_k)
            if features:
                found, routing = self._features(output, batch, knowledge, shares, router, progress)
                raw |= found
        return raw, _auxiliary(output, self.student), routing

    def _features(self, output, batch, knowledge, shares, router, progress):
        """The curriculum's parts that have a share."""
        found: dict[str, Tensor] = {}
        routing = None
        hidden = [state.float() for state in output.hidden_states]
        at, real = batch.student_at, batch.aligned
        if shares.feature:
            states = take(hidden[-1], at, real)
            projected = self.feature(states)
            target = knowledge.feature
            if router is not None and knowledge.experts is not None:
                reading = knowledge.experts
                routing = router(projected, states, reading.gate, reading.states, progress)
                target = reading.state(routing.weight)
            found["feature"] = losses.feature_loss(projected, target)
        if shares.attention:
            attention = pool_attention(output.attentions[-1], at, batch.student_segment)
            found["attention"] = losses.attention_loss(attention, knowledge.attention, real)
        if shares.layerwise:
            students = [project(take(state, at, real)) for project, state in zip(self.layers, hidden[1:], strict=True)]
            found["layerwise"] = losses.layerwise_loss(students, knowledge.layers)
        if shares.contrastive:
            pooled = self.pooled(mean_of_real(hidden[-1], batch.student_mask))
            found["contrastive"] = losses.contrastive_loss(pooled, knowledge.pooled)
        return found, routing


def weights_of(recipe: Recipe, shares: Curriculum, config: DistillationConfig) -> dict[str, float]:
    """Weight of each part before balancing: 1 − α for the text itself, α for KD, the curriculum's share of the rest."""
    alpha = config.alpha if recipe.taught else 0.0
    weights = {"lm": 1 - alpha, "kd": alpha}
    for part in PARTS[2:]:
        weights[part] = getattr(config, f"{part}_weight") * getattr(shares, part) if recipe.features else 0.0
    return weights


def take(x_BLD: Tensor, at_BS: Tensor, real_BS: Tensor) -> Tensor:
    """The states at the real aligned positions, [N, D]."""
    rows_BS = torch.arange(len(at_BS), device=at_BS.device)[:, None].expand_as(at_BS)
    return x_BLD[rows_BS[real_BS], at_BS[real_BS]]


def pool_attention(maps_BHLL: Tensor, at_BS: Tensor, segment_BL: Tensor) -> Tensor:
    """Attention of aligned positions to segments, mean over heads: [B, H, L, L] → [B, S, S]; rows sum to 1."""
    mean_BLL = maps_BHLL.float().mean(1)
    rows_BSL = mean_BLL.gather(1, at_BS[:, :, None].expand(-1, -1, mean_BLL.shape[-1]))
    pooled_BSS = rows_BSL.new_zeros(*at_BS.shape, at_BS.shape[1])
    return pooled_BSS.scatter_add(2, segment_BL[:, None, :].expand_as(rows_BSL), rows_BSL)


def mean_of_real(x_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """Mean state of each sequence, padding left out, [B, D]."""
    mask_BL1 = mask_BL[:, :, None].to(x_BLD.dtype)
    return (x_BLD * mask_BL1).sum(1) / mask_BL1.sum(1).clamp(min=1)


def _auxiliary(output, student: nn.Module) -> Tensor:
    """The load-balancing loss of a model that has experts itself (a teacher in its own training), weighted."""
    loss = getattr(output, "aux_loss", None)
    if loss is None or not torch.is_tensor(loss):
        return output.logits.new_zeros((), dtype=torch.float32)
    return student.config.router_aux_loss_coef * loss.float()


def combine(raw: dict[str, Tensor], weights: dict[str, float], auxiliary: Tensor) -> Tensor:
    """Weighted sum of the parts that have a weight."""
    return sum((weights[part] * loss for part, loss in raw.items() if weights[part]), start=auxiliary)


def first_not_finite(raw: dict[str, Tensor] | Sequence) -> str | None:
    """Name of the first part that is not a number; None where all are."""
    return next((part for part, loss in raw.items() if not bool(torch.isfinite(loss).all())), None)
