"""A verdict in two bytes, for logs, headers and links where a JSON answer is too long.

Bits, from the highest:

====== ===== ========= ==================================================================================
bits   width field     meaning
====== ===== ========= ==================================================================================
15     1     blocked   1: flagged
14–13  2     label     the class: benign 0, direct injection 1, jailbreak 2, obfuscation 3
12–8   5     family    the trick the deciding reading undid, an index into :data:`FAMILIES` (0: none);
                       22–30 are reserved for tricks to come
7–4    4     level     confidence in the verdict, in fifteenths, rounded
3      1     deep      1: the deep branch decided
2–0    3     place     where in the text it read's deciding window begins, in eighths
====== ===== ========= ==================================================================================

The family is also the view: both say which unfolding rule produced the text that decided. Every one of the 65,536
codes decodes and encodes back to itself. A guard never writes a reserved family, nor ``blocked`` unequal to
``label != benign`` (see :attr:`Response.consistent`). Torch-free.
"""

from __future__ import annotations

import json
import numbers
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from guardlib.labels import Label
from guardlib.text.views import ESCAPED_LETTERS, ESCAPES, RAW, WORD_ORDER

if TYPE_CHECKING:
    from guardlib.runtime.guard import Verdict

#: Names of views in code order. Append only: a code once written keeps its meaning.
FAMILIES = (
    RAW,
    "invisible",
    "lookalikes",
    "url",
    "hex",
    "base64",
    "spaced",
    "reversed",
    "reversed words",
    "rot13",
    "leet",
    WORD_ORDER,
    "deletions",
    "upside down",
    "accents",
    "binary",
    "base32",
    "morse",
    "scrambled",
    "structure",
    ESCAPES,
    ESCAPED_LETTERS,
)
OTHER_FAMILY = 31  # a view this table does not know yet

#: Field → width in bits, from the highest bit down.
LAYOUT = {"blocked": 1, "label": 2, "family": 5, "level": 4, "deep": 1, "place": 3}
LEVELS, PLACES = 2 ** LAYOUT["level"] - 1, 2 ** LAYOUT["place"]


@dataclass(frozen=True, slots=True)
class Response:
    """The fields of a 16-bit code as integers, each within its width (ValueError otherwise)."""

    blocked: int
    label: int
    family: int
    level: int
    deep: int
    place: int

    def __post_init__(self) -> None:
        for name, width in LAYOUT.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value < 1 << width:
                raise ValueError(
                    f"response field {name} is {value!r}; expected an integer from 0 to {(1 << width) - 1}"
                )

    @property
    def confidence(self) -> float:
        """Confidence in the verdict, within 1/30 of what the guard computed."""
        return self.level / LEVELS

    @property
    def route(self) -> str:
        """``fast`` or ``deep``."""
        return "deep" if self.deep else "fast"

    @property
    def view(self) -> str:
        """Name of the deciding view; ``reserved <n>`` for a family without a name."""
        return FAMILIES[self.family] if self.family < len(FAMILIES) else f"reserved {self.family}"

    @property
    def consistent(self) -> bool:
        """Whether a guard can have written it: a named or other family, and blocked exactly when an attack is named."""
        named = self.family < len(FAMILIES) or self.family == OTHER_FAMILY
        return named and bool(self.blocked) == (self.label != Label.BENIGN)


def encode(response: Response) -> int:
    """The 16-bit code of ``response``."""
    code = 0
    for name, width in LAYOUT.items():
        code = code << width | int(getattr(response, name))
    return code


def decode(code: int) -> Response:
    """Inverse of :func:`encode`. Raises ValueError for a number that is not 16 bits wide."""
    if not isinstance(code, numbers.Integral) or not 0 <= code < 1 << 16:
        raise ValueError(f"code is {code!r}; expected an integer from 0 to 65535")
    code, values = int(code), {}
    for name, width in reversed(LAYOUT.items()):
        values[name] = code & (1 << width) - 1
        code >>= width
    return Response(**{field.name: values[field.name] for field in fields(Response)})


def encode_verdict(
    flagged: bool, label: Label, confidence: float, route: str, view: str, start: int, characters: int
) -> int:
    """The code of a verdict; ``start`` is the deciding window's first character in a text of ``characters``."""
    return encode(
        Response(
            blocked=int(flagged),
            label=int(label),
            family=FAMILIES.index(view) if view in FAMILIES else OTHER_FAMILY,
            level=round(min(max(confidence, 0.0), 1.0) * LEVELS),
            deep=int(route == "deep"),
            place=min(PLACES * start // max(characters, 1), PLACES - 1),
        )
    )


def answer_sizes(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Mean bytes of an answer as 16-bit code, as compact JSON of the same fields, and as JSON of the whole verdict.

    Returns:
        ``n, code_bytes, json_bytes, verdict_json_bytes, saving`` (share of ``json_bytes`` that the code saves).

    Raises:
        ValueError: no verdicts.
    """
    if not verdicts:
        raise ValueError("answer_sizes got no verdicts; expected at least one")
    same, whole = [], []
    for verdict in verdicts:
        response = decode(verdict.code16)
        answer = asdict(response) | {"label": verdict.label.name.lower(), "family": response.view}
        same.append(len(json.dumps(answer, separators=(",", ":")).encode()))
        whole.append(
            len(json.dumps(verdict.to_dict(), separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace"))
        )
    mean = sum(same) / len(same)
    return {
        "n": len(verdicts),
        "code_bytes": 2,
        "json_bytes": mean,
        "verdict_json_bytes": sum(whole) / len(whole),
        "saving": 1 - 2 / mean,
    }
