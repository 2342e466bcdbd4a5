"""What the router is worth at its budget."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from guardlib.evaluation.deferral import at_budget, beats_random, headline, paired, under_attack
from guardlib.labels import NUM_CLASSES


def routing_frame(fast_right: np.ndarray, deep_right: np.ndarray, router: np.ndarray) -> pd.DataFrame:
    """Rows of class 1 on which each branch is right or (saying 0) wrong as given."""
    names = [f"test/{i}" for i in range(len(router))]
    frame = pd.DataFrame({"label": 1, "router": router, "route": "fast", "example_id": names})
    for name, right in (("p_fast", fast_right), ("p_deep", deep_right)):
        for label in range(NUM_CLASSES):
            frame[f"{name}_{label}"] = 0.1 if label > 1 else np.where(right == (label == 1), 0.7, 0.1)
    return frame


@pytest.fixture
def hundred() -> tuple[np.ndarray, np.ndarray]:
    """The fast branch errs on 20 of 100 rows, the deep branch on none of them but on 5 others."""
    fast, deep = np.ones(100, bool), np.ones(100, bool)
    fast[:20] = False
    deep[20:25] = False
    return fast, deep


def test_policies_against_hand_counts(hundred):
    perfect = -np.arange(100.0)  # sends the rows the fast branch gets wrong first
    table = at_budget(routing_frame(*hundred, perfect), 0.2).set_index("policy")
    assert table.loc["always fast", "accuracy"] == pytest.approx(0.80)
    assert table.loc["always deep", "accuracy"] == pytest.approx(0.95)
    assert table.loc["router", "accuracy"] == pytest.approx(1.00)
    assert table.loc["oracle", "accuracy"] == pytest.approx(1.00)
    assert table.loc["random", "accuracy"] == pytest.approx(0.80 + 0.2 * 0.15)  # a fifth of the net gain
    assert (table["low"] <= table["accuracy"]).all()
    assert (table["high"] >= table["accuracy"]).all()


def test_a_router_that_knows_beats_random_and_one_that_does_not_does_not(hundred):
    frame = routing_frame(*hundred, -np.arange(100.0))
    assert beats_random(frame, 0.2) < 0.001
    backwards = frame.assign(router=np.arange(100.0))
    assert beats_random(backwards, 0.2) > 0.5


def test_copies_of_a_text_do_not_make_a_router_better(hundred):
    frame = routing_frame(*hundred, np.random.default_rng(0).normal(size=100) - 0.5 * np.arange(100) / 100)
    copies = pd.concat([frame.assign(example_id=[f"{k}/{i}@{i}" for i in range(100)]) for k in range(10)])
    once, often = (beats_random(rows, 0.2, draws=2000) for rows in (frame, copies))
    assert often == pytest.approx(once, abs=0.02)
    bands = [at_budget(rows, 0.2).eval("high - low").to_numpy() for rows in (frame, copies)]
    np.testing.assert_allclose(bands[1], bands[0], rtol=0.02)


def test_headline_has_every_policy(hundred):
    figures = headline(
        at_budget(routing_frame(*hundred, -np.arange(100.0)), 0.2), 0.01, pd.DataFrame({"deep_share": [0.4, 0.1]})
    )
    assert figures["accuracy_router"] > figures["accuracy_random"]
    assert figures["accuracy_entropy"] == pytest.approx(0.83)  # all rows are as unsure: that is random
    assert figures["p_router_is_random"] == 0.01
    assert figures["worst_deep_share"] == 0.4


def test_too_few_rows_have_no_worst_case(hundred):
    table = at_budget(routing_frame(*hundred, -np.arange(100.0)), 0.2)
    assert headline(table, 0.01, pd.DataFrame({"deep_share": []}))["worst_deep_share"] is None


def test_paired_differences_against_hand_counts_and_statsmodels(hundred):
    from statsmodels.stats.contingency_tables import mcnemar

    table = paired(routing_frame(*hundred, -np.arange(100.0)), 0.2).set_index("rival")
    deep, fast = table.loc["always deep"], table.loc["always fast"]
    assert (deep.router_only, deep.rival_only, deep.points) == (5, 0, pytest.approx(5))
    assert (fast.router_only, fast.rival_only, fast.points) == (20, 0, pytest.approx(20))
    assert deep.p == pytest.approx(mcnemar([[75, 5], [0, 20]], exact=True).pvalue)
    assert fast.low < 20 < fast.high
    assert fast.low == pytest.approx(20 - 196 * np.sqrt(0.2 * 0.8 / 99))  # won or not: a plain share


def test_the_routers_rival_is_the_fast_heads_entropy(hundred):
    frame = routing_frame(*hundred, np.arange(100.0))  # the router sends the last rows first
    frame.loc[:19, ["p_fast_0", "p_fast_1"]] = [0.5, 0.3]  # where the fast branch errs, it is less sure
    table = paired(frame, 0.2).set_index("rival")
    assert (table.loc["entropy", "router_only"], table.loc["entropy", "rival_only"]) == (0, 20)


def test_rows_of_one_base_text_count_as_one(hundred):
    frame = routing_frame(*hundred, -np.arange(100.0))
    together = frame.assign(example_id=[f"test/{i}@{i // 20}" for i in range(100)])
    alone, clustered = (paired(rows, 0.2).set_index("rival").loc["always fast"] for rows in (frame, together))
    assert clustered.points == alone.points
    assert clustered.high - clustered.low > 2 * (alone.high - alone.low)
    assert (alone.p < 0.001, clustered.p) == (True, 1.0)  # twenty rows of one text: one that differs


def test_the_worst_case_is_a_family_of_attacks_with_rows_enough():
    families = ["email", "base64", "rare", "persona"]
    table = pd.DataFrame({"family": families, "n": [50, 40, 3, 30], "deep_share": [0.9, 0.5, 1.0, 0.7]})
    assert under_attack(table)["family"].tolist() == ["email", "persona", "base64"]
