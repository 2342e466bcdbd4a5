"""The worst mistakes, with their texts: the quickest way to see what a guard has and has not learnt."""

from __future__ import annotations

import os
import re

import pandas as pd

from guardlib.labels import HARMFUL_REQUEST, LABEL_NAMES
from guardlib.model.build import Guardrail
from guardlib.model.inference import decide, score_windows
from guardlib.text.reading import TOKENS_PER_BATCH

FALSE_ALARM, MISSED = "false alarm", "missed"
_WORD = re.compile(r"\S+")
_SPAN, _STEP = 12, 6  # words of a span, and from one span to the next


def mistakes(rows: pd.DataFrame, benchmarks: pd.DataFrame) -> pd.DataFrame:
    """Every mistake in score rows with its text, the most confident first; ``error`` is "false alarm" or "missed".

    Harmful requests are left out: flagging them is neither right nor wrong. A text that several benchmarks hold is
    listed once per system.

    Returns:
        columns error, system, benchmark, variant, label (by name), score, route, text.
    """
    rows = rows[rows["family"] != HARMFUL_REQUEST]
    flagged, attack = rows["predicted"] > 0, rows["label"] > 0
    wrong = rows[flagged != attack].merge(
        benchmarks[["benchmark", "example_id", "text"]], on=["benchmark", "example_id"]
    )
    wrong["error"] = wrong["label"].gt(0).map({True: MISSED, False: FALSE_ALARM})
    wrong["confidence"] = wrong["score"].where(wrong["error"] == FALSE_ALARM, 1 - wrong["score"])
    wrong = wrong.sort_values("confidence", ascending=False, kind="stable").drop_duplicates(["system", "error", "text"])
    wrong["label"] = wrong["label"].map(LABEL_NAMES.__getitem__)
    columns = ["error", "system", "benchmark", "variant", "label", "score", "route", "text"]
    return wrong[columns].reset_index(drop=True)


def worst_errors(
    rows: pd.DataFrame,
    benchmarks: pd.DataFrame,
    guardrail: Guardrail | None = None,
    each: int = 8,
    characters: int = 160,
) -> pd.DataFrame:
    """The ``each`` most confident false alarms and misses of one system, texts cut to ``characters``.

    With the guard, also ``span``: the piece of the text that it finds most suspicious.
    """
    worst = mistakes(rows, benchmarks).groupby("error", sort=False).head(each).drop(columns="system")
    worst = worst.sort_values("error", kind="stable", ignore_index=True)
    if guardrail is not None:
        worst["span"] = highest_spans(guardrail, worst["text"].tolist())
        worst["span"] = worst["span"].str.split().str.join(" ")
    worst["text"] = worst["text"].str.slice(0, characters).str.replace(r"\s+", " ", regex=True)
    return worst


def highest_spans(guardrail: Guardrail, texts: list[str], tokens_per_batch: int = TOKENS_PER_BATCH) -> list[str]:
    """Per text the run of ``_SPAN`` words with the highest attack score when it is read alone.

    Looked for in the window that decides, as the guard reads it: of a text that is unfolded, in what it hides.
    """
    if not texts:
        return []
    whole = score_windows(guardrail.model, guardrail.reader, texts, tokens_per_batch)
    spans, owners = [], []
    for owner, chosen in enumerate(decide(whole, guardrail.calibration).window):
        window = whole.windows[chosen]
        start, stop = window.span
        for span in _spans(window.view.text[start:stop]):
            spans.append(span)
            owners.append(owner)
    read = score_windows(guardrail.model, guardrail.reader, spans, tokens_per_batch)
    score = 1 - decide(read, guardrail.calibration).probabilities[:, 0]
    table = pd.DataFrame({"owner": owners, "span": spans, "score": score})
    best = table.loc[table.groupby("owner")["score"].idxmax()].set_index("owner")["span"]
    return [best[owner] for owner in range(len(texts))]


def _spans(text: str) -> list[str]:
    """Overlapping runs of words, the last one full; at least one, which may be empty."""
    words = [match.span() for match in _WORD.finditer(text)]
    if len(words) <= _SPAN:
        return [text]
    starts = [*range(0, len(words) - _SPAN, _STEP), len(words) - _SPAN]
    return [text[words[start][0] : words[start + _SPAN - 1][1]] for start in starts]


def browse(rows: pd.DataFrame, benchmarks: pd.DataFrame, guardrail: Guardrail | None = None):
    """A widget to look through the mistakes of every system; in a headless run, one line that says so."""
    if os.environ.get("GUARDLIB_HEADLESS"):
        return "The browser appears where a person runs this notebook."
    import html

    import ipywidgets

    found = mistakes(rows, benchmarks)
    choose = {
        name: ipywidgets.Dropdown(description=name, options=["all", *found[name].unique()])
        for name in ("system", "error", "benchmark")
    }
    choose["system"].value = "guard" if "guard" in choose["system"].options else "all"
    number = ipywidgets.BoundedIntText(description="number", min=0, max=0)
    shown = ipywidgets.HTML()

    def show(_=None) -> None:
        part = found
        for name, box in choose.items():
            part = part if box.value == "all" else part[part[name] == box.value]
        number.max = max(len(part) - 1, 0)
        if part.empty:
            shown.value = "<i>no such mistake</i>"
            return
        row = part.iloc[min(number.value, len(part) - 1)]
        text = html.escape(row["text"])
        if guardrail is not None:
            span = html.escape(highest_spans(guardrail, [row["text"]])[0])
            marked = text.replace(span, f"<mark>{span}</mark>") if span else text
            text = f"{text}<hr>unfolded: {span}" if span and marked == text else marked
        facts = f"{row['system']}: {row['error']}, {row['label']}, score {row['score']:.3f} ({row['benchmark']})"
        shown.value = (
            f"<b>{number.value + 1} of {len(part):,}</b> {facts}<pre style='white-space:pre-wrap'>{text}</pre>"
        )

    for box in (*choose.values(), number):
        box.observe(show, names="value")
    show()
    return ipywidgets.VBox([ipywidgets.HBox([*choose.values(), number]), shown])
