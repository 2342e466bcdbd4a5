"""Early stopping: patience, least improvement, warm-up."""

from __future__ import annotations

import dataclasses

from guardlib.distillation.stopping import EarlyStopping


def feed(stopping: EarlyStopping, losses: list[float], first_step: int = 2000) -> int:
    """Evaluations until it stops, or all."""
    for number, loss in enumerate(losses, 1):
        stopping.update(loss, first_step + number)
        if stopping.stop:
            return number
    return len(losses)


def test_the_defaults_are_those_of_the_recipe():
    stopping = EarlyStopping()
    assert (stopping.patience, stopping.min_delta, stopping.warmup) == (20, 0.001, 1000)


def test_stops_after_twenty_without_improvement():
    assert feed(EarlyStopping(), [1.0] * 40) == 21  # the first is the best


def test_less_than_min_delta_is_no_improvement():
    assert feed(EarlyStopping(), [1.0 - 0.00001 * n for n in range(60)]) == 21
    assert feed(EarlyStopping(), [1.0 - 0.002 * n for n in range(60)]) == 60


def test_warm_up_does_not_count():
    """Thirty bad evaluations before step 1,000 stop nothing."""
    stopping = EarlyStopping()
    assert feed(stopping, [1.0] * 30, first_step=0) == 30
    assert stopping.bad == 0


def test_zero_is_endless():
    assert feed(EarlyStopping(patience=0), [1.0] * 100) == 100


def test_the_lowest_loss_is_kept_however_little_lower():
    """Patience counts what is worth the name; the last steps of a falling rate are worth little each, and all of it."""
    stopping = EarlyStopping(warmup=0)
    assert [stopping.update(loss, 1) for loss in (1.0, 0.9995, 0.9999, 0.9992)] == [True, True, False, True]
    assert stopping.bad == 3
    again = EarlyStopping(**dataclasses.asdict(stopping))
    assert not again.update(0.9993, 2)
