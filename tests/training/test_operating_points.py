from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from guardlib.model.build import Guardrail, load_guardrail
from guardlib.model.inference import Calibration, WindowScores, decide, score_windows, softmax
from guardlib.model.router import Router, uncertainty
from guardlib.report.provenance import discard_checkpoints
from guardlib.text.reading import Window
from guardlib.text.views import RAW, View
from guardlib.training.operating_points import calibrate, finish_training, fit_router
from tests.helpers import TINY, make_frame, make_model, make_profile, make_reader, pruned


def made_up_scores(n: int = 400) -> tuple[WindowScores, np.ndarray]:
    """The deep branch is always right, the fast one as often as it says; the learnt logit is noise."""
    rng = np.random.default_rng(0)
    guess = np.eye(4)[rng.integers(0, 4, n)]
    fast = guess * rng.uniform(0, 6, n)[:, None] + rng.normal(0, 0.3, (n, 4))
    labels = np.array([rng.choice(4, p=p) for p in softmax(fast)])
    right = np.eye(4)[labels]
    windows = [Window(i, View(RAW, "", False), None, 0, 0) for i in range(n)]
    noise = rng.normal(0, 5, n)
    return WindowScores(windows, *(x.astype(np.float32) for x in (fast, right * 9, noise)), n, 0.0), labels


def test_the_fit_finds_what_foretells_the_gain():
    scores, labels = made_up_scores()
    router = Router(8, 4, use_entropy=True)
    fitted = fit_router(router, scores, labels)
    entropy = uncertainty(torch.from_numpy(scores.fast_logits))[:, 0].numpy()
    assert np.corrcoef(scores.router, entropy)[0, 1] < 0.2
    assert np.corrcoef(fitted.router, entropy)[0, 1] > 0.9
    assert fitted.router.std() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_where_nothing_foretells_a_gain_the_learnt_logit_stays(seed):
    scores, labels = made_up_scores()
    labels = np.random.default_rng(seed).permutation(labels)  # now neither branch knows more where it says so
    chance = np.random.default_rng(seed + 9).permutation(scores.deep_logits)
    scores = dataclasses.replace(scores, deep_logits=chance, fast_logits=chance[::-1].copy())
    router = Router(8, 4, use_entropy=True)
    fitted = fit_router(router, scores, labels)
    np.testing.assert_array_equal(fitted.router, scores.router)
    assert router.mix.tolist() == [1.0, 0.0, 0.0]


def test_only_checkpoints_are_discarded(tmp_path):
    for run in (tmp_path, tmp_path / "seed_1"):
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints" / "last.safetensors").write_bytes(b"weights")
        (run / "history.csv").write_text("step\n1\n")
    discard_checkpoints(tmp_path)
    assert not list(tmp_path.rglob("checkpoints"))
    assert len(list(tmp_path.rglob("history.csv"))) == 2


def benign_texts(texts: int, windows: int, rng: np.random.Generator) -> WindowScores:
    """Benign texts of ``windows`` windows whose attack logits have an exponential tail of scale 0.8."""
    attack = rng.exponential(0.8, texts * windows) - 6
    logits = np.zeros((texts * windows, 4), np.float32)
    logits[:, 1] = attack
    logits[:, 2:] = -30
    cut = [Window(i // windows, View(RAW, "", False), None, 0, 0) for i in range(texts * windows)]
    return WindowScores(cut, logits, logits, rng.normal(size=len(cut)).astype(np.float32), texts, 0.0)


def test_the_length_discount_weighs_false_alarms_against_what_is_missed():
    rng = np.random.default_rng(0)
    short, long = benign_texts(2000, 1, rng), benign_texts(400, 16, rng)
    labels = np.zeros(2400, np.int64)
    labels[:600] = labels[-120:] = 1
    for scores in (short, long):
        scores.fast_logits[:, 1] += 3
    short.fast_logits[:600, 1] = rng.normal(3, 1, 600)
    long.fast_logits[280 * 16 :: 16, 1] = rng.normal(3, 1, 120)  # one window of each attack says so
    windows = [*short.windows, *(dataclasses.replace(window, text=2000 + window.text) for window in long.windows)]
    logits = np.concatenate([short.fast_logits, long.fast_logits])
    both = WindowScores(windows, logits, logits, np.concatenate([short.router, long.router]), 2400, 0.0)
    fitted = calibrate(both, labels, make_profile())

    def loss(discount: float) -> float:
        p = decide(both, dataclasses.replace(fitted, length_discount=discount)).probabilities[:, 0].astype(float)
        return -float(np.log(np.where(labels == 0, p, 1 - p).clip(1e-6)).mean())

    assert 0.1 < fitted.length_discount < 1.9
    best = loss(fitted.length_discount)
    assert best < min(loss(0.0), loss(2.0)) - 1e-3
    assert all(best <= loss(fitted.length_discount + step) + 1e-4 for step in (-0.05, 0.05))


def test_no_discount_is_learnt_where_every_text_is_one_window():
    scores, labels = made_up_scores()
    assert calibrate(scores, labels, make_profile()).length_discount == 0


@pytest.fixture
def guardrail(tmp_path):
    (tmp_path / "tokenizer.json").write_text(pruned()[0], encoding="utf-8")
    return Guardrail(make_model(), make_reader(), Calibration())


def test_the_model_gives_the_routing_scores_that_were_fitted(guardrail, tmp_path):
    unsure = dataclasses.replace(TINY, ngram_weight=0.1)  # sure of all it was fitted on, it would have none to defer
    guardrail = dataclasses.replace(guardrail, model=make_model(unsure))
    with torch.no_grad():  # a fast head that is wrong at times, and where it is, unsure
        guardrail.model.front.head.dense.weight.normal_(std=0.2)
        guardrail.model.front.head.out.weight.normal_(std=0.03)
    frame, profile = make_frame(100), make_profile(unsure)
    finished, rows = finish_training(guardrail, frame, frame, profile, tmp_path)
    mix = finished.model.front.router.mix.clone()
    assert mix.tolist() != [1.0, 0.0, 0.0]
    loaded = load_guardrail(tmp_path, unsure)
    loaded.model.cpu()  # as the one it is compared with
    again = score_windows(loaded.model, loaded.reader, frame["text"].tolist(), 4096)
    np.testing.assert_allclose(np.sort(again.router), np.sort(rows["router"]), rtol=1e-5)
    finish_training(guardrail, frame, frame, profile, tmp_path)
    torch.testing.assert_close(guardrail.model.front.router.mix, mix)


def test_a_fixed_routing_threshold_is_one_of_the_learnt_logit(guardrail, tmp_path):
    profile = make_profile()
    profile = dataclasses.replace(profile, model=dataclasses.replace(profile.model, router_threshold=0.3))
    with pytest.warns(UserWarning, match=r"router_threshold=0\.3: the router sends 100\.0% of texts deep"):
        finished, _ = finish_training(guardrail, make_frame(60), make_frame(60), profile, tmp_path)
    assert finished.model.front.router.mix.tolist() == [1.0, 0.0, 0.0]
    assert finished.calibration.router_threshold == pytest.approx(np.log(0.3 / 0.7))
