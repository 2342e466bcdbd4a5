from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardlib.labels import Label
from guardlib.runtime import response
from guardlib.runtime.response import FAMILIES, LAYOUT, OTHER_FAMILY, Response, decode, encode, encode_verdict
from guardlib.text import views
from guardlib.text.word_order import WordOrder


def test_the_fields_fill_sixteen_bits():
    assert sum(LAYOUT.values()) == 16
    assert len(FAMILIES) <= OTHER_FAMILY < 1 << LAYOUT["family"]


def test_every_code_decodes_and_encodes_to_itself():
    assert all(encode(decode(code)) == code for code in range(1 << 16))
    assert decode(np.uint16(1 << 15)) == decode(1 << 15), "as it is read back from bytes"


def test_codes_have_names_for_everything():
    for code in range(0, 1 << 16, 7):
        decoded = decode(code)
        assert 0 <= decoded.confidence <= 1
        assert decoded.route in ("fast", "deep")
        assert decoded.view in FAMILIES or decoded.view.startswith("reserved")


@given(
    st.sampled_from(list(Label)),
    st.floats(0, 1),
    st.sampled_from(["fast", "deep"]),
    st.sampled_from([*FAMILIES, "a view of a later version"]),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
def test_a_verdict_survives(label, confidence, route, view, a, b):
    start, characters = sorted((a, b))
    code = encode_verdict(label > 0, label, confidence, route, view, start, characters)
    decoded = decode(code)
    assert decoded.consistent
    assert decoded.blocked == (label > 0)
    assert decoded.label == label
    assert decoded.route == route
    assert abs(decoded.confidence - confidence) <= 1 / 30 + 1e-9
    assert decoded.view == (view if view in FAMILIES else f"reserved {OTHER_FAMILY}")
    assert decoded.place / 8 <= start / max(characters, 1)


def test_layout_is_the_documented_one():
    """A code is stored in logs: a bit that moves turns old ones into lies."""
    code = encode_verdict(True, Label.JAILBREAK, 1.0, "deep", "base64", 50, 100)
    assert code == 0b1_10_00101_1111_1_100
    widths = re.findall(r"^[\d–]+ +(\d+) +(\w+) ", response.__doc__, flags=re.MULTILINE)
    assert {name: int(width) for width, name in widths} == LAYOUT


def test_every_view_has_a_family():
    """Names of the rules are taken from a guard's own source, so that a new rule cannot be forgotten."""
    unfolder = views.Unfolder(frozenset(), {}, WordOrder({}))
    rules = {rule for rule, *_ in (*unfolder._segments, *unfolder._on_characters)} | set(unfolder._on_whole_text)
    assert rules | {views.RAW, views.WORD_ORDER, views.ESCAPES, views.ESCAPED_LETTERS, "deletions", "structure"} == set(
        FAMILIES
    )


def test_inconsistent_codes_are_told_apart():
    assert not Response(blocked=1, label=0, family=0, level=0, deep=0, place=0).consistent
    assert not Response(blocked=0, label=2, family=0, level=0, deep=0, place=0).consistent
    assert not Response(blocked=0, label=0, family=len(FAMILIES), level=0, deep=0, place=0).consistent


@pytest.mark.parametrize("code", [-1, 1 << 16, 1.5, "1", None])
def test_what_is_no_code_is_refused(code):
    with pytest.raises(ValueError, match="65535"):
        decode(code)


@pytest.mark.parametrize(("field", "value"), [("level", 16), ("place", -1), ("label", 4), ("family", 1.0)])
def test_a_field_out_of_range_is_named(field, value):
    with pytest.raises(ValueError, match=field):
        Response(**{"blocked": 0, "label": 0, "family": 0, "level": 0, "deep": 0, "place": 0, field: value})


def test_sizes_of_nothing_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        response.answer_sizes([])
