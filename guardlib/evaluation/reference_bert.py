"""A plain BERT to time the guard against: six layers of the guard's width, random weights, same export and precision.

Weights do not change the speed of these products; the tokenizer is the backbone's own, in full, and texts are cut at
512 tokens (the guard reads them to the end).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from guardlib.config import Profile
from guardlib.export.onnx import export_module
from guardlib.export.quantize import quantize_int8
from guardlib.labels import NUM_CLASSES
from guardlib.model.backbone import find_backbone
from guardlib.runtime.session import TOKENS_PER_BATCH, make_session
from guardlib.text.reading import batches_by_length
from guardlib.text.tokenizer import sanitize

LAYERS, POSITIONS = 6, 512


class _Logits(nn.Module):
    def __init__(self, model: BertForSequenceClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


class ReferenceBert:
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


def reference_bert(folder: Path, profile: Profile, threads: int | None = None, layers: int = LAYERS) -> ReferenceBert:
    """Build, export and (where ``export.precision`` is int8) quantize the reference into ``folder``.

    Raises:
        BackboneError: the backbone, whose tokenizer is used, is not to be had.
        ExportError: the graph could not be made.
    """
    config, precision = profile.model, profile.export.precision
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(
        str(find_backbone("minilm" if config.backbone == "none" else config.backbone).tokenizer)
    )
    tokenizer.no_padding()
    tokenizer.enable_truncation(POSITIONS)
    bert = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=config.d_model,
        num_hidden_layers=layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.ffn_dim,
        max_position_embeddings=POSITIONS,
        num_labels=NUM_CLASSES,
    )
    with torch.random.fork_rng():
        torch.manual_seed(profile.seed)
        module = _Logits(BertForSequenceClassification(bert)).eval()
    example = (torch.full((2, 7), 100), torch.ones(2, 7, dtype=torch.int64))
    path = folder / "float32.onnx"
    export_module(module, example, path, ("input_ids", "attention_mask"), ("logits",), POSITIONS, profile.export.opset)
    if precision == "int8":
        quantize_int8(path, folder / "int8.onnx", profile.export.reduce_range)
        path.unlink()
        path = folder / "int8.onnx"
    return ReferenceBert(make_session(path, threads), tokenizer)
