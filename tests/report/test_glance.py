"""What a reader looks for first: detection, classes and cost."""

from __future__ import annotations

import pandas as pd

from guardlib.evaluation import metrics
from guardlib.report.glance import classes_at_a_glance, cost_at_a_glance, detection_at_a_glance


def test_the_glance_prints_what_is_caught_beside_what_is_flagged_and_leaves_out_what_did_not_run():
    rates = {f"{m}{end}": value for m in ("tpr", "fpr") for end, value in (("", 0.25), ("_low", 0.2), ("_high", 0.3))}
    bipia = {"benchmark": "bipia", "system": "guard", "n_pos": 4000, "n_neg": 167} | rates
    notinject = bipia | {"benchmark": "notinject", "n_pos": 0, "n_neg": 339, "tpr": float("nan")}
    rules = notinject | {"system": "rules", "fpr": 0.5}
    printed = detection_at_a_glance(pd.DataFrame([bipia, notinject, rules]), ["guard", "rules"])
    assert printed["Benchmark"].tolist() == ["notinject", "bipia"]
    assert printed["n (attacks / benign)"].tolist() == ["– / 339", "4,000 / 167"]
    assert printed["guard: caught"].tolist() == ["–", "25.0 [20.0, 30.0]"]
    assert printed["guard: benign flagged"].tolist() == ["25.0 [20.0, 30.0]"] * 2
    assert printed["rules: benign flagged"].tolist() == ["50.0 [20.0, 30.0]", "–"]
    assert printed["Aim"].tolist() == ["– / ≤ 8", "≥ 85 / ≤ 5"]


LATENCY = ["system", "tokens", "seconds"]


def test_cost_is_of_all_lengths_together_and_ratios_are_of_medians():
    seconds = {"guard": [0.001, 0.002, 0.100], "BERT-6": [0.006, 0.007, 0.008]}  # means would say the opposite
    latency = pd.DataFrame([(name, 8, s) for name in seconds for s in seconds[name]], columns=LATENCY)
    latency.loc[latency["seconds"] == 0.1, "tokens"] = 300
    headline = {"texts_per_second": 431.6, "cold_start_seconds": 0.46, "resident_mb": 148.9}
    table = cost_at_a_glance(latency, 27.64, headline).set_index("Cost")
    printed = table["Measured"]
    assert printed.iloc[0] == "2.0 ms"
    assert printed.iloc[1] == "90.2 ms"
    assert printed.iloc[2] == "3.5 ×"
    assert printed.loc["on disk"] == "27.6 MB"
    assert printed.loc["throughput, the best of 1, 2, 4… processes or threads"] == "432 texts/s"
    assert table["Aim"].iloc[2] == "≥ 1.5 ×"


def test_classes_are_shares_of_the_texts_of_each_class():
    rows = pd.DataFrame({"label": [0, 0, 1, 1, 1, 1], "predicted": [0, 3, 1, 0, 2, 1], "score": 0.5})
    rows = rows.assign(benchmark="deepset_test", system="guard", example_id=list("abcdef"), family="", variant="")
    table = classes_at_a_glance(metrics.confusion(rows)).set_index("Class")
    assert table["n"].tolist() == ["2", "4", "0", "0"]
    assert table.loc["benign"].tolist()[1:] == ["50.0", "0.0", "0.0", "50.0"]
    assert table.loc["direct injection"].tolist()[1:] == ["25.0", "50.0", "25.0", "0.0"]
    assert table.loc["jailbreak"].tolist()[1:] == ["–"] * 4
