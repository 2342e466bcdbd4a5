from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from guardlib.export.onnx import (
    DEEP_INPUTS,
    DEEP_OUTPUTS,
    FRONT_INPUTS,
    FRONT_OUTPUTS,
    ExportError,
    check_graph,
    export_graphs,
    export_module,
)
from guardlib.runtime.session import GuardModel
from guardlib.text.reading import Batch
from tests.helpers import TINY, VOCABULARY, make_model, make_reader

SIZES = [(1, 2), (1, 7), (1, 32), (2, 3), (3, 17), (16, 32)]


@pytest.fixture(scope="module")
def exported(tiny) -> GuardModel:
    folder = tiny.folder / "guard_float32"
    return GuardModel(folder / "front.onnx", folder / "deep.onnx", threads=1)


def random_batch(tiny, size: tuple[int, int], seed: int = 0) -> Batch:
    """Random pieces and characters; every row but the first is padded to a different length."""
    rng = np.random.default_rng(seed)
    config = tiny.profile.model
    mask = np.ones(size, np.int64)
    for row in range(1, size[0]):
        mask[row, rng.integers(1, size[1] + 1) :] = 0
    ids = rng.integers(5, tiny.guardrail.reader.tokenizer.vocab_size, size) * mask
    characters = rng.integers(0, config.char_buckets, (*size, config.chars_per_token)) * mask[..., None]
    return Batch(ids, characters, mask)


def run_torch(tiny, batch: Batch):
    arrays = map(torch.from_numpy, (batch.input_ids, batch.char_ids, batch.attention_mask))
    with torch.inference_mode():
        return tiny.guardrail.model(*arrays)


@pytest.mark.parametrize("size", SIZES)
def test_float32_graphs_equal_torch(tiny, exported, size):
    batch = random_batch(tiny, size)
    expected = run_torch(tiny, batch)
    hidden, fast, router, ngrams = exported.front(batch)
    deep = exported.deep(hidden, batch.attention_mask) + ngrams
    assert hidden.shape == (*size, tiny.profile.model.d_model)
    np.testing.assert_allclose(fast, expected.fast_logits, atol=1e-4)
    np.testing.assert_allclose(router, expected.router_logit, atol=1e-4)
    np.testing.assert_allclose(deep, expected.deep_logits, atol=1e-4)


@pytest.fixture(scope="module")
def long_pair(tmp_path_factory):
    """A model that reads 512 pieces, and its graphs."""
    model = make_model(dataclasses.replace(TINY, max_length=512))
    spellings = make_reader().tokenizer.spellings()
    graphs = export_graphs(model, spellings, tmp_path_factory.mktemp("long"))
    return model, GuardModel(graphs.front, graphs.deep, threads=1)


@pytest.mark.parametrize("size", [(1, 4), (64, 4), (1, 512), (8, 512), (64, 128), (64, 512)])
def test_one_graph_takes_every_batch_and_length(long_pair, size):
    model, graphs = long_pair
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(5, VOCABULARY, size))
    characters = torch.from_numpy(rng.integers(0, TINY.char_buckets, (*size, TINY.chars_per_token)))
    mask = torch.ones(size, dtype=torch.int64)
    with torch.inference_mode():
        expected = model(ids, characters, mask)
    hidden, fast, router, ngrams = graphs.front(Batch(ids.numpy(), characters.numpy(), mask.numpy()))
    np.testing.assert_allclose(fast, expected.fast_logits, atol=1e-4)
    np.testing.assert_allclose(router, expected.router_logit, atol=1e-4)
    np.testing.assert_allclose(graphs.deep(hidden, mask.numpy()) + ngrams, expected.deep_logits, atol=1e-4)


def test_parity_is_shown_with_every_expert_at_work(tiny):
    load = run_torch(tiny, random_batch(tiny, (16, 32))).expert_load
    assert load.shape == (2, 4)
    assert (load > 0.01).all(), load


@pytest.mark.parametrize("chosen", range(4))
def test_an_expert_that_takes_every_token_equals_torch(tiny, tmp_path, chosen):
    """The others are then empty, which is what a graph with one branch per expert gets wrong."""
    gate = tiny.guardrail.model.deep.layers[0].experts.gate.weight
    graph = onnx.load(tiny.folder / "guard_float32" / "deep.onnx")
    saved = gate.detach().clone()
    name = next(t.name for t in graph.graph.initializer if t.name.endswith("layers.0.experts.gate.weight"))
    hidden = np.abs(np.random.default_rng(0).standard_normal((2, 5, saved.shape[1]))).astype(np.float32)
    mask = np.ones((2, 5), np.int64)
    try:
        with torch.no_grad():
            gate.zero_()  # a tie between the others, which the first of them wins
            gate[chosen] = saved[chosen]
            for tensor in graph.graph.initializer:
                if tensor.name == name:
                    tensor.CopyFrom(onnx.numpy_helper.from_array(gate.detach().numpy(), name))
            expected = tiny.guardrail.model.deep(torch.from_numpy(hidden), torch.from_numpy(mask))
    finally:
        with torch.no_grad():
            gate.copy_(saved)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(["logits"], {"hidden": hidden, "attention_mask": mask})[0]
    assert (expected.load[0] == 0).sum() >= 2  # experts without a token
    assert expected.load[0, chosen] > 0
    np.testing.assert_allclose(found, expected.logits.detach(), atol=1e-4)


