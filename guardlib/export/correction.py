"""What rounding moves the logits by in the mean, given back: verdicts stand on thresholds, not on ranks.

Bias correction (Nagel et al. 2019, arXiv 1906.04721, section 4.2), measured on texts, and of the outputs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from guardlib.export.onnx import Graphs
from guardlib.runtime.session import make_session

_FRONT, _DEEP = ("fast_logits", "router_logit"), ("logits",)


def correct_outputs(exact: Graphs, rounded: Graphs, feeds: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Add to each output of ``rounded`` what it lacks to that of ``exact`` in the mean on ``feeds``, in place.

    The deep graphs read what their own front says, so that what the front loses counts as well.

    Args:
        feeds: inputs of the front.

    Returns:
        What was added: ``fast_logits`` [K], ``router_logit`` [], ``logits`` [K].

    Raises:
        ValueError: no feeds.
    """
    if not feeds:
        raise ValueError("correct_outputs got no inputs; expected at least one batch")
    wanted, found = (_mean_outputs(graphs, feeds) for graphs in (exact, rounded))
    added = {name: (wanted[name] - found[name]).astype(np.float32) for name in wanted}
    _add(rounded.front, {name: added[name] for name in _FRONT})
    _add(rounded.deep, {name: added[name] for name in _DEEP})
    return added


def _mean_outputs(graphs: Graphs, feeds: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Mean over all windows of ``feeds`` of every output that decides."""
    front, deep = make_session(graphs.front), make_session(graphs.deep)
    outputs: dict[str, list[np.ndarray]] = {name: [] for name in _FRONT + _DEEP}
    for feed in feeds:
        hidden, *decisive = front.run(["hidden", *_FRONT], feed)
        decisive += deep.run(list(_DEEP), {"hidden": hidden, "attention_mask": feed["attention_mask"]})
        for name, values in zip(outputs, decisive, strict=True):
            outputs[name].append(values)
    return {name: np.concatenate(parts).astype(np.float64).mean(0) for name, parts in outputs.items()}


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
