"""Who is asked for what when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardlib.distillation.curriculum import Curriculum, curriculum, table


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0.0, (1, 0, 0, 0, 0)),
        (0.1, (1, 0, 0, 0, 0)),
        (0.25, (1, 0.5, 0.5, 0, 0)),
        (0.4, (1, 1, 1, 0, 0)),
        (0.5, (1, 1, 1, 1 / 3, 0)),
        (0.7, (1, 1, 1, 1, 0)),
        (0.8, (1, 1, 1, 1, 1 / 3)),
        (1.0, (1, 1, 1, 1, 1)),
    ],
)
def test_points(progress, expected):
    assert curriculum(progress) == pytest.approx(expected)


@given(st.floats(0, 1), st.floats(0, 1))
def test_never_falls_and_never_leaves_0_to_1(a, b):
    low, high = curriculum(min(a, b)), curriculum(max(a, b))
    assert all(0 <= x <= y <= 1 for x, y in zip(low, high, strict=True))


@pytest.mark.parametrize("progress", [-0.1, 1.01, float("nan")])
def test_outside_is_refused(progress):
    with pytest.raises(ValueError, match="expected a share of the run between 0 and 1"):
        curriculum(progress)


def test_table_has_a_column_for_each_part():
    assert list(table(3)) == ["progress", *Curriculum._fields]