def test_only_the_chosen_expert_computes(tiny):
    """Each expert's product takes gathered rows, not all of them: the deep graph costs as much as one expert."""
    graph = onnx.load(tiny.folder / "guard_float32" / "deep.onnx").graph
    gathers = [node for node in graph.node if node.op_type == "Gather"]
    experts = tiny.profile.model.deep_layers * tiny.profile.model.num_experts
    assert sum(node.op_type == "NonZero" for node in graph.node) == experts
    products = {node.input[0] for node in graph.node if node.op_type in ("Gemm", "MatMul")}
    assert sum(node.output[0] in products for node in gathers) == experts


def test_characters_matter(tiny, exported):
    batch = random_batch(tiny, (2, 9))
    other = Batch(batch.input_ids, np.roll(batch.char_ids, 1, axis=-1), batch.attention_mask)
    assert np.abs(exported.front(batch)[1] - exported.front(other)[1]).max() > 1e-3


def test_padding_does_not_matter(tiny, exported):
    batch = random_batch(tiny, (1, 6))
    arrays = (batch.input_ids, batch.char_ids, batch.attention_mask)
    padded = Batch(*(np.concatenate([array, np.zeros_like(array)], axis=1) for array in arrays))
    hidden, fast, router, ngrams = exported.front(batch)
    hidden_padded, fast_padded, router_padded, ngrams_padded = exported.front(padded)
    np.testing.assert_allclose(ngrams, ngrams_padded, atol=1e-5)
    np.testing.assert_allclose(fast, fast_padded, atol=1e-4)
    np.testing.assert_allclose(router, router_padded, atol=1e-4)
    deep = exported.deep(hidden, batch.attention_mask)
    np.testing.assert_allclose(deep, exported.deep(hidden_padded, padded.attention_mask), atol=1e-4)


@pytest.mark.parametrize("precision", ["guard", "guard_float32"])
def test_graphs_are_valid_and_dynamic(tiny, precision):
    check_graph(tiny.folder / precision / "front.onnx", FRONT_INPUTS, FRONT_OUTPUTS)
    check_graph(tiny.folder / precision / "deep.onnx", DEEP_INPUTS, DEEP_OUTPUTS)


def test_a_frozen_axis_is_refused(tiny, tmp_path):
    graph = onnx.load(tiny.folder / "guard_float32" / "deep.onnx")
    graph.graph.input[1].type.tensor_type.shape.dim[1].dim_value = 7
    onnx.save(graph, tmp_path / "deep.onnx")
    with pytest.raises(ExportError, match=r"deep\.onnx.*attention_mask|hidden"):
        check_graph(tmp_path / "deep.onnx", DEEP_INPUTS, DEEP_OUTPUTS)


def test_other_names_are_refused(tiny):
    with pytest.raises(ExportError, match="inputs"):
        check_graph(tiny.folder / "guard_float32" / "deep.onnx", FRONT_INPUTS, DEEP_OUTPUTS)


def test_files_hold_no_paths_of_this_machine(tiny):
    """The exporter notes a stack trace at every node; a release must not carry it."""
    for precision in ("guard", "guard_float32"):
        for part in ("front", "deep"):
            content = (tiny.folder / precision / f"{part}.onnx").read_bytes()
            assert b".py" not in content
            assert b"stack_trace" not in content


class Wrapped(torch.nn.Module):
    """A module in training mode around one that is not, as the wrapper of the deep branch is."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(4, 3).eval()
        self.other = torch.nn.Dropout(0.5)

    def forward(self, hidden, attention_mask):
        return self.other(self.inner(hidden * attention_mask[..., None])).sum(1)


def test_export_leaves_modes_as_they_were(tmp_path):
    module = Wrapped()
    example = (torch.zeros(2, 7, 4), torch.ones(2, 7, dtype=torch.int64))
    export_module(module, example, tmp_path / "a.onnx", DEEP_INPUTS, DEEP_OUTPUTS, max_length=16, opset=18)
    assert module.training
    assert module.other.training
    assert not module.inner.training
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx"]
    assert "Dropout" not in {node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node}


def test_a_guard_from_before_the_ngrams_has_none(tiny, tmp_path):
    folder, batch = tiny.folder / "guard_float32", random_batch(tiny, (2, 9))
    proto = onnx.load(folder / "front.onnx")
    kept = [output for output in proto.graph.output if output.name != "ngram_logits"]
    del proto.graph.output[:]
    proto.graph.output.extend(kept)
    older = GuardModel(proto.SerializeToString(), folder / "deep.onnx", threads=1)
    *outputs, ngrams = older.front(batch)
    for found, expected in zip(
        outputs, GuardModel(folder / "front.onnx", folder / "deep.onnx").front(batch), strict=False
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert ngrams.shape == (2, 4)
    assert not ngrams.any()
