"""Two processes make the steps that one process makes with twice the batches."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from guardlib.training.trainer import train
from tests.helpers import make_frame, make_model, make_profile, make_reader

SETTINGS = {"epochs": 2, "validations": 2}
SCRIPT = """
import sys, torch
from pathlib import Path
from tests.training.test_processes import run
torch.set_num_threads(1)
run(Path(sys.argv[1]), accumulate=1)
"""


def run(folder: Path, accumulate: int) -> pd.DataFrame:
    profile = make_profile(accumulate=accumulate, **SETTINGS)
    model = make_model()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # each process draws its own
    return train(model, make_reader(), make_frame(), make_frame(40, seed=1), profile, folder, progress_bar=False)


def test_two_processes_make_the_steps_of_one(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [*launcher, str(script), str(tmp_path / "two")], env=os.environ | environment, stderr=subprocess.PIPE, text=True
    ) as launched:
        history = run(tmp_path / "one", accumulate=2)
        of_half = run(tmp_path / "half", accumulate=1)
        _, error = launched.communicate(timeout=120)
    assert launched.returncode == 0, error
    of_two = pd.read_csv(tmp_path / "two" / "history.csv")
    assert of_two["step"].tolist() == history["step"].tolist()
    assert of_two["tokens"].tolist() == history["tokens"].tolist()
    losses = [run["val_loss"].iloc[-1] for run in (history, of_two, of_half)]
    assert abs(losses[1] - losses[0]) < abs(losses[2] - losses[0]) / 20, losses
    alone, together, half = (
        load_file(tmp_path / name / "checkpoints" / "best.safetensors") for name in ("one", "two", "half")
    )
    apart = [max(float((run[name] - alone[name]).abs().max()) for name in alone) for run in (together, half)]
    assert apart[0] < apart[1] / 20, apart  # steps of half the batches end elsewhere
