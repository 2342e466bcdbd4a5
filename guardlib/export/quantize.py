"""Smaller graphs: what each precision is, what it weighs, and whether anything was lost.

``float16``: weights stored in half, computed in float32 (CPUs multiply halves no faster). ``int8``: weights per output
channel, activations per tensor while the graph runs. ``int8_static``: activations with ranges fixed beforehand on
calibration texts. ``int8_blocks``: weights and activations in blocks of 32 with a scale each, closer and slower;
``int8_mixed``: ``int8``, but blocks of 128 behind GELU, where one scale for all is worst.
``int4``: ``int8_blocks`` with weights and tables in 4 bits. Before ``int8``, its mixture and ``int8_static``, channels
of activations that reach far are narrowed and the weights behind them widened as much (:func:`smooth`). From 8 bits
down, what rounding moves the logits by in the mean is given back (:mod:`.correction`).

Embedding tables, which ONNX Runtime would give one scale for all rows, get one per row. Outputs of a few channels
(class logits, n-grams, routing logit, expert gates) and what is small stay in float32: they weigh little and decide
much.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.onnx_model import ONNXModel

from guardlib.export.correction import correct_outputs
from guardlib.export.onnx import Graphs
from guardlib.model.dual_branch import DualBranchModel
from guardlib.runtime.session import GuardModel, make_session
from guardlib.text.reading import TOKENS_PER_BATCH, Reader, batches_by_length
from guardlib.training.quantization import FEW_CHANNELS

#: Precision → bits of a weight. The order is that of size, largest first.
BITS = {"float32": 32, "float16": 16, "int8_blocks": 8, "int8_mixed": 8, "int8": 8, "int8_static": 8, "int4": 4}
#: Channels of an activation that are narrowed, where the widest reaches this many times as far as the rest.
OUTLIERS, WIDE = 16, 1.5
_SMALL = 1 << 20  # bytes of a float32 table below which it stays as it is
_BLOCK, _LONG_BLOCK = 32, 128  # weights, or activations, that share a scale
Feeds = list[dict[str, np.ndarray]]


def quantize_graphs(graphs: Graphs, folder: Path, precision: str, feeds: tuple[Feeds, Feeds]) -> Graphs:
    """``graphs`` (float32) in another precision of :data:`BITS`, in ``folder``.

    Args:
        feeds: calibration inputs of the front and of the deep graph (:func:`calibration_feeds`).

    Raises:
        ValueError: an unknown precision.
    """
    if precision not in _QUANTIZERS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(_QUANTIZERS)}")
    folder.mkdir(parents=True, exist_ok=True)
    small = Graphs(folder / "front.onnx", folder / "deep.onnx")
    for source, target, inputs in ((graphs.front, small.front, feeds[0]), (graphs.deep, small.deep, feeds[1])):
        quantize(source, target, precision, inputs)
    if BITS[precision] <= 8 and feeds[0]:
        correct_outputs(graphs, small, feeds[0])
    return small


def quantize(source: Path, target: Path, precision: str, feeds: Feeds | None = None) -> None:
    """Write one float32 graph in another precision; complete or not at all. Without ``feeds`` nothing is smoothed."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch, _quiet():
        start, part = Path(scratch) / "start.onnx", Path(scratch) / target.name
        model = ONNXModel(onnx.load(source))
        model.replace_gemm_with_matmul()
        if feeds and precision in ("int8", "int8_mixed", "int8_static"):
            onnx.save(model.model, start)
            smooth(model.model, input_ranges(start, feeds))
        onnx.save(model.model, start)
        _QUANTIZERS[precision](start, part, feeds or [])
        proto = onnx.load(part)
        del proto.graph.value_info[:]
        onnx.checker.check_model(proto)
        onnx.save(proto, part)
        os.replace(part, target)


def calibration_feeds(graphs: Graphs, reader: Reader, texts: Sequence[str]) -> tuple[Feeds, Feeds]:
    """Inputs of the front and of the deep graph on ``texts``, batched by length."""
    windows = reader.windows(texts)
    front, deep = [], []
    model = GuardModel(graphs.front, graphs.deep)
    for rows in batches_by_length([len(window) for window in windows], TOKENS_PER_BATCH):
        batch = reader.collate([windows[row] for row in rows])
        front.append({"input_ids": batch.input_ids, "char_ids": batch.char_ids, "attention_mask": batch.attention_mask})
        deep.append({"hidden": model.front(batch)[0], "attention_mask": batch.attention_mask})
    return front, deep


