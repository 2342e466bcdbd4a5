"""Checkpoints: one safetensors file that holds weights, optimizer state and random state, replaced in one step.

The file is written beside the old one and renamed over it, so a crash or a full disk leaves the previous checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from guardlib.model.dual_branch import load_weights


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read, or belongs to another run."""


def save_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Write everything needed to go on; ``state`` is JSON (position in the data, history, the run's identity).

    Raises:
        CheckpointError: the disk refused; the previous checkpoint is untouched.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    names = [name for group in optimizer.param_groups for name in group["names"]]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, parameter in zip(names, parameters, strict=True):
        for kind, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{kind}.{name}"] = torch.as_tensor(value)
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    _write(path, tensors, {"state": json.dumps(state)})


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights alone.

    Raises:
        CheckpointError: the disk refused; the previous file is untouched.
    """
    _write(path, model.state_dict(), None)


def _write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> None:
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(_apart(tensors), temporary, metadata)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"checkpoint {path} could not be written ({error}); the previous one is kept: free some space and run again"
        ) from error


def _apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors on the CPU, each with memory of its own: the file format refuses tied weights that share it."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        apart[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return apart


def read_state(path: Path) -> dict:
    """The JSON state of a checkpoint, ``identity`` in it. Raises CheckpointError if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            return state | {"identity": dict(state["identity"])}
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged ({error}); {_fresh(path)}") from error


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Weights that :func:`save_weights` wrote. Raises CheckpointError if the file is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}, the best weights of this training so far, cannot be read ({error}); to start over pass "
            "-p training.resume=false"
        ) from error


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, identity: dict) -> dict:
    """Restore weights, optimizer and random state; returns the JSON state.

    Raises:
        CheckpointError: damaged, or written by a run whose identity differs (what differs is named).
    """
    state = read_state(path)
    check_identity(path, state["identity"], identity)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    load_weights(model, weights, str(path))
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            kinds = ("step", "exp_avg", "exp_avg_sq")
            optimizer.state[parameter] = {
                kind: tensors[f"optimizer.{kind}.{name}"].to(parameter.device)  # the step too: the optimizer is fused
                for kind in kinds
                if f"optimizer.{kind}.{name}" in tensors
            }
    torch.set_rng_state(tensors["random.cpu"])
    if torch.cuda.is_available() and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])
    return state


def check_identity(path: Path, saved: dict, identity: dict) -> None:
    """Raise CheckpointError where the run that wrote the checkpoint differs from that of ``identity``; says in what."""
    for key in sorted(identity.keys() | saved.keys()):
        was, now = saved.get(key), identity.get(key)
        if was != now:
            raise CheckpointError(f"checkpoint {path} was written with {_differences(key, was, now)}; {_fresh(path)}")


def _differences(key: str, was: str | None, now: str | None) -> str:
    """The values of ``key`` in a checkpoint and in this run; where they are settings in JSON, of those that differ."""
    try:
        before, here = dict(json.loads(was)), dict(json.loads(now))
    except (TypeError, ValueError):
        return f"{key} = {was}, this run has {now}"
    names = sorted(name for name in before | here if before.get(name) != here.get(name))
    return " and ".join(f"{key}.{name} = {before.get(name)}, this run has {here.get(name)}" for name in names)


def _fresh(path: Path) -> str:
    return f"to start over remove it or pass -p training.resume=false ({path.name})"
