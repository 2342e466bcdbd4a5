"""Plain encoders to time the guard against: the shapes of published guards, random weights, same export, INT8.

Weights do not change the speed of these products. All read BERT's word pieces (DeBERTa's own are not part of the pip
package that carries the backbone; a text has about as many), and texts are cut at 512 tokens (the guard reads them to
the end). Products are quantized as the guard's are, less the smoothing, which is for quality.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
)

from guardlib.config import Profile
from guardlib.export.onnx import export_module
from guardlib.export.quantize import quantize
from guardlib.labels import NUM_CLASSES
from guardlib.model.backbone import find_backbone
from guardlib.runtime.session import make_session
from guardlib.text.reading import TOKENS_PER_BATCH, batches_by_length
from guardlib.text.tokenizer import sanitize

POSITIONS = 512


@dataclass(frozen=True, slots=True)
class Shape:
    """An encoder: ``vocabulary`` None: as many rows as the tokenizer has pieces."""

    kind: str  # bert | deberta
    layers: int
    width: int
    heads: int
    ffn: int
    vocabulary: int | None = None


SHAPES = {
    "BERT-6": Shape("bert", 6, 384, 12, 1536),  # MiniLM-L6
    "DeBERTa-xsmall": Shape("deberta", 12, 384, 6, 1536, 128_100),  # Prompt Guard 2 22M
    "DeBERTa-base": Shape("deberta", 12, 768, 12, 3072, 128_100),  # ProtectAI v2, PIGuard
}


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


class ReferenceModel:
    """Text → class number; the same steps as a guard without views, characters, router and windows."""

    def __init__(self, session: onnxruntime.InferenceSession, tokenizer: Tokenizer) -> None:
        self._session = session
        self._tokenizer = tokenizer

    def scan(self, text: str | list[str]) -> int | list[int]:
        """The likeliest class of a text, or of each of a list."""
        texts = [text] if isinstance(text, str) else text
        encodings = self._tokenizer.encode_batch([sanitize(item) for item in texts])
        classes = np.zeros(len(texts), np.int64)
        for rows in batches_by_length([len(encoding.ids) for encoding in encodings], TOKENS_PER_BATCH):
            length = max(len(encodings[row].ids) for row in rows)
            input_ids = np.zeros((len(rows), length), np.int64)
            attention_mask = np.zeros_like(input_ids)
            for position, row in enumerate(rows):
                ids = encodings[row].ids
                input_ids[position, : len(ids)] = ids
                attention_mask[position, : len(ids)] = 1
            arrays = {"input_ids": input_ids, "attention_mask": attention_mask}
            classes[rows] = self._session.run(["logits"], arrays)[0].argmax(-1)
        return int(classes[0]) if isinstance(text, str) else classes.tolist()


def reference_model(shape: Shape, folder: Path, profile: Profile, threads: int | None = None) -> ReferenceModel:
    """Build, export and quantize (INT8) an encoder of ``shape`` into ``folder``.

    Raises:
        BackboneError: the backbone, whose tokenizer is used, is not to be had.
        ExportError: the graph could not be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    backbone = profile.model.backbone
    tokenizer = Tokenizer.from_file(str(find_backbone("minilm" if backbone == "none" else backbone).tokenizer))
    tokenizer.no_padding()
    tokenizer.enable_truncation(POSITIONS)
    with torch.random.fork_rng():
        torch.manual_seed(profile.seed)
        module = _Logits(_BUILDERS[shape.kind](shape, shape.vocabulary or tokenizer.get_vocab_size())).eval()
    example = (torch.full((2, 7), 100), torch.ones(2, 7, dtype=torch.int64))
    path = folder / "float32.onnx"
    export_module(module, example, path, ("input_ids", "attention_mask"), ("logits",), POSITIONS, profile.export.opset)
    quantize(path, folder / "int8.onnx", "int8")
    path.unlink()
    return ReferenceModel(make_session(folder / "int8.onnx", threads), tokenizer)


def _bert(shape: Shape, vocabulary: int) -> nn.Module:
    return BertForSequenceClassification(BertConfig(**_sizes(shape, vocabulary)))


def _deberta(shape: Shape, vocabulary: int) -> nn.Module:
    """Version 3 as published: relative positions in 256 logarithmic buckets, shared with the content's projections."""
    config = DebertaV2Config(
        **_sizes(shape, vocabulary),
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
    )
    return DebertaV2ForSequenceClassification(config)


def _sizes(shape: Shape, vocabulary: int) -> dict[str, int]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.ffn,
        "max_position_embeddings": POSITIONS,
        "num_labels": NUM_CLASSES,
    }


_BUILDERS: dict[str, Callable[[Shape, int], nn.Module]] = {"bert": _bert, "deberta": _deberta}