def input_ranges(path: Path, feeds: Feeds) -> dict[str, np.ndarray]:
    """Largest magnitude of each channel of the input of every product with a constant: name of the input → [K]."""
    proto = onnx.load(path)
    names = sorted({node.input[0] for node in _products(proto)})
    proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = make_session(proto.SerializeToString())
    ranges: dict[str, np.ndarray] = {}
    for feed in feeds:
        for name, values in zip(names, session.run(names, feed), strict=True):
            found = np.abs(values).reshape(-1, values.shape[-1]).max(0, initial=0)
            ranges[name] = np.maximum(ranges.get(name, 0), found)
    return ranges


def smooth(proto: onnx.ModelProto, ranges: Mapping[str, np.ndarray], rank: int = OUTLIERS) -> None:
    """Divide the ``rank`` widest channels of a product's input, multiply the weights behind them by as much; in place.

    A channel or two of a pretrained backbone reach ten times as far as the rest, and one scale for all of them leaves
    the others a few steps. Afterwards none reaches farther than the widest of the rest. SmoothQuant (Xiao et al. 2023,
    arXiv 2211.10438) with its α at 1 for outliers and 0 for all else, which costs the weights nothing.
    """
    graph = proto.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    by_input: dict[str, list[onnx.NodeProto]] = {}
    for node in _products(proto):
        by_input.setdefault(node.input[0], []).append(node)
    before: dict[str, onnx.NodeProto] = {}  # output of the first product of an input → the node to put before it
    for name, nodes in by_input.items():
        reach = ranges[name]
        limit = max(np.sort(reach)[-1 - min(rank, len(reach) - 1)], 1e-5)
        if reach.max() < WIDE * limit:
            continue
        factor = np.maximum(reach / limit, 1).astype(np.float32)
        for node in nodes:
            tensor = weights[node.input[1]]
            values = numpy_helper.to_array(tensor) * factor[:, None]
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
            node.input[0] = f"{name}_smooth"
        graph.initializer.append(numpy_helper.from_array(1 / factor, f"{name}_factor"))
        before[nodes[0].output[0]] = helper.make_node("Mul", [name, f"{name}_factor"], [f"{name}_smooth"])
    ordered = [part for node in graph.node for part in (before.get(node.output[0]), node) if part is not None]
    del graph.node[:]
    graph.node.extend(ordered)


def _to_half(source: Path, target: Path, feeds: Feeds) -> None:
    """Large constants as float16, cast where they are used; ONNX Runtime casts weights once, when it loads."""
    proto = onnx.load(source)
    graph = proto.graph
    casts, rows = [], {node.input[0] for node in graph.node if node.op_type == "Gather"}
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < FEW_CHANNELS**2:
            continue
        name = tensor.name
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        if name not in rows:
            casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts]
    halves = {tensor.name for tensor in graph.initializer if tensor.name.endswith("_half")}
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "Gather" and f"{node.input[0]}_half" in halves:  # rows are cast, not the table
            node.input[0] += "_half"
            output = node.output[0]
            node.output[0] = f"{output}_half"
            nodes.append(helper.make_node("Cast", [f"{output}_half"], [output], to=onnx.TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(proto, target)


def _to_int8(source: Path, target: Path, feeds: Feeds) -> None:
    proto = onnx.load(source)
    quantize_tables(proto)
    onnx.save(proto, source)
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=_kept_in_float(proto),
        extra_options={"WeightSymmetric": False},  # a zero point per channel: more of the 8 bits are of use
    )


class _Replay(CalibrationDataReader):
    def __init__(self, feeds: Feeds) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def _to_int8_static(source: Path, target: Path, feeds: Feeds) -> None:
    if not feeds:
        raise ValueError("int8_static got no calibration inputs; expected at least one batch")
    proto = onnx.load(source)
    quantize_tables(proto)
    onnx.save(proto, source)
    quantize_static(
        source,
        target,
        _Replay(feeds),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=_kept_in_float(proto),
    )


def _to_int8_blocks(source: Path, target: Path, feeds: Feeds) -> None:
    proto = onnx.load(source)
    quantize_tables(proto)
    _to_blocks(proto, target, 8, ("MatMul",), _kept_in_float(proto))


def _to_int8_mixed(source: Path, target: Path, feeds: Feeds) -> None:
    proto = onnx.load(source)
    after_gelu = {name for node in proto.graph.node if node.op_type == "Gelu" for name in node.output}
    after_gelu |= {f"{name}_smooth" for name in after_gelu}
    behind = {node.name for node in _products(proto) if node.input[0] in after_gelu}
    others = [node.name for node in proto.graph.node if node.op_type == "MatMul" and node.name not in behind]
    _to_blocks(proto, source, 8, ("MatMul",), others, _LONG_BLOCK)
    _to_int8(source, target, feeds)


def _to_int4(source: Path, target: Path, feeds: Feeds) -> None:
    proto = onnx.load(source)
    large = {node.name for node in _lookups(proto)}
    small = [node.name for node in proto.graph.node if node.op_type == "Gather" and node.name not in large]
    _to_blocks(proto, target, 4, ("MatMul", "Gather"), _kept_in_float(proto) + small)


def _to_blocks(
    proto: onnx.ModelProto, target: Path, bits: int, kinds: tuple[str, ...], kept: list[str], block: int = _BLOCK
) -> None:
    """Nodes of ``kinds`` but ``kept`` in blocks of weights; level 4: activations in blocks of 8 bits as well."""
    # Its import sets up logging for the whole process, which the caller undoes.
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        proto,
        bits=bits,
        block_size=block,
        is_symmetric=True,
        accuracy_level=4,
        nodes_to_exclude=kept,
        op_types_to_quantize=kinds,
        quant_axes=(("MatMul", 0), ("Gather", 1)),
    )
    with np.errstate(invalid="ignore"):  # blocks of zeros, such as the row of padding
        quantizer.process()
    onnx.save(quantizer.model.model, target)


