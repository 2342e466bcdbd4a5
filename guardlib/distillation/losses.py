"""The losses of distillation, each a small function that returns a float32 scalar of order one.

Every one is a mean over what it compares, so none grows with width, length, heads or layers: summed over a teacher's
width or a sequence's length, feature and attention losses start at 100 and more, and drown the others.

Legend: N token positions, B sequences, S aligned positions, V vocabulary, K top-k, D the teacher's width, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

_ALMOST_ALL = 1 - 1e-6  # probability kept by the top-k: the rest's logarithm stays finite
_TINY = 1e-9


def kd_loss(student_NV: Tensor, teacher_NV: Tensor, temperature: float = 4.0, top_k: int = 256) -> Tensor:
    """``T² KL(p ‖ q)``, mean over positions; p teacher, q student at temperature T.

    Hinton et al. 2015, arXiv 1503.02531, section 2 (T² keeps the gradient's size independent of T). The teacher's
    ``top_k`` tokens count one by one and all others as one more class, so the student is not taught that what the cut
    leaves out is impossible. Logits of any dtype; a tensor that has no more than ``top_k`` classes is taken whole.
    """
    teacher_NV, student_NV = teacher_NV.float() / temperature, student_NV.float() / temperature
    if top_k < teacher_NV.shape[-1]:
        ids_NK = teacher_NV.topk(top_k, dim=-1, sorted=False).indices
        p_log, q_log = _with_rest(teacher_NV, ids_NK), _with_rest(student_NV, ids_NK)
    else:
        p_log, q_log = F.log_softmax(teacher_NV, dim=-1), F.log_softmax(student_NV, dim=-1)
    return temperature**2 * (p_log.exp() * (p_log - q_log)).sum(-1).mean()


def _with_rest(logits_NV: Tensor, ids_NK: Tensor) -> Tensor:
    """Log-probabilities of ``ids``, and of everything else together: [N, V] → [N, K + 1]."""
    kept_NK = logits_NV.gather(-1, ids_NK) - logits_NV.logsumexp(-1, keepdim=True)
    rest_N1 = torch.log1p(-kept_NK.exp().sum(-1, keepdim=True).clamp(max=_ALMOST_ALL))
    return torch.cat([kept_NK, rest_N1], dim=-1)


def language_model_loss(logits_NV: Tensor, targets_N: Tensor, chunk: int = 1024) -> Tensor:
    """``−log p(next token)``, mean over positions; ``−100`` in ``targets_N`` is not counted.

    Bengio et al. 2003, A Neural Probabilistic Language Model, JMLR 3, section 2, without its regularisation.
    Computed ``chunk`` positions at a time, and once more on the way back: the float32 copies of all logits are the
    largest tensors of a step otherwise.
    """
    total = logits_NV.new_zeros((), dtype=torch.float32)
    for logits, targets in zip(logits_NV.split(chunk), targets_N.split(chunk), strict=True):
        total = total + checkpoint(_sum_of_chunk, logits, targets, use_reentrant=False)
    return total / (targets_N != -100).sum().clamp(min=1)


def _sum_of_chunk(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    return F.cross_entropy(logits_NV.float(), targets_N, reduction="sum")


def feature_loss(student_ND: Tensor, teacher_ND: Tensor) -> Tensor:
    """``‖s/rms(s) − t/rms(t)‖² / D``, mean over positions; between 0 and 4, and 2 for states that share nothing.

    Romero et al. 2014 (FitNets), arXiv 1412.6550, eq. 3, per dimension of the teacher and on states of unit scale: a
    teacher's hidden states grow with depth. ``student_ND`` has been projected to the teacher's width.
    """
    return (_unit(student_ND) - _unit(teacher_ND)).square().mean(-1).mean()


def _unit(x_ND: Tensor) -> Tensor:
    """Each row at root mean square 1."""
    x_ND = x_ND.float()
    return x_ND * (x_ND.square().mean(-1, keepdim=True) + _TINY).rsqrt()


def attention_loss(student_BSS: Tensor, teacher_BSS: Tensor, mask_BS: Tensor) -> Tensor:
    """``KL(teacher ‖ student)`` of attention rows, mean over the real positions of all sequences.

    Wang et al. 2020 (MiniLM), arXiv 2002.10957, eq. 2, which divides by the sequence's length; maps are means over
    heads, since teacher and student differ in them. Rows sum to 1; ``mask_BS`` says which are real.
    """
    p, q = teacher_BSS.float().clamp(min=_TINY), student_BSS.float().clamp(min=_TINY)
    rows_BS = (p * (p.log() - q.log())).sum(-1)
    return (rows_BS * mask_BS).sum() / mask_BS.sum().clamp(min=1)


def layerwise_loss(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """:func:`feature_loss` of each student layer with the teacher layer it is mapped to, mean over layers.

    Sun et al. 2019 (Patient KD), arXiv 1908.09355, eq. 7. Each [N, D].
    """
    return torch.stack([feature_loss(s, t) for s, t in zip(students, teachers, strict=True)]).mean()


def contrastive_loss(student_BD: Tensor, teacher_BD: Tensor, temperature: float = 0.1) -> Tensor:
    """InfoNCE, ``−log(exp(s_ii / τ) / Σ_j exp(s_ij / τ))``: each student sequence i has to find its own teacher's
    among those of the batch, by the cosines s_ij.

    Tian et al. 2019 (CRD), arXiv 1910.10699, with the batch as negatives (van den Oord et al. 2018, arXiv 1807.03748,
    eq. 4). ln B for a student that tells nothing apart, 0 where B = 1.
    """
    student_BD, teacher_BD = F.normalize(student_BD.float(), dim=-1), F.normalize(teacher_BD.float(), dim=-1)
    similarity_BB = student_BD @ teacher_BD.T / temperature
    return F.cross_entropy(similarity_BB, torch.arange(len(similarity_BB), device=similarity_BB.device))
