"""The benchmarks themselves: one registered function each (see :mod:`guardlib.evaluation.benchmarks`).

A new one is a function that returns text, label, family, variant, lang and, where rows share an origin, ``base``.
Importing this package fills the registry, in the order of the tables.
"""

# ruff: noqa: F401, I001
from guardlib.evaluation.suites import public
from guardlib.evaluation.suites import hidden
from guardlib.evaluation.suites import over_defence
from guardlib.evaluation.suites import long_documents
from guardlib.evaluation.suites import robustness
from guardlib.evaluation.suites import pint
from guardlib.evaluation.suites import supplied
