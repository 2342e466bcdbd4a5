from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from guardlib.evaluation.calibration import calibrate_router
from guardlib.evaluation.routing import (
    POLICIES,
    RouterCollapse,
    check_collapse,
    routing_by_label,
    routing_curve,
    scores_by,
)
from guardlib.labels import LABEL_NAMES

from .rows import routing_rows


def _right(frame):
    fast, deep = (frame[[f"p_{b}_{k}" for k in range(4)]].to_numpy().argmax(1) == frame.label for b in ("fast", "deep"))
    return fast.to_numpy(), deep.to_numpy()


def test_curve_is_what_routing_gives_at_each_threshold():
    frame = routing_rows(100)
    curve = routing_curve(frame)
    fast, deep = _right(frame)
    scores = {
        "router": frame["router"].to_numpy(),
        "entropy": entropy(frame[[f"p_fast_{k}" for k in range(4)]].to_numpy(), axis=1),
    }
    for policy, score in scores.items():
        order = np.argsort(-score)
        for share in (0.0, 0.17, 0.3, 1.0):
            goes_deep = np.zeros(100, bool)
            goes_deep[order[: round(share * 100)]] = True
            point = curve[(curve.policy == policy) & np.isclose(curve.deep_share, share)]
            assert point["accuracy"].item() == pytest.approx(np.where(goes_deep, deep, fast).mean())


@given(st.integers(1, 60), st.integers(0, 1000), st.none() | st.integers(1, 3))
def test_curves_share_their_ends_and_nothing_beats_the_oracle(n, seed, levels):
    frame = routing_rows(n, seed, levels)
    fast, deep = _right(frame)
    curve = routing_curve(frame, points=21)
    assert set(curve["policy"]) == set(POLICIES)
    table = curve.pivot(index="deep_share", columns="policy", values="accuracy")
    assert table.iloc[0].to_numpy() == pytest.approx(fast.mean())
    assert table.iloc[-1].to_numpy() == pytest.approx(deep.mean())
    assert (table.sub(table["oracle"], axis=0) <= 1e-9).all(axis=None)
    assert table["random"].to_numpy() == pytest.approx(np.interp(table.index, [0, 1], [fast.mean(), deep.mean()]))
    assert ((curve.low <= curve.accuracy + 1e-9) & (curve.accuracy <= curve.high + 1e-9)).all()


def test_ties_give_the_mean_over_random_orders():
    frame = routing_rows(40, levels=2)
    fast, deep = _right(frame)
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(4000):
        order = np.lexsort((rng.random(40), -frame["router"].to_numpy()))
        goes_deep = np.zeros(40, bool)
        goes_deep[order[:10]] = True
        samples.append(np.where(goes_deep, deep, fast).mean())
    curve = routing_curve(frame, points=5)
    point = curve[(curve.policy == "router") & (curve.deep_share == 0.25)]
    assert point["accuracy"].item() == pytest.approx(np.mean(samples), abs=0.005)


def test_by_label_follows_the_threshold_or_the_route_column():
    frame = routing_rows(200)
    threshold = calibrate_router(frame["router"].to_numpy(), 0.3)
    table = routing_by_label(frame, threshold)
    assert table["label"].tolist() == list(LABEL_NAMES)
    assert (table["n"] * table["deep_share"]).sum() == pytest.approx(60)
    fast, deep = _right(frame)
    went = (frame.router >= threshold).to_numpy()
    of_label = (frame.label == 2).to_numpy()
    assert table["accuracy_routed"][2] == pytest.approx(np.where(went, deep, fast)[of_label].mean())
    routed = routing_by_label(frame.assign(route=np.where(went, "deep", "fast")))
    assert routed.equals(table)
    by_family = routing_by_label(frame.assign(family=np.where(went, "b", "a")), threshold, by="family")
    assert by_family["deep_share"].tolist() == [0.0, 1.0]


def test_copies_of_one_text_do_not_narrow_the_interval():
    """Forty texts ten times over tell no more of the deep share than forty texts."""
    base = routing_rows(40).assign(label=1)
    copies = base.loc[base.index.repeat(10)].reset_index(drop=True)
    copies["example_id"] = [f"test/{i}@{i // 10}" for i in range(400)]
    alone, repeated = (routing_by_label(frame, 0.0).iloc[0] for frame in (base, copies))
    assert repeated["n"] == 400
    assert (repeated["low"], repeated["high"]) == pytest.approx((alone["low"], alone["high"]), rel=0.01)


def test_bad_rows_are_named():
    with pytest.raises(ValueError, match="p_deep_2"):
        routing_curve(routing_rows(5).drop(columns="p_deep_2"))
    with pytest.raises(ValueError, match="NaN"):
        routing_curve(routing_rows(5).assign(router=np.nan))
    with pytest.raises(ValueError, match="0 routing"):
        routing_curve(routing_rows(5).iloc[:0])
    with pytest.raises(ValueError, match="no 'route' column"):
        routing_by_label(routing_rows(5))


@pytest.mark.parametrize("share", [0.0, 0.005, 0.995, 1.0, float("nan")])
def test_collapse_is_an_error(share):
    with pytest.raises(RouterCollapse, match=r"router sends .* deep; expected 1% to 99%.*router_loss_weight"):
        check_collapse(share)


def test_constant_router_is_an_error_whatever_its_share():
    with pytest.raises(RouterCollapse, match="standard deviation"):
        check_collapse(0.3, router_std=1e-7)
    with pytest.raises(RouterCollapse, match="standard deviation"):
        check_collapse(0.3, router_std=float("nan"))
    check_collapse(0.3, router_std=0.4)
    check_collapse(0.01)


def test_groups_by_how_hard_the_router_finds_them():
    names = ["easy"] * 11 + ["hard"] * 11 + ["rare"] * 3
    frame = pd.DataFrame({"family": names, "router": [*range(11), *range(5, 16), 50, 50, 50]})
    table = scores_by(frame, "family")
    assert table["family"].tolist() == ["hard", "easy"]
    assert table.loc[0, ["n", "p25", "median", "p75"]].tolist() == [11, 7.5, 10, 12.5]
