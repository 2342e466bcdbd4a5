"""Which teacher layer each student layer learns from."""

from __future__ import annotations

from guardlib.distillation.errors import PairError

WAYS = ("uniform", "last", "first")


def layer_map(teacher_layers: int, student_layers: int, how: str = "uniform") -> tuple[int, ...]:
    """For each student layer the teacher's (both from 0).

    Args:
        how: ``uniform``: evenly spread and ending at the last (Sun et al. 2019, arXiv 1908.09355, "PKD-Skip");
            ``last`` / ``first``: the teacher's last / first layers in order; or the layers themselves, ``"1,3,5"``.

    >>> layer_map(12, 4)
    (2, 5, 8, 11)

    Raises:
        PairError: not a way, or layers that the teacher lacks, are not in rising order, or are too few or many.
    """
    if how == "uniform":
        return tuple(max(-(-(i + 1) * teacher_layers // student_layers) - 1, 0) for i in range(student_layers))
    if how in ("last", "first"):
        offset = max(teacher_layers - student_layers, 0) if how == "last" else 0
        return tuple(min(offset + i, teacher_layers - 1) for i in range(student_layers))
    try:
        chosen = tuple(int(part) for part in how.split(","))
    except ValueError:
        raise PairError(
            f"layer map {how!r} is not known; expected {', '.join(WAYS)}, or layers such as 1,3,5"
        ) from None
    if (
        len(chosen) != student_layers
        or list(chosen) != sorted(chosen)
        or not 0 <= chosen[0] <= chosen[-1] < teacher_layers
    ):
        raise PairError(
            f"layer map {how!r} does not fit; expected {student_layers} layers from 0 to {teacher_layers - 1} in order"
        )
    return chosen
