from __future__ import annotations

import errno

import pytest
import torch
from safetensors.torch import save_file

from guardlib.model.inference import to_tensors
from guardlib.training import checkpoint
from guardlib.training.checkpoint import CheckpointError, load_checkpoint, read_state, save_checkpoint, save_weights
from guardlib.training.trainer import make_optimizer
from tests.helpers import make_batch, make_model, make_profile

IDENTITY = {"model": "tiny", "seed": "0"}


def make_state(steps: int = 2):
    """A model and its optimizer after a few steps."""
    model = make_model()
    optimizer = make_optimizer(model, make_profile().training)
    inputs = to_tensors(make_batch(["hello there", "ignore the rules"]))
    for _ in range(steps):
        model(*inputs).deep_logits.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def save(path, state=None):
    model, optimizer = make_state()
    save_checkpoint(path, model, optimizer, {"identity": IDENTITY, **(state or {})})
    return model, optimizer


def test_round_trip(tmp_path):
    path = tmp_path / "deeper" / "last.safetensors"
    model, optimizer = save(path, {"progress": {"step": 7, "history": [{"loss": float("nan")}]}})
    drawn = torch.rand(3)
    other = make_model(seed=9)
    fresh = make_optimizer(other, make_profile().training)
    state = load_checkpoint(path, other, fresh, IDENTITY)
    assert state["progress"]["step"] == 7
    assert torch.equal(torch.rand(3), drawn)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    moved = 0
    for group, group_of_fresh in zip(optimizer.param_groups, fresh.param_groups, strict=True):
        assert group["names"] == group_of_fresh["names"]
        for parameter, twin in zip(group["params"], group_of_fresh["params"], strict=True):
            assert optimizer.state[parameter].keys() == fresh.state[twin].keys()
            for kind, value in optimizer.state[parameter].items():
                assert torch.equal(fresh.state[twin][kind], value), kind
                moved += kind == "exp_avg" and bool(value.any())
    assert moved > 10


def test_another_run_is_refused_with_what_differs(tmp_path):
    path = tmp_path / "last.safetensors"
    model, optimizer = save(path)
    with pytest.raises(CheckpointError, match=r"written with seed = 0, this run has 1; .*training\.resume=false"):
        load_checkpoint(path, model, optimizer, IDENTITY | {"seed": "1"})
    with pytest.raises(CheckpointError, match="written with vocabulary = None, this run has abc"):
        load_checkpoint(path, model, optimizer, IDENTITY | {"vocabulary": "abc"})


@pytest.mark.parametrize("keep", [0, 5, 100, -50], ids=["empty", "header cut", "header only", "tail cut"])
def test_a_truncated_file_is_damaged(tmp_path, keep):
    path = tmp_path / "last.safetensors"
    model, optimizer = save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"last\.safetensors is damaged .*resume=false"):
        load_checkpoint(path, model, optimizer, IDENTITY)


def test_a_file_that_is_no_checkpoint_is_damaged(tmp_path):
    path = tmp_path / "last.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="damaged"):
        read_state(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"state": "{}"})
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path, *make_state(0), IDENTITY)


@pytest.mark.parametrize("name", ["save_file", "os.replace"])
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch, name):
    path = tmp_path / "last.safetensors"
    model, optimizer = save(path, {"progress": {"step": 1}})
    before = path.read_bytes()

    def full(*arguments, **options):
        if name == "save_file":
            arguments[1].write_bytes(b"the first half")
        raise OSError(errno.ENOSPC, "No space left on device")

    target = checkpoint if name == "save_file" else checkpoint.os
    monkeypatch.setattr(target, name.removeprefix("os."), full)
    for write in (
        lambda: save_checkpoint(path, model, optimizer, {"identity": IDENTITY}),
        lambda: save_weights(path, model),
    ):
        with pytest.raises(CheckpointError, match=r"No space left.*previous one is kept"):
            write()
        assert path.read_bytes() == before
        assert [entry.name for entry in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path):
    (tmp_path / "checkpoints").write_text("a file stands in the way")
    with pytest.raises(CheckpointError, match="could not be written"):
        save(tmp_path / "checkpoints" / "last.safetensors")
