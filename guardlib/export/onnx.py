"""The model as two ONNX graphs that share nothing at run time but arrays.

Both have dynamic batch and length. Real characters go in: ``char_ids`` is an input of the front graph.

Legend: B batch, L tokens, C characters per token, D width, K classes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from guardlib.export.spellings import SpelledEmbeddings
from guardlib.model.deep_branch import DeepBranch
from guardlib.model.dual_branch import DualBranchModel
from guardlib.model.fast_branch import FastBranch

FRONT_INPUTS = ("input_ids", "char_ids", "attention_mask")
FRONT_OUTPUTS = ("hidden", "fast_logits", "router_logit", "ngram_logits")
DEEP_INPUTS, DEEP_OUTPUTS = ("hidden", "attention_mask"), ("logits",)
OPSET = 23  # the first with attention as one operator


class ExportError(RuntimeError):
    """A graph that could not be made, or is not what was asked for."""


@dataclass(frozen=True, slots=True)
class Graphs:
    """Files of one precision."""

    front: Path
    deep: Path


class _DeepLogits(nn.Module):
    """The deep branch without what only training needs."""

    def __init__(self, deep: DeepBranch) -> None:
        super().__init__()
        self.deep = deep

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        return self.deep(hidden, attention_mask).logits


class _FrontOutputs(FastBranch):
    """The front likewise. A subclass, not a wrapper: the tensors of a graph are named as those of its module."""

    def forward(self, input_ids: Tensor, char_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        output = super().forward(input_ids, char_ids, attention_mask)
        return tuple(getattr(output, name) for name in FRONT_OUTPUTS)


def export_graphs(model: DualBranchModel, spellings: np.ndarray, folder: Path, opset: int = OPSET) -> Graphs:
    """Write ``front.onnx`` and ``deep.onnx`` in float32 into ``folder``.

    Args:
        spellings: characters of every piece in its usual forms, int [F, V, C] (GuardTokenizer.spellings).

    Raises:
        ExportError: see :func:`check_graph`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    graphs = Graphs(folder / "front.onnx", folder / "deep.onnx")
    export_front(model, spellings, graphs.front, opset)
    export_deep(model, graphs.deep, opset)
    return graphs


def export_front(model: DualBranchModel, spellings: np.ndarray, path: Path, opset: int = OPSET) -> None:
    """input_ids and attention_mask int64 [B, L], char_ids int64 [B, L, C] → :data:`FRONT_OUTPUTS`."""
    config, vocab = model.config, model.front.embeddings.word.num_embeddings
    size = (2, 7)  # a dimension of 1 would be frozen
    example = (
        torch.randint(0, vocab, size),
        torch.randint(0, config.char_buckets, (*size, config.chars_per_token)),
        torch.ones(size, dtype=torch.int64),
    )
    embeddings = SpelledEmbeddings(model.front.embeddings, torch.from_numpy(spellings))
    parts = model.front.stem, model.front.pool, model.front.head, model.front.ngrams, model.front.router
    front = _FrontOutputs(embeddings, *parts)
    export_module(front, example, path, FRONT_INPUTS, FRONT_OUTPUTS, config.max_length, opset)


def export_deep(model: DualBranchModel, path: Path, opset: int = OPSET) -> None:
    """hidden float32 [B, L, D], attention_mask int64 [B, L] → logits [B, K]."""
    example = (torch.zeros(2, 7, model.config.d_model), torch.ones(2, 7, dtype=torch.int64))
    export_module(_DeepLogits(model.deep), example, path, DEEP_INPUTS, DEEP_OUTPUTS, model.config.max_length, opset)


def export_module(
    module: nn.Module, example: tuple, path: Path, inputs: tuple, outputs: tuple, max_length: int, opset: int
) -> None:
    """Export in eval mode; the first two axes of every input are batch and length (at most ``max_length``).

    Raises:
        ExportError: the module is not on the CPU, or see :func:`check_graph`.
    """
    training = [part for part in module.modules() if part.training]
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=max_length)}
    temporary = path.with_name(f".{path.name}.part")
    parameters = [p for p in module.parameters() if p.device.type != "cpu"]
    if parameters:
        raise ExportError(
            f"the model is on {parameters[0].device}; expected the CPU: call model.cpu() before exporting"
        )
    module.eval()
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                opset_version=opset,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=tuple(dict(shape) for _ in inputs),
                verbose=False,
            )
            proto = program.model_proto
    finally:
        for part in training:  # one by one: a wrapper's mode is not that of what it wraps
            part.training = True
    _strip(proto)
    onnx.save(proto, temporary)
    check_graph(temporary, inputs, outputs)
    os.replace(temporary, path)


def _strip(proto: onnx.ModelProto) -> None:
    """Remove what no reader needs.

    Notes on each node (stack traces with paths of this machine) would be a third of a small file, and differ from
    place to place. Shapes noted before transposes were folded into weights are wrong afterwards; readers infer theirs.
    """
    del proto.graph.value_info[:]
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *proto.functions):
        del part.metadata_props[:]
        part.doc_string = ""


def check_graph(path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Raise ExportError unless the graph is valid, has these inputs and outputs, and batch and length are dynamic."""
    proto = onnx.load(path)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path} is not a valid graph: {error}") from error
    for kind, values, expected in (("inputs", proto.graph.input, inputs), ("outputs", proto.graph.output, outputs)):
        names = tuple(value.name for value in values)
        if names != expected:
            raise ExportError(f"{path} has {kind} {names}, expected {expected}")
    for value in proto.graph.input:
        axes = [dim.dim_param for dim in value.type.tensor_type.shape.dim[:2]]
        if axes != ["batch", "length"]:
            fixed = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            raise ExportError(f"{path}: input {value.name} has shape {fixed}, expected [batch, length, …]")
    for value in proto.graph.output:
        if value.type.tensor_type.shape.dim[0].dim_param != "batch":
            raise ExportError(f"{path}: output {value.name} does not have a dynamic batch")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that are not installed and names that are used twice."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
