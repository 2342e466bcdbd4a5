"""What rounding moves the logits by in the mean, given back: verdicts stand on thresholds, not on ranks.

Bias correction (Nagel et al. 2019, arXiv 1906.04721, section 4.2), measured on texts, and of the outputs alone. In that
mean a window counts as its score p could change a verdict, by p (1 - p): rounding moves doubtful texts by more than
sure ones, which are many.

Legend: W windows, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from guardlib.export.onnx import Graphs
from guardlib.labels import Label
from guardlib.runtime.decision import softmax
from guardlib.runtime.session import make_session

_FRONT, _DEEP = ("fast_logits", "router_logit"), ("logits",)


def correct_outputs(exact: Graphs, rounded: Graphs, feeds: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Add to each output of ``rounded`` what it lacks to that of ``exact`` in the mean on ``feeds``, in place.

    The deep graphs read what their own front says, so that what the front loses counts as well. Windows count by how
    doubtful the branch is about them; for the routing logit, whose threshold is not known here, all count alike.

    Args:
        feeds: inputs of the front.

    Returns:
        What was added: ``fast_logits`` [K], ``router_logit`` [], ``logits`` [K].

    Raises:
        ValueError: no feeds.
    """
    if not feeds:
        raise ValueError("correct_outputs got no inputs; expected at least one batch")
    wanted, found = (_outputs(graphs, feeds) for graphs in (exact, rounded))
    doubts = {
        "fast_logits": _doubt(wanted["fast_logits"]),
        "router_logit": None,
        "logits": _doubt(wanted["logits"] + wanted["ngram_logits"]),
    }
    added = {
        name: np.average(wanted[name] - found[name], axis=0, weights=weights).astype(np.float32)
        for name, weights in doubts.items()
    }
    _add(rounded.front, {name: added[name] for name in _FRONT})
    _add(rounded.deep, {name: added[name] for name in _DEEP})
    return added


def _doubt(logits_WK: np.ndarray) -> np.ndarray:
    """p (1 - p) of the attack score p: [W]."""
    benign_W = softmax(logits_WK)[:, Label.BENIGN]
    return benign_W * (1 - benign_W) + 1e-9  # so that windows of which all are sure have a mean, too


def _outputs(graphs: Graphs, feeds: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The outputs that decide, and those of the n-grams, on all windows of ``feeds``."""
    front, deep = make_session(graphs.front), make_session(graphs.deep)
    outputs: dict[str, list[np.ndarray]] = {name: [] for name in (*_FRONT, "ngram_logits", *_DEEP)}
    for feed in feeds:
        hidden, *decisive = front.run(["hidden", *_FRONT, "ngram_logits"], feed)
        decisive += deep.run(list(_DEEP), {"hidden": hidden, "attention_mask": feed["attention_mask"]})
        for name, values in zip(outputs, decisive, strict=True):
            outputs[name].append(values)
    return {name: np.concatenate(parts).astype(np.float64) for name, parts in outputs.items()}


def _add(path: Path, constants: dict[str, np.ndarray]) -> None:
    """Add a constant to each of these outputs of the graph; what else reads them in it goes on reading the old ones."""
    proto = onnx.load(path)
    graph = proto.graph
    for name, constant in constants.items():
        before = f"{name}_as_rounded"
        for node in graph.node:
            for names in (node.input, node.output):
                for place in [place for place, other in enumerate(names) if other == name]:
                    names[place] = before
        graph.initializer.append(numpy_helper.from_array(np.asarray(constant), f"{name}_correction"))
        graph.node.append(helper.make_node("Add", [before, f"{name}_correction"], [name], name=f"correct_{name}"))
    onnx.checker.check_model(proto)
    part = path.with_name(f".{path.name}.part")
    onnx.save(proto, part)
    part.replace(path)