_QUANTIZERS: dict[str, Callable[[Path, Path, Feeds], None]] = {
    "float16": _to_half,
    "int8_blocks": _to_int8_blocks,
    "int8_mixed": _to_int8_mixed,
    "int8": _to_int8,
    "int8_static": _to_int8_static,
    "int4": _to_int4,
}


def _products(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Products with a constant that are worth quantizing: 16 channels or more either way."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer if len(tensor.dims) == 2}
    return [
        node
        for node in proto.graph.node
        if node.op_type == "MatMul"
        and min(shapes.get(node.input[1], (0,))) >= FEW_CHANNELS
        and not node.input[1].startswith("embeddings.")  # characters of a few pieces
    ]


def _kept_in_float(proto: onnx.ModelProto) -> list[str]:
    quantized = {node.name for node in _products(proto)}
    return [node.name for node in proto.graph.node if node.op_type == "MatMul" and node.name not in quantized]


def _lookups(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Lookups in float tables of a megabyte or more, 16 channels or more."""
    large = {
        tensor.name
        for tensor in proto.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2
        if 4 * np.prod(tensor.dims) >= _SMALL and tensor.dims[1] >= FEW_CHANNELS
    }
    return [node for node in proto.graph.node if node.op_type == "Gather" and node.input[0] in large]


def quantize_tables(proto: onnx.ModelProto) -> None:
    """Turn each lookup in a large table of ``proto`` into int8 rows times a scale per row, in place."""
    graph = proto.graph
    tables = {tensor.name: tensor for tensor in graph.initializer}
    lookups = {node.output[0] for node in _lookups(proto)}
    nodes = []
    for node in graph.node:
        if node.output[0] not in lookups:
            nodes.append(node)
            continue
        table = tables[node.input[0]]
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
    """Bytes if all were of one precision: ``precision, part`` (front, deep, total), ``parameters, theory_bytes``."""
    info = model.info()
    rows = [
        (precision, part, info[part], info[part] * bits // 8)
        for precision, bits in BITS.items()
        for part in ("front", "deep", "total")
    ]
    return pd.DataFrame(rows, columns=["precision", "part", "parameters", "theory_bytes"])


class _quiet:
    """Without the quantizers' advice to pre-process, which the exporter has already done, and their progress."""

    def __enter__(self) -> None:
        root = logging.getLogger()
        self.level, self.handlers, self.disabled = root.level, root.handlers[:], logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        root = logging.getLogger()
        root.handlers[:] = self.handlers
        root.setLevel(self.level)
        logging.disable(self.disabled)
