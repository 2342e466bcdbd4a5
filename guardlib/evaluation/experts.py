"""Which texts go to which expert of the deep branch, and how sure its gates are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy.special import entr, rel_entr

from guardlib.labels import LABEL_NAMES
from guardlib.model.build import Guardrail
from guardlib.model.deep_branch import MixtureOfExperts
from guardlib.model.inference import to_tensors
from guardlib.text.reading import TOKENS_PER_BATCH, batches_by_length


def sample(frame: pd.DataFrame, per_family: int = 40) -> pd.DataFrame:
    """At most ``per_family`` rows of each family, the first ones: splits come shuffled."""
    return frame.groupby("family", sort=False).head(per_family).reset_index(drop=True)


def expert_tokens(guardrail: Guardrail, frame: pd.DataFrame, tokens_per_batch: int = TOKENS_PER_BATCH) -> pd.DataFrame:
    """Tokens of each text that each expert took, the text sent deep whatever the router says; its first window is read.

    Args:
        frame: rows with text, label (number) and family.

    Returns:
        one row per text and layer: label (name), family, layer, tokens, gate_entropy (mean over tokens; 0 sure, 1 as
        good as random), expert_0, expert_1, … (tokens).
    """
    model, reader = guardrail.model.eval(), guardrail.reader
    first = {window.text: window for window in reversed(reader.windows(frame["text"].tolist()))}
    windows = [first[row] for row in range(len(frame))]
    gates = [module for module in model.modules() if isinstance(module, MixtureOfExperts)]
    device = next(model.parameters()).device
    found: list[tuple] = []  # of one batch: tokens per text and expert [B, E], entropy per text [B], for each layer

    def listen(module: MixtureOfExperts, inputs: tuple, _) -> None:
        x_BLD, mask_BL = inputs
        p_BLE = module.gate_probabilities(x_BLD).cpu().numpy()
        mask = mask_BL.cpu().numpy().astype(float)
        chosen = np.eye(p_BLE.shape[-1])[p_BLE.argmax(-1)] * mask[..., None]
        entropy = entr(p_BLE).sum(-1) / np.log(p_BLE.shape[-1])
        found.append((chosen.sum(1), (entropy * mask).sum(1) / mask.sum(1)))

    parts = []
    hooks = [gate.register_forward_hook(listen) for gate in gates]
    try:
        with torch.inference_mode():
            for rows in batches_by_length([len(window) for window in windows], tokens_per_batch):
                found.clear()
                model(*to_tensors(reader.collate([windows[row] for row in rows]), device))
                for layer, (tokens_BE, entropy_B) in enumerate(found):
                    part = pd.DataFrame(tokens_BE, columns=[f"expert_{e}" for e in range(tokens_BE.shape[1])])
                    parts.append(part.assign(row=rows, layer=layer, gate_entropy=entropy_B, tokens=tokens_BE.sum(1)))
    finally:
        for hook in hooks:
            hook.remove()
    table = pd.concat(parts, ignore_index=True).sort_values(["row", "layer"], ignore_index=True)
    rows = table.pop("row").to_numpy()
    table.insert(0, "label", [LABEL_NAMES[label] for label in frame["label"].to_numpy()[rows]])
    table.insert(1, "family", frame["family"].to_numpy()[rows])
    return table


def expert_shares(tokens: pd.DataFrame, by: str = "label") -> pd.DataFrame:
    """Share of a group's tokens that each expert took, per layer.

    Args:
        tokens: of :func:`expert_tokens`.
        by: label or family.

    Returns:
        columns <by>, layer, n (texts), expert_0, expert_1, … (sum to 1), and bits: how far these shares are from those
        of all texts (Kullback–Leibler divergence, base 2; 0 where the group is treated as any other).
    """
    experts = [column for column in tokens if column.startswith("expert_")]
    groups = tokens.groupby([by, "layer"], sort=False)
    table = groups[experts].sum()
    table = table.div(table.sum(axis=1), axis=0)
    whole = tokens.groupby("layer")[experts].sum()
    whole = whole.div(whole.sum(axis=1), axis=0).loc[table.index.get_level_values("layer")].to_numpy()
    table["bits"] = rel_entr(table[experts].to_numpy(), whole).sum(axis=1) / np.log(2)
    table.insert(0, "n", groups.size())
    return table.reset_index()


class IdleExpert(RuntimeError):
    """An expert that (nearly) no token goes to is dead weight."""


def check_idle(gates: pd.DataFrame, least: float = 0.01) -> None:
    """Raise :class:`IdleExpert` for a layer in which an expert takes less than ``least`` of the tokens (by_layer)."""
    for layer in gates[gates["least"] < least].itertuples():
        raise IdleExpert(
            f"in expert layer {layer.layer} one expert takes {layer.least:.2%} of the tokens; expected {least:.0%} or "
            "more: train again with a higher -p training.balance_loss_weight"
        )


def by_layer(tokens: pd.DataFrame) -> pd.DataFrame:
    """What a layer's gate does: layer, gate_entropy, the least and the most that an expert takes (shares of all
    tokens; an even share is 1 / experts), and what knowing the expert tells of the class (mutual information, bits).
    """
    shares = expert_shares(tokens)
    experts = [column for column in tokens if column.startswith("expert_")]
    rows = []
    for layer, part in tokens.groupby("layer"):
        load = part[experts].sum() / part[experts].to_numpy().sum()
        of_class = part.groupby("label", sort=False)["tokens"].sum() / part["tokens"].sum()
        bits = shares[shares["layer"] == layer].set_index("label")["bits"]
        entropy = np.average(part["gate_entropy"], weights=part["tokens"])
        told = float((of_class * bits).sum())
        rows.append((layer, entropy, load.min(), load.max(), told))
    return pd.DataFrame(rows, columns=["layer", "gate_entropy", "least", "most", "bits_of_class"])
