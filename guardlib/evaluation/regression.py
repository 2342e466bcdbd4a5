"""Logistic regression that has converged."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression


def fit_logistic_regression(strength: float, features, labels: np.ndarray) -> LogisticRegression:
    """Multinomial logistic regression with an L2 penalty of 1 / ``strength``.

    Raises:
        RuntimeError: the fit did not converge.
    """
    model = LogisticRegression(C=strength, tol=1e-3, max_iter=2000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return model.fit(features, labels)
        except ConvergenceWarning as warning:
            raise RuntimeError(f"logistic regression at C = {strength:g} did not converge: {warning}") from None
