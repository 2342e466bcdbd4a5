"""Layer maps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardlib.distillation.errors import PairError
from guardlib.distillation.layers import layer_map


@pytest.mark.parametrize(
    ("how", "expected"),
    [("uniform", (2, 5, 8, 11)), ("last", (8, 9, 10, 11)), ("first", (0, 1, 2, 3)), ("0,3,3,9", (0, 3, 3, 9))],
)
def test_ways(how, expected):
    assert layer_map(12, 4, how) == expected


@given(st.integers(1, 48), st.integers(1, 48), st.sampled_from(["uniform", "last", "first"]))
def test_every_student_layer_has_a_teacher_layer_in_order(teacher, student, how):
    chosen = layer_map(teacher, student, how)
    assert len(chosen) == student
    assert list(chosen) == sorted(chosen)
    assert 0 <= chosen[0] <= chosen[-1] < teacher
    if how == "uniform":
        assert chosen[-1] == teacher - 1


@pytest.mark.parametrize("how", ["middle", "1,2", "3,2,1,0", "0,1,2,12", "-1,0,1,2", ""])
def test_what_does_not_fit_is_named(how):
    with pytest.raises(PairError, match=f"layer map {how!r}"):
        layer_map(12, 4, how)
