"""Tables of the paper: tidy frame in, table of strings out (notebooks show it), rendered as LaTeX or Markdown.

Functions give frames of text whose columns and rows are as printed; :func:`save_table` writes one as ``.tex``
(booktabs) with a comment line of provenance.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from guardlib.evaluation.timings import percentiles
from guardlib.labels import LABEL_NAMES
from guardlib.report.latency_figures import check_seconds
from guardlib.report.registry import check_fractions, check_frame, provenance_line, write_whole
from guardlib.report.style import class_name, looks, ordered, readable

DASH = "–"
_MEASURES = (("accuracy", "accuracy", "n"), ("tpr", "TPR", "n_pos"), ("fpr", "FPR", "n_neg"))

#: Characters that pdflatex has no glyph for in its usual fonts.
_UNICODE_TO_LATEX = str.maketrans(
    {
        "–": "--", "—": "---", "…": r"\ldots{}", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$", "±": r"$\pm$",
        "−": "$-$", "→": r"$\rightarrow$", "µ": r"$\mu$", "·": r"\textperiodcentered{}", "\u00a0": "~",
        "<": "$<$", ">": "$>$", "|": "$|$",
    }
)  # fmt: skip


def rate(value: float, low: float = np.nan, high: float = np.nan, digits: int = 1) -> str:
    """``92.3 [89.1, 94.8]`` from fractions; without interval ``92.3``, and a dash where there is no value."""
    if pd.isna(value):
        return DASH
    text = f"{100 * value:.{digits}f}"
    return text if pd.isna(low) or pd.isna(high) else f"{text} [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


def main_results(headline: pd.DataFrame, systems: list[str] | None = None, accuracy: bool = False) -> pd.DataFrame:
    """Table 1: detection and false-positive rate (%) with 95 % interval, rows per benchmark, a column per system.

    Args:
        headline: as ``metrics.headline`` gives it: benchmark, system, n, n_pos, n_neg, and accuracy, tpr, fpr
            (fractions), each with _low and _high.
        systems: which systems, in this order; None takes all.
        accuracy: also the accuracy of benchmarks that hold both attacks and benign texts.

    Returns:
        Columns Benchmark, Measure, n and one per system. Where systems saw different rows, n stands in the cell.

    Raises:
        ValueError: columns or systems that are missing, percentages in place of fractions.
    """
    columns = ("benchmark", "system", "n", "n_pos", "n_neg")
    frame = check_frame("main_results", headline, columns, "05_benchmarks/benchmark_summary.csv")
    wanted = [f"{m}{end}" for m, _, _ in _MEASURES for end in ("", "_low", "_high")]
    missing = [column for column in wanted if column not in frame]
    if missing:
        raise ValueError(f"main_results: column {', '.join(missing)} is missing; expected what metrics.headline gives")
    check_fractions("main_results", frame, tuple(wanted))
    there = ordered(frame["system"])
    systems = there if systems is None else systems
    unknown = [name for name in systems if name not in there]
    if unknown:
        raise ValueError(f"main_results: no rows of system {', '.join(unknown)}; there are {', '.join(there)}")
    names = {name: look.label for name, look in looks(systems).items()}
    rows = []
    for benchmark in ordered(frame["benchmark"]):
        part = frame[frame["benchmark"] == benchmark].set_index("system")
        mixed = bool(((part["n_pos"] > 0) & (part["n_neg"] > 0)).any())
        for measure, title, n in _MEASURES:
            if (measure == "accuracy" and not (accuracy and mixed)) or not (part[n] > 0).any():
                continue
            sizes = sorted({int(part[n][system]) for system in systems if system in part.index and part[n][system] > 0})
            cells = {}
            for system in systems:
                row = part.loc[system] if system in part.index else None
                text = DASH if row is None else rate(row[measure], row[f"{measure}_low"], row[f"{measure}_high"])
                cells[names[system]] = text if len(sizes) < 2 or text == DASH else f"{text} (n {int(row[n]):,})"
            size = f"{sizes[0]:,}" if len(sizes) == 1 else DASH
            rows.append({"Benchmark": readable(benchmark), "Measure": title, "n": size, **cells})
    return pd.DataFrame(rows)


def rates_by(frame: pd.DataFrame, *by: str, n: str = "n") -> pd.DataFrame:
    """Rates (%) with their intervals, a row per distinct ``by`` and a column per system, in order of appearance.

    Args:
        frame: columns ``by``, system, rate (or value), low, high (fractions) and ``n``, the number of rows behind it.

    Returns:
        Columns ``by`` and ``n`` (readable), and one per system. Where systems saw different rows, ``n`` is their
        range. No rows where there are no rates.

    Raises:
        ValueError: columns that are missing, percentages in place of fractions, the same rate twice.
    """
    frame = frame.rename(columns={"value": "rate"})
    if frame.empty and {*by, "system"} <= set(frame.columns):  # a benchmark that did not run
        return pd.DataFrame(columns=[*map(readable, (*by, n))])
    frame = check_frame("rates_by", frame, (*by, "system", n), "05_benchmarks/benchmark_results.json")
    check_fractions("rates_by", frame, ("rate", "low", "high"))
    if (twice := frame.duplicated([*by, "system"])).any():
        raise ValueError(f"rates_by: {frame.loc[twice, [*by, 'system']].iloc[0].tolist()} has two rates; expected one")
    names = {name: look.label for name, look in looks(ordered(frame["system"])).items()}
    rows = []
    for key, part in frame.groupby(list(by), sort=False):
        cells = {names[row.system]: rate(row.rate, row.low, row.high) for row in part.itertuples()}
        low, high = int(part[n].min()), int(part[n].max())
        size = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        rows.append(dict(zip(map(readable, by), map(readable, key), strict=True)) | {readable(n): size} | cells)
    return pd.DataFrame(rows).fillna(DASH)


def matched_detection(matched: pd.DataFrame) -> pd.DataFrame:
    """Detection per transform beside the false-positive rate on benign text under it, of one system.

    Args:
        matched: as ``metrics.matched_detection`` gives it.
    """
    return pd.DataFrame(
        {
            "Transform": matched["variant"].map(readable),
            "Benchmark": matched["benchmark"].map(readable),
            "Caught": [rate(r.tpr, r.tpr_low, r.tpr_high) for r in matched.itertuples()],
            "n attacks": [f"{int(n):,}" for n in matched["n_pos"]],
            "Benign flagged": [rate(r.fpr, r.fpr_low, r.fpr_high) for r in matched.itertuples()],
            "n benign": [f"{int(n):,}" for n in matched["n_neg"]],
        }
    )


def seeds(spread: pd.DataFrame) -> pd.DataFrame:
    """Figures of the test split by seed, and under two or more their mean with its interval, in percent.

    Args:
        spread: as ``training.seeds.spread`` gives it or ``seeds.csv`` holds it.

    Returns:
        Columns Seed, n, Accuracy, TPR, FPR, Sent deep.
    """
    titles = {"accuracy": "Accuracy", "tpr": "TPR", "fpr": "FPR", "deep_share": "Sent deep"}
    by = spread.assign(seed=spread["seed"].astype(str)).set_index("seed")
    rows = [
        {"Seed": seed, "n": f"{int(row['n']):,}"} | {title: rate(row[name]) for name, title in titles.items()}
        for seed, row in by.drop(index=["mean", "low", "high"], errors="ignore").iterrows()
    ]
    if "mean" not in by.index:
        return pd.DataFrame(rows)
    mean = {title: rate(*by.loc[["mean", "low", "high"], name]) for name, title in titles.items()}
    return pd.DataFrame([*rows, {"Seed": "mean", "n": f"{int(by.at['mean', 'n']):,}"} | mean])


def latency_table(latency: pd.DataFrame, reference: str | None = None) -> pd.DataFrame:
    """Table 2: P50, P95 and P99 in milliseconds per system and length bucket, and how often faster than ``reference``.

    Args:
        latency: one row per timed text: system, tokens, seconds.
        reference: system to compare with; None leaves the ratio out. The ratio is P50 of the reference over P50 of the
            system in the same bucket and the same repeats, so 2.0 means twice as fast.

    Returns:
        Columns System, Tokens, Timings, P50 (ms), P95 (ms), P99 (ms) and, with a reference, "Speed-up over" it.
    """
    columns = ("system", "tokens", "seconds")
    frame = check_frame("latency_table", latency, columns, "07_cpu_latency/latency.parquet")
    check_seconds("latency_table", frame)
    systems = ordered(frame["system"])
    if reference is not None and reference not in systems:
        raise ValueError(f"latency_table: no rows of reference {reference!r}; there are {', '.join(systems)}")
    times = percentiles(frame, reference)
    over = f"Speed-up over {looks([reference])[reference].label}" if reference else ""
    rows = []
    for system in systems:
        for time in times[times["system"] == system].itertuples():
            row = {"System": looks([system])[system].label, "Tokens": time.tokens, "Timings": f"{time.n:,}"}
            row |= {"P50 (ms)": _three(time.p50_ms), "P95 (ms)": _three(time.p95_ms), "P99 (ms)": _three(time.p99_ms)}
            if reference is not None:
                row[over] = DASH if pd.isna(time.speed_up) else f"{time.speed_up:.2f} ×"
            rows.append(row)
    return pd.DataFrame(rows)


def sizes_and_routing(sizes: pd.DataFrame, routing: pd.DataFrame) -> pd.DataFrame:
    """Table 3: bytes on disk per precision (of two or fewer, file by file), and the share of texts sent deep per class.

    Args:
        sizes: one row per file: precision, file, bytes.
        routing: one row per class (label, deep_share, low, high, n), as ``routing.routing_by_label`` gives it.

    Returns:
        Columns Part, Item, Value, n.
    """
    if "precision" not in sizes or "file" not in sizes:
        raise ValueError("sizes_and_routing: column precision or file is missing; 06_quantize_onnx/sizes.csv has them")
    sizes = check_frame("sizes_and_routing", sizes, ("bytes",), "06_quantize_onnx/sizes.csv")
    columns = ("label", "deep_share", "low", "high", "n")
    routing = check_frame("sizes_and_routing", routing, columns, "04_router_analysis/routing_by_label.csv")
    check_fractions("sizes_and_routing", routing, ("deep_share", "low", "high"))
    rows = []
    for precision in ordered(sizes["precision"]):
        part = sizes[sizes["precision"] == precision]
        title = f"size on disk, {readable(precision)}"
        entries = [*zip(part["file"], part["bytes"], strict=True)] if sizes["precision"].nunique() <= 2 else []
        entries += [("all files", part["bytes"].sum())] if len(part) > 1 or not entries else []
        rows += [{"Part": title, "Item": str(file), "Value": f"{b / 1e6:.2f} MB", "n": DASH} for file, b in entries]
    for row in routing.itertuples():
        value = rate(row.deep_share, row.low, row.high)
        item = readable(class_name(row.label))
        rows.append({"Part": "sent to the deep branch (%)", "Item": item, "Value": value, "n": f"{int(row.n):,}"})
    return pd.DataFrame(rows)


def composition(records: pd.DataFrame, sources: list[dict] | None = None) -> pd.DataFrame:
    """What the data is made of: rows per source and class, largest source first, with a total.

    Args:
        records: one row per text (source, label), or counted rows (source, label, n).
        sources: optional list of ``sources.json``; adds columns Licence and Origin by source name.

    Returns:
        Columns Source, [Licence, Origin,] one per class, Total.
    """
    frame = check_frame("composition", records, ("source", "label"), "01_data/train.parquet")
    counts = frame.assign(label=frame["label"].map(class_name), n=frame.get("n", 1))
    table = counts.pivot_table(index="source", columns="label", values="n", aggfunc="sum", fill_value=0)
    table = table.reindex(columns=list(LABEL_NAMES), fill_value=0)
    table["Total"] = table.sum(axis=1)
    table = table.sort_values("Total", ascending=False, kind="stable")
    table.loc["all"] = table.sum()
    table = table.map(lambda n: f"{int(n):,}").rename(columns=readable)
    about = {entry["name"]: entry for entry in sources or []}
    facts = [about.get(name, {}) for name in table.index]
    table.insert(
        0, "Source", [name if len(name) <= 40 else f"{name[:20]}…{name[-19:]}" for name in table.index.map(str)]
    )
    if sources is not None:
        table.insert(1, "Licence", [str(fact.get("licence") or DASH) for fact in facts])
        table.insert(2, "Origin", [str(fact.get("origin") or DASH) for fact in facts])
    return table.reset_index(drop=True)


def published(figures: list[dict] | pd.DataFrame) -> pd.DataFrame:
    """Figures of other systems as their authors printed them; nothing here was measured by this workbook.

    Args:
        figures: entries of ``guardlib/evaluation/published.json``: system, benchmark, value, source; optional metric,
            size, unit, note.

    Returns:
        Columns System, [Size,] Benchmark, [Measure,] Published, Source, [Note].
    """
    frame = pd.DataFrame(figures)
    missing = [column for column in ("system", "benchmark", "value", "source") if column not in frame]
    if missing:
        raise ValueError(
            f"published: {', '.join(missing)} is missing; expected entries with system, benchmark, value, source"
        )
    table = pd.DataFrame({"System": frame["system"].map(str)})
    if "size" in frame:
        table["Size"] = frame["size"].map(_text)
    table["Benchmark"] = frame["benchmark"].map(readable)
    if "metric" in frame:
        table["Measure"] = frame["metric"].map(_text).map(readable)
    units = frame["unit"].map(_text) if "unit" in frame else [""] * len(frame)
    values = [f"{value:g}" if isinstance(value, int | float) else str(value) for value in frame["value"]]
    table["Published"] = [f"{v} {'' if u == DASH else u}".strip() for v, u in zip(values, units, strict=True)]
    table["Source"] = frame["source"].map(_text)
    if "note" in frame:
        table["Note"] = frame["note"].map(_text)
    return table


def shown(frame: pd.DataFrame, precision: int = 3, height: int | None = None) -> Styler:
    """A frame for a notebook: whole cells, wrapped and to the left, and texts as text (markup in them is escaped).

    A table higher than ``height`` (in ems; None: as high as it is) scrolls.
    """
    left = {"text-align": "left", "overflow-wrap": "anywhere", "max-width": "28em"}
    style = frame.style.format(precision=precision, escape="html", na_rep=DASH).hide(axis="index")
    selectors = [{"selector": "th", "props": "text-align: left"}]
    if height:
        selectors.append({"selector": "", "props": f"display: block; max-height: {height}em; overflow-y: auto"})
    return style.set_properties(**left).set_table_styles(selectors)


def to_latex(table: pd.DataFrame, caption: str = "", label: str = "", provenance: dict | None = None) -> str:
    """A booktabs ``table`` environment: text escaped, repeats in the first column blanked, font size to fit.

    Args:
        table: a frame of text as printed (numbers are formatted by pandas).
        caption, label: plain text; the caption is escaped. Without a caption, only the ``tabular``.
        provenance: adds a comment line (``% profile … · commit … · data …``).

    Raises:
        ValueError: no rows or no columns.
    """
    if table.empty:
        raise ValueError(
            f"the table has {len(table)} rows and {len(table.columns)} columns; expected at least one of each"
        )
    shown = table.astype(object).where(table.notna(), DASH).copy()
    numeric = [c for c in shown if _is_numeric(shown[c])]
    first = shown.columns[0]
    starts = ~shown[first].astype(str).eq(shown[first].astype(str).shift())
    styler = shown.assign(**{first: shown[first].where(starts, "")}).style if not starts.all() else shown.style
    styler = styler.format(escape="latex", precision=1).format_index(escape="latex", axis=0).hide(axis="index")
    styler = styler.format_index(escape="latex", axis=1)
    alignment = "".join("r" if column in numeric else "l" for column in shown)
    tabular = styler.to_latex(hrules=True, column_format=alignment).translate(_UNICODE_TO_LATEX)
    comment = f"% {provenance_line(provenance)}\n% generated; do not edit\n" if provenance is not None else ""
    size = _font_size(shown)
    if not caption:
        return f"{comment}{{{size}\n{tabular}}}\n"
    tag = f"\\label{{{label}}}\n" if label else ""
    head = f"\\begin{{table}}[t]\n\\caption{{{escape(caption)}}}\n{tag}\\centering\n{size}\n"
    head += "\\setlength{\\tabcolsep}{4pt}\n"
    return f"{comment}{head}{tabular}\\end{{table}}\n"


def to_markdown(table: pd.DataFrame) -> str:
    """A GitHub table; numbers to the right, pipes and line ends made harmless."""
    if table.empty:
        raise ValueError(
            f"the table has {len(table)} rows and {len(table.columns)} columns; expected at least one of each"
        )

    def cell(value: object) -> str:
        return " ".join(str(DASH if pd.isna(value) else value).replace("\\", "\\\\").replace("|", "\\|").split())

    rows = [[cell(value) for value in row] for row in table.itertuples(index=False)]
    rules = ["---:" if _is_numeric(table[c]) else "---" for c in table]
    lines = [[cell(column) for column in table.columns], rules, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def save_table(
    table: pd.DataFrame | str, folder: str | Path, name: str, provenance: dict, caption: str = "", label: str = ""
) -> Path:
    """Write ``folder/name.tex``; the same table and provenance give the same bytes.

    Args:
        table: a frame as printed, or LaTeX that is ready (the comment line is put before it).

    Raises:
        ValueError: an empty table, a missing provenance key.
        OSError: the folder cannot be written.
    """
    if isinstance(table, str):
        text = f"% {provenance_line(provenance)}\n{table.rstrip()}\n"
    else:
        text = to_latex(table, caption, label or f"tab:{name}", provenance)
    return write_whole(folder, f"{name}.tex", text.encode())


def escape(text: str) -> str:
    """Plain text made safe for LaTeX, by the rules pandas uses for cells."""
    cell = (
        pd.DataFrame({"": [" ".join(text.split())]})
        .style.format(escape="latex")
        .hide(axis="index")
        .hide(axis="columns")
    )
    body = cell.to_latex(column_format="l").split("\n", 1)[1].rsplit("\\\\", 1)[0].strip()
    return body.translate(_UNICODE_TO_LATEX)


def _font_size(table: pd.DataFrame) -> str:
    """The largest size at which a row fits 5.5 in (397 pt), at 0.48 em per character and 8 pt between columns."""
    characters = sum(max(len(str(c)), table[c].map(lambda value: len(str(value))).max()) for c in table)
    room = 397 - 8 * len(table.columns)
    for name, points in (("\\normalsize", 10), ("\\small", 9), ("\\footnotesize", 8), ("\\scriptsize", 7)):
        if 0.48 * points * characters <= room:
            return name
    return "\\tiny"


def _is_numeric(column: pd.Series) -> bool:
    """Whether most cells read as numbers or rates ("92.3 [89.1, 94.8]", "1.2 ×", "4.31 MB"), dashes aside."""
    texts = column.dropna().map(str)
    texts = texts[texts != DASH].str.lstrip("-−+")
    return column.name == "n" or bool(texts.str.match(r"\d[\d.,]*(?!\w)").mean() > 0.5)  # "01_data" is a name


def _three(milliseconds: float) -> str:
    """Three significant digits, never in powers of ten."""
    return (
        f"{milliseconds:.0f}"
        if milliseconds >= 100
        else f"{milliseconds:.1f}"
        if milliseconds >= 10
        else f"{milliseconds:.2f}"
    )


def _text(value: object) -> str:
    return DASH if value is None or value is pd.NA or value != value or value == "" else str(value)
