"""Plain text in a code that many models read."""

from __future__ import annotations

import base64
import codecs
import re
from urllib.parse import unquote_to_bytes

import numpy as np

from guardlib.data.attacks.registry import NO_SURROGATES, attack, encodable
from guardlib.text.alphabets import MORSE, from_morse

_JAILBROKEN = "as a jailbreak: Wei et al. 2023, Jailbroken, arXiv 2307.02483"
_CIPHERS = "as a jailbreak: Yuan et al. 2024, GPT-4 Is Too Smart To Be Safe (CipherChat), arXiv 2308.06463"
_LEAST_CODED = 0.9  # share of the characters that Morse code must have; other text stays as it is


def from_base64(text: str) -> str:
    """The text that ``text`` encodes; ValueError where it is not base64 of UTF-8."""
    return base64.b64decode(text.encode("ascii"), validate=True).decode()


@attack(
    "base64", "encoding", f"RFC 4648 §4; {_JAILBROKEN}",
    inverse=from_base64, domain=NO_SURROGATES, in_domain=encodable,
)  # fmt: skip
def to_base64(text: str, rng: np.random.Generator) -> str:
    """Base64 of the UTF-8 bytes, standard alphabet, padded."""
    return base64.b64encode(text.encode()).decode("ascii")


def from_base32(text: str) -> str:
    """The text that ``text`` encodes; ValueError where it is not base32 of UTF-8."""
    return base64.b32decode(text.encode("ascii")).decode()


@attack(
    "base32", "encoding", f"RFC 4648 §6; {_JAILBROKEN}",
    inverse=from_base32, domain=NO_SURROGATES, in_domain=encodable,
)  # fmt: skip
def to_base32(text: str, rng: np.random.Generator) -> str:
    """Base32 of the UTF-8 bytes, padded."""
    return base64.b32encode(text.encode()).decode("ascii")


def from_hex(text: str) -> str:
    """The text whose UTF-8 bytes ``text`` spells; ValueError where it spells none."""
    return bytes.fromhex(text).decode()


@attack("hex", "encoding", f"RFC 4648 §8; {_JAILBROKEN}", inverse=from_hex, domain=NO_SURROGATES, in_domain=encodable)
def to_hex(text: str, rng: np.random.Generator) -> str:
    """Two hexadecimal digits per UTF-8 byte, with or without spaces between the bytes."""
    return text.encode().hex(" ") if rng.random() < 0.3 else text.encode().hex()


def from_url(text: str) -> str:
    """The text whose UTF-8 bytes ``text`` escapes; ValueError where it is anything but escapes."""
    if not re.fullmatch("(?:%[0-9A-Fa-f]{2})*", text):
        raise ValueError("not a sequence of % escapes")
    return unquote_to_bytes(text).decode()


@attack("url", "encoding", f"RFC 3986 §2.1; {_JAILBROKEN}", inverse=from_url, domain=NO_SURROGATES, in_domain=encodable)
def to_url(text: str, rng: np.random.Generator) -> str:
    """Each UTF-8 byte as a % escape."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


@attack("rot13", "encoding", f"Caesar's cipher by 13; {_JAILBROKEN}", inverse=lambda text: codecs.decode(text, "rot13"))
def to_rot13(text: str, rng: np.random.Generator) -> str:
    """Latin letters thirteen places on."""
    return codecs.encode(text, "rot13")


@attack(
    "morse", "encoding", f"ITU-R M.1677-1; {_CIPHERS}", inverse=from_morse,
    domain="words of lower-case letters, digits and common marks, one space between them",
    in_domain=lambda text: text == " ".join(text.split()) and all(char in MORSE or char == " " for char in text),
)  # fmt: skip
def to_morse(text: str, rng: np.random.Generator) -> str:
    """Letters apart by a space, words by a slash; what has no code is left out. Other scripts stay as they are."""
    words = [[MORSE[char] for char in word if char in MORSE] for word in text.lower().split()]
    signs = [char for char in text.lower() if not char.isspace()]
    if sum(char in MORSE for char in signs) < max(1, _LEAST_CODED * len(signs)):
        return text
    return " / ".join(" ".join(word) for word in words if word)


def from_binary(text: str) -> str:
    """The text whose UTF-8 bytes ``text`` spells in bits; ValueError where it is anything else."""
    if not re.fullmatch("(?:[01]{8}(?: [01]{8})*)?", text):
        raise ValueError("not bytes in bits")
    return bytes(int(byte, 2) for byte in text.split()).decode()


@attack(
    "binary", "encoding", f"UTF-8 in bits; {_CIPHERS}", inverse=from_binary, domain=NO_SURROGATES, in_domain=encodable
)
def to_binary(text: str, rng: np.random.Generator) -> str:
    """Eight bits per UTF-8 byte, a space between bytes."""
    return " ".join(f"{byte:08b}" for byte in text.encode())


def from_unicode_escapes(text: str) -> str:
    """The text that ``text`` escapes; ValueError where it is anything but escapes."""
    if not re.fullmatch(r"(?:\\u[0-9a-f]{4})*", text):
        raise ValueError("not a sequence of \\u escapes")
    return bytes.fromhex(text.replace("\\u", "")).decode("utf-16-be")


@attack(
    "unicode_escapes", "encoding", f"RFC 8259 §7; {_CIPHERS}",
    inverse=from_unicode_escapes, domain=NO_SURROGATES, in_domain=encodable,
)  # fmt: skip
def to_unicode_escapes(text: str, rng: np.random.Generator) -> str:
    r"""``\u`` and four hexadecimal digits for each UTF-16 unit."""
    units = text.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def from_html_references(text: str) -> str:
    """The text whose characters ``text`` refers to; ValueError where it does anything but refer to them."""
    if not re.fullmatch("(?:&#(?:x[0-9a-f]{1,6}|[0-9]{1,7});)*", text):
        raise ValueError("not a sequence of numeric character references")
    numbers = re.findall("&#(?:x([0-9a-f]+)|([0-9]+));", text)
    return "".join(chr(int(base16, 16) if base16 else int(base10)) for base16, base10 in numbers)


@attack(
    "html_references", "encoding", f"HTML, numeric character references; {_JAILBROKEN}", inverse=from_html_references
)
def to_html_references(text: str, rng: np.random.Generator) -> str:
    """``&#`` and the number of each character, decimal or hexadecimal throughout."""
    form = "&#{:d};" if rng.random() < 0.5 else "&#x{:x};"
    return "".join(form.format(ord(char)) for char in text)
