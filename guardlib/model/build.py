"""From settings and texts to a model that can read: vocabulary, reader, warm start; and back from a finished folder."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from guardlib.config import ModelConfig, Profile
from guardlib.data.generated import MADE
from guardlib.labels import ENGLISH
from guardlib.model.backbone import find_backbone, warm_start
from guardlib.model.dual_branch import DualBranchModel, ModelFileError, load_model, save_model
from guardlib.model.inference import Calibration, pick_device
from guardlib.paths import run_again
from guardlib.text.lookalikes import latin_lookalikes
from guardlib.text.reading import Reader
from guardlib.text.tokenizer import GuardTokenizer
from guardlib.text.views import Unfolder
from guardlib.text.vocabulary import learn_pieces, prune_vocabulary
from guardlib.text.word_order import WordOrder


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A model, the reader that feeds it and (once trained) the operating points that turn its logits into verdicts."""

    model: DualBranchModel
    reader: Reader
    calibration: Calibration


def build_guardrail(profile: Profile, train: pd.DataFrame, folder: Path) -> Guardrail:
    """An untrained guardrail whose vocabulary is what the records ``train`` use; writes ``tokenizer.json``.

    Pieces for other languages are learnt from the texts that were not made of others: those repeat their words.

    Raises:
        BackboneError: the pretrained backbone is missing or not the pinned one.
    """
    config = profile.model
    # Even "none" needs the backbone's pieces.
    backbone = find_backbone("minilm" if config.backbone == "none" else config.backbone)
    tokenizer_json, rows = prune_vocabulary(backbone.tokenizer, train["text"], config.vocab_size)
    foreign = train.loc[~train["lang"].isin(ENGLISH) & ~train["source"].isin(MADE), "text"].tolist()
    tokenizer_json, learnt = learn_pieces(tokenizer_json, backbone.tokenizer, foreign, config.learnt_pieces)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".tokenizer.{os.getpid()}.part"  # several processes may make the same one at once
    part.write_text(tokenizer_json, encoding="utf-8")
    part.replace(folder / "tokenizer.json")
    reader = make_reader(folder, config, latin_lookalikes(), WordOrder.learn(train["text"]))
    torch.manual_seed(profile.seed)
    model = DualBranchModel(config, reader.tokenizer.vocab_size)
    if config.backbone != "none":
        warm_start(model.front, model.deep, backbone, rows, learnt)
    return Guardrail(model, reader, Calibration())


def make_reader(folder: Path, config: ModelConfig, lookalikes: dict[str, str], order: WordOrder) -> Reader:
    """The reader of the tokenizer in ``folder``."""
    tokenizer = GuardTokenizer.load(folder / "tokenizer.json", config.chars_per_token, config.char_buckets)
    unfolder = Unfolder(tokenizer.words(), lookalikes, order) if config.use_views else None
    return Reader(tokenizer, unfolder, config.max_length)


def save_guardrail(guardrail: Guardrail, folder: Path) -> None:
    """Write weights, shape, operating points and the tables that unfold texts beside the tokenizer in ``folder``."""
    unfolder = guardrail.reader.unfolder
    extra = {
        "model": dataclasses.asdict(guardrail.model.config),
        "calibration": dataclasses.asdict(guardrail.calibration),
        "vocabulary": guardrail.reader.tokenizer.fingerprint(),
        "lookalikes": unfolder.lookalikes if unfolder else {},
        "word_order": unfolder.order.table if unfolder else {},
    }
    save_model(guardrail.model, folder, extra)


def load_guardrail(folder: Path, config: ModelConfig) -> Guardrail:
    """A trained guardrail from ``folder``, in eval mode, on a CUDA device where there is one.

    Raises:
        ModelFileError: a file is missing or damaged, or was trained with another ``config`` (the setting is named) or
            another tokenizer.
    """
    model, extra = load_model(folder, config)
    try:
        reader = make_reader(folder, config, extra["lookalikes"], WordOrder(extra["word_order"]))
        guardrail = Guardrail(model.to(pick_device()), reader, Calibration(**extra["calibration"]))
        vocabulary = extra["vocabulary"]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"model folder {folder} is damaged ({error!r}); {run_again(folder, '03')}") from error
    if (found := reader.tokenizer.fingerprint()) != vocabulary:
        raise ModelFileError(
            f"{folder}/tokenizer.json has vocabulary {found}, the weights beside it were trained with {vocabulary}; "
            f"{run_again(folder, '03')}"
        )
    return guardrail
