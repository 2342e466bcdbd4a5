"""Smaller graphs: dynamic INT8, what each precision weighs, and whether anything was lost.

Weights are quantized per output channel when the graph is made, activations per tensor while it runs (ONNX Runtime's
dynamic quantization). Embedding tables, which it would give one scale for all rows, get one per row. Outputs of a few
channels (class logits, routing logit, expert gates) stay in float32: they weigh nothing and decide everything.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from guardlib.export.onnx import Graphs
from guardlib.labels import Label
from guardlib.model.build import Guardrail
from guardlib.model.dual_branch import DualBranchModel
from guardlib.model.inference import Calibration, WindowScores, decide, score_windows, softmax
from guardlib.runtime.session import GuardModel, run_windows

BITS = {"float32": 32, "float16": 16, "int8": 8, "int4": 4}
_FEW_CHANNELS = 16


def quantize_graphs(graphs: Graphs, folder: Path, reduce_range: bool = True) -> Graphs:
    """INT8 versions of ``graphs`` in ``folder``.

    ``reduce_range`` keeps weights to 7 bits: without VNNI an x86 CPU adds two 8-bit products in 16 bits and saturates.
    """
    folder.mkdir(parents=True, exist_ok=True)
    small = Graphs(folder / "front.onnx", folder / "deep.onnx")
    quantize_int8(graphs.front, small.front, reduce_range)
    quantize_int8(graphs.deep, small.deep, reduce_range)
    return small


def quantize_int8(source: Path, target: Path, reduce_range: bool = True) -> None:
    """Write the dynamic INT8 version of one graph; complete or not at all."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch, _quiet():
        part = Path(scratch) / target.name
        quantize_dynamic(
            source,
            part,
            op_types_to_quantize=["MatMul"],  # Gemm becomes MatMul first
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_few_channel_nodes(onnx.load(source)),
        )
        proto = onnx.load(part)
        quantize_tables(proto)
        del proto.graph.value_info[:]
        onnx.checker.check_model(proto)
        onnx.save(proto, part)
        os.replace(part, target)


def _few_channel_nodes(proto: onnx.ModelProto) -> list[str]:
    """Names of products with a constant of fewer than 16 channels."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    names = []
    for node in proto.graph.node:
        if node.op_type in ("MatMul", "Gemm") and min(shapes.get(node.input[1], (_FEW_CHANNELS,))) < _FEW_CHANNELS:
            names += [node.name, f"{node.name}_MatMul"]  # the second is its name once the quantizer has split a Gemm
    return names


def quantize_tables(proto: onnx.ModelProto) -> None:
    """Turn each embedding lookup of ``proto`` into int8 rows times a scale per row, in place."""
    graph = proto.graph
    tables = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    nodes = []
    for node in graph.node:
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or table.data_type != onnx.TensorProto.FLOAT:
            nodes.append(node)
            continue
        values = numpy_helper.to_array(table)
        scale = np.abs(values).max(axis=1, keepdims=True) / 127
        scale[scale == 0] = 1
        rows = np.round(values / scale).astype(np.int8)
        name, (output,), ids = table.name, node.output, node.input[1]
        graph.initializer.remove(table)
        graph.initializer.extend(
            [
                numpy_helper.from_array(rows, f"{name}_int8"),
                numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"),
            ]
        )
        nodes += [
            helper.make_node("Gather", [f"{name}_int8", ids], [f"{output}_int8"], name=f"{node.name}_int8"),
            helper.make_node("Cast", [f"{output}_int8"], [f"{output}_float"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}_scale", ids], [f"{output}_scale"], name=f"{node.name}_scale"),
            helper.make_node("Mul", [f"{output}_float", f"{output}_scale"], [output]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


def theory_table(model: DualBranchModel) -> pd.DataFrame:
    """What each precision weighs in theory: ``precision, part`` (front, deep, total), ``parameters, theory_bytes``."""
    info = model.info()
    rows = [
        (precision, part, info[part], info[part] * bits // 8)
        for precision, bits in BITS.items()
        for part in ("front", "deep", "total")
    ]
    return pd.DataFrame(rows, columns=["precision", "part", "parameters", "theory_bytes"])


def compare_precisions(
    guardrail: Guardrail,
    graphs: dict[str, Graphs],
    texts: Sequence[str],
    threads: int | None = None,
    tokens: int = 4096,
) -> pd.DataFrame:
    """How far each precision is from torch on ``texts``: both branches on every window, and the routed verdicts.

    Returns:
        A row per pair (``reference`` → ``candidate``): ``texts, windows, max_dp_fast, max_dp_deep`` (largest difference
        of a probability), ``mean_dp`` (of the routed attack score), ``same_label, same_route, same_verdict`` (shares of
        texts; label: likeliest class, verdict: flagged or not).

    Raises:
        ValueError: no texts.
    """
    texts = list(texts)
    if not texts:
        raise ValueError("compare_precisions got no texts; expected at least one")
    scores = {"torch": score_windows(guardrail.model, guardrail.reader, texts, tokens)}
    for precision, files in graphs.items():
        model = GuardModel(files.front, files.deep, threads)
        scores[precision] = run_windows(model, guardrail.reader, texts, tokens_per_batch=tokens)
    pairs = [("torch", precision) for precision in graphs]
    if "float32" in graphs:
        pairs += [("float32", precision) for precision in graphs if precision != "float32"]
    rows = [{"reference": a, "candidate": b, **_compare(scores[a], scores[b], guardrail.calibration)} for a, b in pairs]
    return pd.DataFrame(rows)


def _compare(a: WindowScores, b: WindowScores, calibration: Calibration) -> dict[str, float]:
    texts_a, texts_b = decide(a, calibration), decide(b, calibration)
    attack_a, attack_b = (1 - t.probabilities[:, Label.BENIGN] for t in (texts_a, texts_b))
    difference = lambda x, y, t: float(np.abs(softmax(x, t) - softmax(y, t)).max())  # noqa: E731
    return {
        "texts": a.texts,
        "windows": len(a.windows),
        "max_dp_fast": difference(a.fast_logits, b.fast_logits, calibration.fast_temperature),
        "max_dp_deep": difference(a.deep_logits, b.deep_logits, calibration.deep_temperature),
        "mean_dp": float(np.abs(attack_a - attack_b).mean()),
        "same_label": float((texts_a.probabilities.argmax(-1) == texts_b.probabilities.argmax(-1)).mean()),
        "same_route": float((texts_a.route == texts_b.route).mean()),
        "same_verdict": float(((attack_a >= calibration.threshold) == (attack_b >= calibration.threshold)).mean()),
    }


class _quiet:
    """Without the quantizer's advice to pre-process, which the exporter has already done."""

    def __enter__(self) -> None:
        self.level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.getLogger().setLevel(self.level)
