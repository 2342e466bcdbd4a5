from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from guardlib.export.quantize import BITS, compare_precisions, theory_table
from guardlib.export.release import parity


def tensors(path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def test_embedding_rows_have_a_scale_each(tiny):
    """One scale for a whole table would cost small rows their digits; here no value is off by more than half a step."""
    before = tiny.guardrail.model.front.embeddings.word.weight.detach().numpy()
    after = tensors(tiny.folder / "guard" / "front.onnx")
    rows, scale = after["embeddings.word.weight_int8"], after["embeddings.word.weight_scale"]
    assert rows.dtype == np.int8
    assert scale.shape == (len(before), 1)
    assert (np.abs(rows * scale - before) <= scale / 2 * 1.001).all()


def test_weights_keep_to_seven_bits(tiny):
    """Eight would saturate where two products are added in 16 bits (CPUs without VNNI)."""
    for part in ("front", "deep"):
        weights = [v for k, v in tensors(tiny.folder / "guard" / f"{part}.onnx").items() if k.endswith("_quantized")]
        assert len(weights) >= 3
        assert max(np.abs(weight.astype(int)).max() for weight in weights) <= 64


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
    assert total["int8"] < 0.4 * total["float32"]  # a toy, in which the nodes weigh too


def test_theory_counts_every_parameter(tiny):
    table = theory_table(tiny.guardrail.model)
    assert list(table["precision"].unique()) == list(BITS)
    parameters = sum(p.numel() for p in tiny.guardrail.model.parameters())
    total = table[table["part"] == "total"].set_index("precision")
    assert (total["parameters"] == parameters).all()
    assert total.loc["float32", "theory_bytes"] == 4 * parameters
    assert total.loc["int4", "theory_bytes"] == parameters // 2


def test_files_are_about_as_large_as_theory_says(tiny):
    graphs = tiny.sizes.dropna(subset="theory_bytes")
    assert set(graphs["file"]) == {"front.onnx", "deep.onnx"}
    assert (graphs["bytes"] >= 0.95 * graphs["theory_bytes"]).all()
    assert (graphs["bytes"] <= graphs["theory_bytes"] + 150_000).all()


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
    assert 0 < rows.iloc[1]["max_dp_fast"] < 0.2  # rounded, not broken
    assert (tiny.folder / "parity.json").is_file()


def test_parity_of_nothing_is_refused(tiny):
    with pytest.raises(ValueError, match="no texts"):
        compare_precisions(tiny.guardrail, {}, [])
