"""Guards taught by guards."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from guardlib.config import DistillationConfig
from guardlib.distillation import guards
from guardlib.distillation.errors import DistillationError, PairError
from guardlib.distillation.guard_teachers import Ensemble, HubClassifier, class_columns
from guardlib.distillation.guards import Guidance, effect, fold, measure, rate, student_shape
from guardlib.evaluation.routing import RouterCollapse
from guardlib.labels import LABEL_NAMES
from guardlib.model.backbone import find_backbone
from guardlib.model.build import Guardrail
from guardlib.model.inference import Calibration, to_tensors
from guardlib.model.transformer import POOLED
from guardlib.training.examples import Epoch
from guardlib.training.trainer import train
from tests.evaluation.rows import benchmark_rows
from tests.helpers import TINY, make_frame, make_model, make_profile, make_reader

CONFIG = DistillationConfig()


def test_an_ensemble_is_the_mean_of_its_probabilities():
    guards = [make_model(seed=seed) for seed in range(3)]
    batch = Epoch(make_frame(), make_reader(), make_profile().training, seed=0, epoch=0)[0]
    judged = Ensemble(guards).judge(batch, [])
    single = [Ensemble([guard]).judge(batch, []).logits.softmax(-1) for guard in guards]
    assert torch.allclose(judged.logits.softmax(-1), torch.stack(single).mean(0), atol=1e-5)
    assert judged.features.shape == (len(batch.rows), 3 * POOLED * TINY.d_model)
    with pytest.raises(PairError, match="ensemble of 0 guards"):
        Ensemble([])


@pytest.mark.parametrize(
    ("names", "benign", "expected"),
    [
        (("SAFE", "INJECTION"), None, [0, 1]),
        (("INJECTION", "Benign"), None, [1, 0]),
        (("LABEL_0", "LABEL_1"), "LABEL_1", [1, 0]),
        (tuple(reversed(LABEL_NAMES)), None, [3, 2, 1, 0]),
        (("injection", "safe", "jailbreak"), None, [1, 0, 2]),
    ],
)
def test_classes_of_a_hub_classifier(names, benign, expected):
    assert class_columns(dict(enumerate(names)), benign, "x") == expected


@pytest.mark.parametrize("names", [("LABEL_0", "LABEL_1"), ("a", "b", "c"), ("safe", "benign"), ("safe",)])
def test_classes_that_say_nothing_are_refused(names):
    with pytest.raises(PairError, match=r"classifier x has the classes .*benign=…"):
        class_columns(dict(enumerate(names)), None, "x")


def test_attacks_fold_into_one_class():
    """Probabilities add up."""
    logits = torch.randn(5, 4)
    folded = fold(logits, 2).softmax(-1)
    assert torch.allclose(folded[:, 1], logits.softmax(-1)[:, 1:].sum(-1), atol=1e-6)
    assert fold(logits, 4) is logits


def test_a_taught_guard_comes_nearer_to_its_teacher(tmp_path):
    """Through the ordinary trainer; the projection is gone afterwards and the teacher untouched."""
    frame, reader = make_frame(), make_reader()
    ensemble = Ensemble([make_model(seed=seed) for seed in (7, 8)])
    for guard in ensemble.guards:  # random teachers have hardly an opinion
        torch.nn.init.normal_(guard.deep.head.out.weight, std=1.0)
    before = {name: tensor.clone() for name, tensor in ensemble.guards[0].state_dict().items()}
    batch = Epoch(frame, reader, make_profile().training, seed=5, epoch=0)[0]
    distances = []
    for weight in (0.0, 5.0):
        student = make_model()
        config = DistillationConfig(guard_weight=weight)
        with Guidance(student, ensemble, frame["text"], config) as guidance:
            train(student, reader, frame, frame, make_profile(), tmp_path / str(weight), False, guidance)
        assert not hasattr(student, "guidance")
        ours, theirs = Ensemble([student]).judge(batch, []).logits, ensemble.judge(batch, []).logits
        distances.append(float((ours.softmax(-1) - theirs.softmax(-1)).abs().mean()))
    assert distances[1] < distances[0]
    after = ensemble.guards[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_students_are_smaller():
    small = student_shape(TINY)
    assert (small.stem_layers, small.deep_layers, small.num_experts) == (1, 1, 2)


def test_effect_is_paired_by_seed():
    rows = [
        {"benchmark": name, "system": system, "seed": seed, "auroc": 0.8 + 0.05 * seed + gain, "tpr": tpr, "fpr": 0.01}
        for seed in range(3)
        for system, gain in (("alone", 0.0), ("taught", 0.02))
        for name, tpr in (("all", 0.5), ("benign alone", np.nan))
    ]
    table = effect(pd.DataFrame(rows)).set_index(["benchmark", "metric"])
    assert table.loc[("all", "auroc"), "difference"] == pytest.approx(0.02)
    assert np.isclose(table.loc[("all", "auroc"), "low"], 0.02)
    assert ("all", "tpr") in table.index
    assert ("benign alone", "tpr") not in table.index  # it has no attacks


def test_rates_of_each_benchmark_add_up_to_those_of_all():
    guardrail = Guardrail(make_model(), make_reader(), Calibration(threshold_at_fpr=0.4))
    asked = pd.concat([benchmark_rows(30, 0, "both"), benchmark_rows(12, 1, "benign").assign(label=0)])
    table = pd.DataFrame(rate(guardrail, asked, make_profile())).set_index("benchmark")
    assert list(table.index) == ["all", "both", "benign"]
    assert table.loc["benign", ["auroc", "tpr"]].isna().all()
    assert table.loc["all", "n_neg"] == table.loc[["both", "benign"], "n_neg"].sum()
    alarms = (table["fpr"] * table["n_neg"]).round()
    assert alarms["all"] == alarms["both"] + alarms["benign"]


def test_a_sequence_classifier_of_a_folder_can_teach(tmp_path):
    names = {0: "INJECTION", 1: "SAFE"}
    config = BertConfig(
        vocab_size=30522, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        id2label=names, label2id={name: at for at, name in names.items()},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(find_backbone().tokenizer)), pad_token="[PAD]"
    ).save_pretrained(tmp_path)
    frame = make_frame()
    teacher, batch = (
        HubClassifier(str(tmp_path)),
        Epoch(frame, make_reader(), make_profile().training, seed=0, epoch=0)[0],
    )
    texts = frame["text"].iloc[batch.rows].tolist()
    judged = teacher.judge(batch, texts)
    assert judged.logits.shape == (len(batch.rows), 2)
    assert judged.features.shape == (len(batch.rows), teacher.features)
    own = teacher.model(**teacher.tokenizer(texts[:1], return_tensors="pt")).logits[0]
    assert torch.allclose(judged.logits[0], own.flip(0), atol=1e-4)  # benign first
    student = make_model()
    with Guidance(student, teacher, frame["text"], CONFIG) as guidance:
        loss = guidance(batch, student(*to_tensors(batch.inputs, torch.device("cpu"))), 1.0)
    assert loss.isfinite()
    row = guidance.rows[0]
    assert {f"{kind}_{part}" for kind in ("raw", "weighted") for part in ("kd", "feature", "contrastive")} < row.keys()
    assert loss.item() == pytest.approx(sum(value for name, value in row.items() if name.startswith("weighted_")))
    nowhere = judged._replace(logits=judged.logits * torch.nan)
    unsound = SimpleNamespace(judge=lambda *_: nowhere, features=teacher.features)
    with (
        Guidance(student, unsound, frame["text"], CONFIG) as guidance,
        pytest.raises(DistillationError, match=r"'kd'.*nan"),
    ):
        guidance(batch, student(*to_tensors(batch.inputs, torch.device("cpu"))), 0.5)
    teacher.columns = [1, 0, 0]  # as of two kinds of attack
    three, logits = teacher.judge(batch, texts).logits, judged.logits
    assert three.shape == logits.shape
    assert torch.allclose(three[:, 1], logits[:, 1] + math.log(2), atol=1e-4)
    with pytest.raises(PairError, match=r"cannot be loaded|is no folder"):
        HubClassifier(str(tmp_path / "nothing"))


@pytest.fixture
def measured(tmp_path):
    """The rows of guards of seconds; keywords are settings."""
    frames = make_frame(60), make_frame(40, seed=1)

    def call(**settings):
        config = dataclasses.replace(CONFIG, guard_tokens=300, guard_rows=60, seeds=2, **settings)
        profile = dataclasses.replace(make_profile(dataclasses.replace(TINY, vocab_size=3000)), distillation=config)
        return measure(*frames, benchmark_rows(16), profile, tmp_path, False)

    return call


def test_finished_guards_are_not_trained_again_and_teachers_come_back(measured, monkeypatch):
    monkeypatch.setattr(guards, "TEACHERS", 1)
    monkeypatch.setattr("guardlib.training.trainer.check_collapse", lambda *_, **__: None)  # too short to route
    first = measured()
    found = list(dict.fromkeys(zip(first["system"], first["seed"], strict=True)))
    assert found == [("alone", 0), ("taught", 0), ("alone", 1), ("taught", 1)]
    monkeypatch.setattr("guardlib.training.trainer._Run._step", lambda self: pytest.fail("it was trained again"))
    pd.testing.assert_frame_equal(measured(), first)


def untrained(monkeypatch, *collapsing: str):
    """Guards stay as they are built; those in the folders ``collapsing`` end as a collapsed router does."""

    def call(*arguments, **_):
        if arguments[5].name in collapsing:
            raise RouterCollapse("the router sends 100 % of texts deep")

    monkeypatch.setattr(guards, "train", call)


def test_a_collapsed_router_costs_its_seed_or_its_place_among_the_teachers(measured, monkeypatch):
    """The others go on, and what is left is paired."""
    untrained(monkeypatch, "teacher_0", "taught_1")
    taught_by = []
    monkeypatch.setattr(guards, "Ensemble", lambda models: taught_by.extend(models) or Ensemble(models))
    with pytest.warns(UserWarning, match="100 % of texts deep") as caught:
        rows = measured()
    said = [str(warning.message).partition(":")[0] for warning in caught if "texts deep" in str(warning.message)]
    assert said == ["teacher 0 is left out", "seed 1 has no figures, alone or taught"]
    assert len(taught_by) == guards.TEACHERS - 1
    assert set(zip(rows["system"], rows["seed"], strict=True)) == {("alone", 0), ("taught", 0)}
    assert effect(rows).set_index(["benchmark", "metric"]).loc[("all", "auroc"), "seeds"] == 1


@pytest.mark.parametrize(
    ("collapsing", "words"),
    [
        (("teacher_0", "teacher_1", "teacher_2"), "3 of 3 teachers are left out; expected one at least"),
        (("alone_0", "taught_1"), r"2 of 2 seeds have no figures; .* -p distillation\.guard_tokens=600"),
    ],
)
@pytest.mark.filterwarnings("ignore:teacher", "ignore:seed")
def test_nothing_left_to_compare_is_an_error(measured, monkeypatch, collapsing, words):
    untrained(monkeypatch, *collapsing)
    with pytest.raises(DistillationError, match=words):
        measured()
