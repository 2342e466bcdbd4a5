"""Two processes make the steps that one process makes with twice the batches."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import torch

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


def test_two_processes_reach_the_loss_of_one(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [*launcher, str(script), str(tmp_path / "two")], env=os.environ | environment, stderr=subprocess.PIPE, text=True
    ) as launched:
        alone = run(tmp_path / "one", accumulate=2)
        _, error = launched.communicate(timeout=120)
    assert launched.returncode == 0, error
    together = pd.read_csv(tmp_path / "two" / "history.csv")
    assert together["step"].tolist() == alone["step"].tolist()
    assert together["tokens"].tolist() == alone["tokens"].tolist()
    for column in ("val_loss", "train_loss"):
        torch.testing.assert_close(
            torch.tensor(together[column]), torch.tensor(alone[column].to_numpy()), atol=2e-3, rtol=1e-2
        )
