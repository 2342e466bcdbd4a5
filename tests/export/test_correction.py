"""Logits of rounded graphs are right in the mean of what is in doubt, and nothing but a constant has changed."""

import numpy as np
import onnx
import pytest

from guardlib.export.correction import _doubt, _outputs, correct_outputs
from guardlib.export.onnx import Graphs
from guardlib.export.quantize import calibration_feeds, quantize
from guardlib.runtime.session import make_session
from tests.helpers import make_frame

TEXTS = make_frame(24)["text"].tolist()


@pytest.fixture
def graphs(tiny, tmp_path):
    """The tiny guard's float32 graphs, and the same with 4-bit weights, which move the most, not yet corrected."""
    exact = Graphs(tiny.folder / "guard_float32" / "front.onnx", tiny.folder / "guard_float32" / "deep.onnx")
    rounded = Graphs(tmp_path / "front.onnx", tmp_path / "deep.onnx")
    for source, target in ((exact.front, rounded.front), (exact.deep, rounded.deep)):
        quantize(source, target, "int4")
    return exact, rounded, calibration_feeds(exact, tiny.guardrail.reader, TEXTS)[0]


def run_front(path, feeds) -> list[np.ndarray]:
    session = make_session(path)
    return [np.concatenate(parts) for parts in zip(*(session.run(_OUTPUTS, feed) for feed in feeds), strict=True)]


_OUTPUTS = ["fast_logits", "router_logit"]


def run_deep(path, hidden: np.ndarray) -> np.ndarray:
    mask = np.ones(hidden.shape[:2], np.int64)
    return make_session(path).run(["logits"], {"hidden": hidden, "attention_mask": mask})[0]


def off(exact, rounded, feeds) -> dict[str, np.ndarray]:
    """What ``rounded`` lacks, in the mean in which doubtful windows count."""
    wanted, found = (_outputs(each, feeds) for each in (exact, rounded))
    deep = wanted["logits"] + wanted["ngram_logits"]
    weights = {"fast_logits": _doubt(wanted["fast_logits"]), "logits": _doubt(deep), "router_logit": None}
    return {n: np.average(wanted[n] - found[n], axis=0, weights=w) for n, w in weights.items()}


def test_outputs_are_right_in_the_mean_and_differ_by_a_constant(graphs, tiny):
    exact, rounded, feeds = graphs
    before, was = off(exact, rounded, feeds), run_front(rounded.front, feeds)
    hidden = np.random.default_rng(0).standard_normal((3, 8, tiny.guardrail.model.config.d_model)).astype(np.float32)
    logits = run_deep(rounded.deep, hidden)
    added = correct_outputs(exact, rounded, feeds)
    assert max(np.abs(values).max() for values in before.values()) > 1e-3
    for values in off(exact, rounded, feeds).values():
        np.testing.assert_allclose(values, 0, atol=1e-5)
    for name, old, new in zip(_OUTPUTS, was, run_front(rounded.front, feeds), strict=True):
        np.testing.assert_allclose(new - old, np.broadcast_to(added[name], old.shape), atol=1e-5)
    np.testing.assert_allclose(run_deep(rounded.deep, hidden) - logits, added["logits"][None].repeat(3, 0), atol=1e-5)


def test_a_window_counts_by_its_doubt():
    """p (1 - p): a quarter where an attack is as likely as not, whichever kind; next to nothing where it is sure."""
    even, other, sure = [0.0, 0, -99, -99], [5.0, -99, -99, 5], [20.0, 0, 0, 0]
    np.testing.assert_allclose(_doubt(np.array([even, other])), 0.25, atol=1e-6)
    assert 0 < _doubt(np.array([sure]))[0] < 1e-6


def test_the_graphs_stay_valid_with_the_same_outputs(graphs):
    exact, rounded, feeds = graphs
    correct_outputs(exact, rounded, feeds)
    for one, other in ((exact.front, rounded.front), (exact.deep, rounded.deep)):
        proto = onnx.load(other)
        onnx.checker.check_model(proto)
        assert [o.name for o in proto.graph.output] == [o.name for o in onnx.load(one).graph.output]
    assert not list(rounded.front.parent.glob(".*.part"))


def test_no_inputs_are_refused(graphs):
    exact, rounded, _ = graphs
    with pytest.raises(ValueError, match="no inputs"):
        correct_outputs(exact, rounded, [])


def test_graphs_of_a_guard_are_corrected(tiny):
    names = {tensor.name for tensor in onnx.load(tiny.folder / "guard" / "front.onnx").graph.initializer}
    assert {"fast_logits_correction", "router_logit_correction"} <= names
    full = {tensor.name for tensor in onnx.load(tiny.folder / "guard_float32" / "front.onnx").graph.initializer}
    assert not any(name.endswith("_correction") for name in full)
