"""Rounding is that of the INT8 graph, and training with it makes a model that loses less by it."""

import dataclasses

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper

from guardlib.config import ConfigError, TrainingConfig
from guardlib.training import quantization
from guardlib.training.examples import Epoch
from guardlib.training.quantization import check_quantization, quantized_products, round_to_bytes, rounded_activations
from guardlib.training.step import forward
from guardlib.training.trainer import train
from tests.helpers import make_frame, make_model, make_profile, make_reader


@pytest.fixture(scope="module")
def onnx_rounding():
    """Bytes and back, by ONNX Runtime."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["bytes", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    graph = helper.make_graph(nodes, "rounding", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda x: session.run(["y"], {"x": x})[0]


@given(x=arrays(np.float32, st.integers(1, 50), elements=st.floats(-1e4, 1e4, width=32)))
def test_the_steps_are_those_of_the_graph(onnx_rounding, x):
    step = (max(x.max(), 0) - min(x.min(), 0)) / 255
    rounded = round_to_bytes(torch.from_numpy(x)).numpy()
    # What lies half way between two steps may go either way.
    np.testing.assert_allclose(rounded, onnx_rounding(x), atol=1.01 * step + 1e-30)
    np.testing.assert_allclose(rounded, x, atol=1.01 * step + 1e-30)


def test_it_agrees_with_the_graph_but_for_ties(onnx_rounding):
    x = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    np.testing.assert_allclose(round_to_bytes(torch.from_numpy(x)).numpy(), onnx_rounding(x), atol=1e-6)


def test_the_gradient_passes():
    x = torch.randn(64, requires_grad=True)
    weights = torch.randn(64)
    (round_to_bytes(x) * weights).sum().backward()
    torch.testing.assert_close(x.grad, weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_while_open_and_in_either_precision(dtype):
    model, config = make_model(), make_profile().training
    batch = Epoch(make_frame(), make_reader(), config, seed=0, epoch=0)[0]
    before = forward(model.eval(), batch, config, dtype)[0].deep_logits
    with rounded_activations(model):
        inside = forward(model, batch, config, dtype)[0].deep_logits
    after = forward(model, batch, config, dtype)[0].deep_logits
    assert torch.equal(before, after)
    assert not torch.equal(before, inside)
    assert torch.isfinite(inside).all()
    assert round_to_bytes(torch.zeros(0, 8)).shape == (0, 8)


def test_small_products_and_characters_are_left_alone():
    model = make_model()
    rounded = {id(module) for module in quantized_products(model)}
    kept = [model.deep.layers[0].experts.gate, model.front.head.out, *model.front.embeddings.characters.banks]
    assert not rounded & {id(module) for module in kept}
    assert {id(layer.attention.qkv) for layer in model.front.stem} <= rounded


def test_training_with_it_makes_rounding_cost_less(tmp_path, monkeypatch):
    monkeypatch.setattr(quantization, "_LEVELS", 2)  # so few that a small model feels it
    frame, lost = make_frame(160), {}
    for share in (0.0, 1.0):
        profile = make_profile(epochs=8, quantization_aware_share=share)
        model = make_model()
        model.front.ngrams.forget()  # as in training
        train(model, make_reader(), frame, frame[:40], profile, tmp_path / str(share), progress_bar=False)
        batch = Epoch(frame, make_reader(), profile.training, seed=1, epoch=0)[0]
        with rounded_activations(model):
            losses = forward(model, batch, profile.training, torch.float32)[1]
        lost[share] = float(losses.fast + losses.deep)
    assert lost[1.0] < 0.1 * lost[0.0]


def test_a_share_out_of_range_is_named():
    with pytest.raises(ConfigError, match=r"quantization_aware_share is 1\.5"):
        check_quantization(dataclasses.replace(TrainingConfig(), quantization_aware_share=1.5))
