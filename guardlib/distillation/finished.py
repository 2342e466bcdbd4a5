"""What a run is, and what came of it: a stage that was cut short takes up its finished runs and trains only the rest.

The rows of a finished run lie where its checkpoints lay, a folder that is no output of a stage.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from torch import nn

from guardlib.distillation.text import Pieces
from guardlib.report.provenance import CHECKPOINTS, output_files

_ROWS = "rows.json"
_FIRST = 64  # numbers of each tensor


def model_digest(*models: nn.Module) -> str:
    """Short hash of names, shapes and the first numbers of every tensor: whose weights these are, at any size."""
    digest = hashlib.sha256()
    for model in models:
        for name, tensor in model.named_parameters():
            first = tensor.detach().flatten()[:_FIRST].float().cpu().numpy()
            digest.update(f"{name} {tuple(tensor.shape)} ".encode() + first.tobytes())
    return digest.hexdigest()[:8]


def text_digest(pieces: Pieces) -> str:
    """Short hash of the tokens of both sides, in their order."""
    tokens = (side.tobytes() for piece in pieces.pieces for side in (piece.student, piece.teacher))
    return hashlib.sha256(b"".join(tokens)).hexdigest()[:16]


def recall(folder: Path, identity: dict[str, str], resume: bool) -> list[dict] | None:
    """The rows that the run of this very ``identity`` left in ``folder``; None where there are none.

    Rows of another run, or any where nothing is to be resumed, are removed: what they belong to is about to be written
    over.
    """
    path = folder / CHECKPOINTS / _ROWS
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        known = resume and kept["identity"] == identity
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        path.unlink(missing_ok=True)
        return None
    for file in output_files(folder):
        file.touch()  # its logs are outputs of the stage that takes it up
    print(f"{folder.name} was finished before and is not trained again")
    return kept["rows"]


def keep(folder: Path, identity: dict[str, str], rows: list[dict]) -> None:
    """Leave ``rows`` (JSON) for :func:`recall`, in place of the checkpoints: all that was made of them is here."""
    place = folder / CHECKPOINTS
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / f".{_ROWS}.part"
    temporary.write_text(json.dumps({"identity": identity, "rows": rows}), encoding="utf-8")
    os.replace(temporary, place / _ROWS)  # at once: half a file would be no row
    for weights in place.glob("*.safetensors"):
        weights.unlink()
