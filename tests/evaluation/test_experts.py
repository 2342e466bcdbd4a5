from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from guardlib.evaluation.experts import IdleExpert, by_layer, check_idle, expert_shares, expert_tokens, sample
from guardlib.labels import LABEL_NAMES
from guardlib.model.build import Guardrail
from guardlib.model.deep_branch import MixtureOfExperts
from guardlib.model.inference import Calibration
from tests.helpers import TINY, make_frame, make_model, make_reader

EXPERTS = [f"expert_{e}" for e in range(TINY.num_experts)]


@pytest.fixture
def guardrail() -> Guardrail:
    return Guardrail(make_model(), make_reader(), Calibration())


def test_every_token_has_one_expert(guardrail):
    frame = make_frame(20)
    table = expert_tokens(guardrail, frame, tokens_per_batch=256)
    assert len(table) == len(frame) * TINY.deep_layers
    np.testing.assert_array_equal(table[EXPERTS].sum(axis=1), table["tokens"])
    assert table["gate_entropy"].between(0, 1).all()
    first = {window.text: len(window) for window in reversed(guardrail.reader.windows(frame["text"].tolist()))}
    assert table.loc[table["layer"] == 0, "tokens"].tolist() == [first[row] for row in range(len(frame))]
    assert table["label"].tolist() == [LABEL_NAMES[label] for label in frame["label"] for _ in range(TINY.deep_layers)]


def test_batches_do_not_matter_and_no_hook_stays(guardrail):
    frame = make_frame(12)
    one, many = (expert_tokens(guardrail, frame, tokens) for tokens in (64, 8192))
    pd.testing.assert_frame_equal(one, many, rtol=1e-4)
    assert not any(m._forward_hooks for m in guardrail.model.modules() if isinstance(m, MixtureOfExperts))


def test_the_shares_are_those_of_the_model(guardrail):
    frame = make_frame(1)
    batch = guardrail.reader.collate(guardrail.reader.windows(frame["text"].tolist())[:1])
    inputs = [torch.from_numpy(x) for x in (batch.input_ids, batch.char_ids, batch.attention_mask)]
    expected = guardrail.model.eval()(*inputs).expert_load
    shares = expert_shares(expert_tokens(guardrail, frame)).sort_values("layer")
    np.testing.assert_allclose(shares[EXPERTS].to_numpy(), expected.detach().numpy(), atol=1e-6)


def made_up(rows: list[tuple]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["label", "family", "layer", "expert_0", "expert_1", "gate_entropy"])
    return frame.assign(tokens=frame["expert_0"] + frame["expert_1"])


def test_an_expert_of_its_own_tells_the_class():
    tokens = made_up([("benign", "a", 0, 10, 0, 0.0), ("jailbreak", "b", 0, 0, 10, 1.0)])
    gates = by_layer(tokens).iloc[0]
    assert (gates["least"], gates["most"], gates["gate_entropy"]) == (0.5, 0.5, 0.5)
    assert gates["bits_of_class"] == pytest.approx(1.0)
    assert expert_shares(tokens, by="family")["bits"].tolist() == pytest.approx([1.0, 1.0])


def test_an_idle_expert_shows_and_tells_nothing():
    table = by_layer(made_up([("benign", "a", 0, 10, 0, 0.2), ("jailbreak", "b", 0, 30, 0, 0.6)]))
    gates = table.iloc[0]
    assert (gates["least"], gates["most"]) == (0.0, 1.0)
    assert gates["bits_of_class"] == 0.0
    assert gates["gate_entropy"] == pytest.approx(0.5)
    with pytest.raises(IdleExpert, match=r"layer 0 one expert takes 0\.00% of the tokens"):
        check_idle(table)
    check_idle(by_layer(made_up([("benign", "a", 0, 10, 30, 0.2)])))


def test_the_sample_has_every_family():
    frame = make_frame(60).assign(family=["a"] * 50 + ["b"] * 10)
    assert sample(frame, 20)["family"].value_counts().to_dict() == {"a": 20, "b": 10}
