"""``torchrun --nproc-per-node 2 -m guardlib.training``: the training of stage 03 in several processes.

Leaves its last checkpoint where notebook 03 looks for one: ``python run_all.py --from 03`` then calibrates and goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import sys

import pandas as pd

from guardlib.config import PROFILES
from guardlib.evaluation.routing import RouterCollapse
from guardlib.lock import FolderLock, Locked
from guardlib.model.backbone import BackboneError
from guardlib.model.build import ModelFileError, build_guardrail
from guardlib.paths import project_root, stage_folder
from guardlib.settings import get_profile, parse_setting
from guardlib.training.checkpoint import CheckpointError
from guardlib.training.processes import Processes
from guardlib.training.trainer import TrainingError, train

_EXPECTED = (BackboneError, CheckpointError, Locked, ModelFileError, OSError, RouterCollapse, TrainingError, ValueError)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m guardlib.training", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=list(PROFILES), default="laptop")
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="one setting, as in run_all.py")
    options = parser.parse_args(arguments)
    data = stage_folder(options.profile, "01_data")
    try:
        profile = get_profile(options.profile, dict(parse_setting(text) for text in options.p))
        frames = [pd.read_parquet(data / f"{split}.parquet") for split in ("train", "validation")]
        folder = stage_folder(options.profile, "03_train")
        processes = Processes()
        with FolderLock(project_root() / "artifacts") if processes.first else contextlib.nullcontext():
            if not processes.first:
                processes.wait()  # for the first one's tokenizer
            guardrail = build_guardrail(profile, frames[0], folder)
            if processes.first:
                processes.wait()
            history = train(guardrail.model, guardrail.reader, *frames, profile, folder)
    except FileNotFoundError as error:
        again = f"python run_all.py --profile {options.profile} --only 01"
        print(f"{error.filename or error} is missing; run: {again}", file=sys.stderr)
        return 2
    except _EXPECTED as error:
        print(error, file=sys.stderr)
        return 2
    if processes.first:
        print(f"best validation loss {history['val_loss'].min():.6f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
