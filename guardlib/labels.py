"""The four classes, the record every source is turned into, and the columns later stages rely on."""

from __future__ import annotations

from enum import IntEnum


class Label(IntEnum):
    """What a text does to the instructions of the model that will read it.

    ``OBFUSCATION`` is an attack whose words are hidden by an encoding or a character trick; benign text under
    the same trick stays ``BENIGN``.
    """

    BENIGN = 0
    DIRECT_INJECTION = 1
    JAILBREAK = 2
    OBFUSCATION = 3


NUM_CLASSES = len(Label)
LABEL_NAMES = tuple(label.name.lower() for label in Label)

#: Family of plain harmful questions: they attack nobody's instructions, so a policy decides what becomes of them.
HARMFUL_REQUEST = "harmful_request"

#: What ``lang`` is of texts in English, or in a language nobody named.
ENGLISH = ("en", "")

RECORD_COLUMNS = ("text", "label", "source", "family", "group", "lang", "split")
BENCHMARK_COLUMNS = ("benchmark", "example_id", "text", "label", "family", "variant", "lang", "group")
SCORE_COLUMNS = (
    "benchmark",
    "system",
    "example_id",
    "label",
    "family",
    "variant",
    "score",
    "predicted",
    "route",
    "seconds",
)
