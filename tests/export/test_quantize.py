from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from guardlib.export import quantize
from guardlib.export.onnx import ExportError
from guardlib.export.parity import compare_precisions
from guardlib.export.quantize import BITS, theory_table
from guardlib.export.release import parity
from tests.helpers import count_weights


def tensors(path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def test_embedding_rows_have_a_scale_each(tiny):
    """One scale for a whole table would cost small rows their digits; here no value is off by more than half a step."""
    before = tensors(tiny.folder / "guard_float32" / "front.onnx")["embeddings.table.weight"]
    after = tensors(tiny.folder / "guard" / "front.onnx")
    rows, scale = after["embeddings.table.weight_int8"], after["embeddings.table.weight_scale"]
    assert rows.dtype == np.int8
    assert scale.shape == (len(before), 1)
    assert (np.abs(rows * scale - before) <= scale / 2 * 1.001).all()


def test_weights_use_all_eight_bits(tiny):
    for part in ("front", "deep"):
        weights = [v for k, v in tensors(tiny.folder / "guard" / f"{part}.onnx").items() if k.endswith("_quantized")]
        assert len(weights) >= 3
        assert {(weight.dtype, weight.min(), weight.max()) for weight in weights} == {(np.dtype(np.int8), -128, 127)}


def product(weights: np.ndarray) -> onnx.ModelProto:
    """y [B, L, N] = x [B, L, K] times ``weights`` [K, N]."""
    x, y = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["b", "l", size])
        for name, size in zip("xy", weights.shape, strict=True)
    )
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], "g", [x], [y],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10)


@pytest.fixture
def wide(tmp_path):
    """A product whose input has one channel that reaches forty times as far as the others."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((64, 32)).astype(np.float32)
    x = rng.standard_normal((1, 200, 64)).astype(np.float32)
    x[..., 7] *= 40
    path = tmp_path / "float32.onnx"
    onnx.save(product(weights), path)
    return path, x, x @ weights


def error(path, x: np.ndarray, expected: np.ndarray) -> float:
    found = quantize.make_session(path, 1).run(["y"], {"x": x})[0]
    return float(np.abs(found - expected).mean() / np.abs(expected).mean())


def test_smoothing_changes_nothing_in_float32(wide, tmp_path):
    path, x, expected = wide
    proto = onnx.load(path)
    ranges = quantize.input_ranges(path, [{"x": x}])
    assert ranges["x"].argmax() == 7
    quantize.smooth(proto, ranges, rank=4)
    onnx.save(proto, tmp_path / "smooth.onnx")
    assert error(tmp_path / "smooth.onnx", x, expected) < 1e-6


def test_smoothing_saves_the_other_channels(wide, tmp_path):
    path, x, expected = wide
    quantize.quantize(path, tmp_path / "plain.onnx", "int8")
    quantize.quantize(path, tmp_path / "smooth.onnx", "int8", [{"x": x}])
    assert error(tmp_path / "smooth.onnx", x, expected) < 0.5 * error(tmp_path / "plain.onnx", x, expected)


@pytest.mark.parametrize(
    ("precision", "most"), [("float16", 1e-3), ("int8_blocks", 0.03), ("int8_mixed", 0.2), ("int4", 0.2)]
)
def test_products_in_other_precisions_are_close(wide, tmp_path, precision, most):
    path, x, expected = wide
    quantize.quantize(path, tmp_path / "q.onnx", precision)
    assert 0 < error(tmp_path / "q.onnx", x, expected) < most


def test_static_ranges_need_calibration(wide, tmp_path):
    with pytest.raises(ValueError, match="calibration"):
        quantize.quantize(wide[0], tmp_path / "q.onnx", "int8_static")


def test_an_unknown_precision_is_refused(tiny, tmp_path):
    from guardlib.export.onnx import Graphs

    with pytest.raises(ValueError, match=r"int3.*float16, int8_blocks"):
        quantize.quantize_graphs(Graphs(tmp_path / "a", tmp_path / "b"), tmp_path, "int3", ([], []))


def test_outputs_that_decide_stay_in_float(tiny):
    """Gates, routing logit and class logits are few channels: quantizing them saves nothing and flips decisions."""
    for part in ("front", "deep"):
        graph = onnx.load(tiny.folder / "guard" / f"{part}.onnx").graph
        shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        integer = [shapes[node.input[1]] for node in graph.node if node.op_type == "MatMulInteger"]
        assert integer
        assert min(map(min, integer)) >= 16


def test_int8_is_much_smaller(tiny):
    total = tiny.sizes[tiny.sizes["file"].str.endswith(".onnx")].groupby("precision")["bytes"].sum()
    kept = 4 * sum(values.numel() for values in tiny.guardrail.model.front.ngrams.buffers())  # float32 in every one
    assert total["int8"] - kept < 0.4 * (total["float32"] - kept)  # a toy, in which the nodes weigh too


def test_theory_counts_every_parameter(tiny):
    table = theory_table(tiny.guardrail.model)
    assert list(table["precision"].unique()) == list(BITS)
    parameters = count_weights(tiny.guardrail.model)
    total = table[table["part"] == "total"].set_index("precision")
    assert (total["parameters"] == parameters).all()
    assert total.loc["float32", "theory_bytes"] == 4 * parameters
    assert total.loc["int4", "theory_bytes"] == parameters // 2


def test_files_are_about_as_large_as_theory_says(tiny):
    graphs = tiny.sizes.dropna(subset="theory_bytes")
    assert set(graphs["file"]) == {"front.onnx", "deep.onnx"}
    assert set(graphs["precision"]) == set(BITS)
    model = tiny.guardrail.model
    spelled = 2 * model.front.embeddings.word.weight.numel()  # vectors of spellings, beside those of words
    small = 4 * sum(p.numel() for p in model.front.embeddings.characters.parameters())  # and others that stay in float
    for row in graphs.itertuples():
        extra = spelled * BITS[row.precision] / 8 + small if row.file == "front.onnx" else 0
        assert 0.95 * row.theory_bytes <= row.bytes <= 1.15 * (row.theory_bytes + extra) + 300_000, row


def test_parity_of_every_pair(tiny):
    import pandas as pd

    from tests import tiny_guard

    rows = parity(tiny.guardrail, tiny.folder, pd.Series(tiny_guard.TEXTS), tiny.profile)
    assert list(zip(rows["reference"], rows["candidate"], strict=True)) == [
        ("torch", "float32"),
        ("torch", "int8"),
        ("float32", "int8"),
    ]
    full = rows.iloc[0]
    assert full["max_dp_fast"] <= 1e-4
    assert full["max_dp_deep"] <= 1e-4
    assert full["same_label"] == full["same_route"] == full["same_verdict"] == 1
    assert full["windows"] > full["texts"] == len(tiny_guard.TEXTS)
    assert rows.iloc[1][["max_dp_fast", "max_dp_deep"]].between(1e-9, 0.2).all()  # rounded, not broken
    assert (tiny.folder / "parity.json").is_file()


def test_float32_graphs_that_are_off_are_an_error(tiny, monkeypatch):
    import pandas as pd

    from guardlib.export import release
    from tests import tiny_guard

    monkeypatch.setattr(release, "MOST_OFF", 0.0)
    with pytest.raises(ExportError, match=r"float32 graphs are .* off the model in a probability, of at most 0, on"):
        parity(tiny.guardrail, tiny.folder, pd.Series(tiny_guard.TEXTS), tiny.profile)


def test_parity_of_nothing_is_refused(tiny):
    with pytest.raises(ValueError, match="no texts"):
        compare_precisions(tiny.guardrail, {}, [])
