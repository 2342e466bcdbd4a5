"""Alphabets that hide plain text: Morse code, letters turned upside down and letters in ornament. Torch-free."""

from __future__ import annotations

#: ITU-R M.1677-1, section 1.1: letters, figures, punctuation.
MORSE = {
    "a": ".-", "b": "-...", "c": "-.-.", "d": "-..", "e": ".", "f": "..-.", "g": "--.", "h": "....", "i": "..",
    "j": ".---", "k": "-.-", "l": ".-..", "m": "--", "n": "-.", "o": "---", "p": ".--.", "q": "--.-", "r": ".-.",
    "s": "...", "t": "-", "u": "..-", "v": "...-", "w": ".--", "x": "-..-", "y": "-.--", "z": "--..",
    "0": "-----", "1": ".----", "2": "..---", "3": "...--", "4": "....-", "5": ".....", "6": "-....", "7": "--...",
    "8": "---..", "9": "----.", ".": ".-.-.-", ",": "--..--", ":": "---...", "?": "..--..", "'": ".----.",
    "-": "-....-", "/": "-..-.", "(": "-.--.", ")": "-.--.-", '"': ".-..-.", "=": "-...-", "+": ".-.-.", "@": ".--.-.",
}  # fmt: skip
FROM_MORSE = {code: char for char, code in MORSE.items()}

#: Lower-case letter or mark → the character that looks like it turned by half a circle.
UPSIDE_DOWN = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz.,?!'_",
        "ɐqɔpǝɟƃɥᴉɾʞlɯuodbɹsʇnʌʍxʎz˙'¿¡,‾",
        strict=True,
    )
)
#: The other way; some of these are ordinary letters (q, u), so it is for text known to be turned.
FROM_UPSIDE_DOWN = {turned: char for char, turned in UPSIDE_DOWN.items()}
#: Letters that give a turned text away.
TURNED_LETTERS = frozenset(turned for turned in UPSIDE_DOWN.values() if not turned.isascii() and turned.isalpha())

#: Capitals as small as other letters → the letter. Q and X have none; phonetic script has some of them.
SMALL_CAPITALS = dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnoprstuvwyz", strict=True))
#: Letters in circles, squares, parentheses and flags that Unicode's own folding (NFKC) does not make one letter: first
#: code point of twenty-six → the letter.
_ORNAMENTS = {0x1F110: "A", 0x1F150: "A", 0x1F170: "A", 0x1F1E6: "A", 0x249C: "a"}
ORNAMENTS = SMALL_CAPITALS | {
    chr(first + place): chr(ord(letter) + place) for first, letter in _ORNAMENTS.items() for place in range(26)
}


def from_morse(code: str) -> str:
    """Letters apart by a space, words by ``/``, ``|``, a new line or three spaces; ValueError for what is no letter."""
    code = code.translate(str.maketrans("·•∙−–—_|\n", "...----//"))
    words = [word.split() for word in code.replace("   ", "/").split("/")]
    try:
        return " ".join("".join(FROM_MORSE[sign] for sign in word) for word in words if word)
    except KeyError as error:
        raise ValueError(f"{error} is no letter in Morse code") from None


def turn(text: str) -> str:
    """Lower-case ``text`` upside down, last character first; what has no turned form stays."""
    return "".join(UPSIDE_DOWN.get(char, char) for char in reversed(text))


def turn_back(text: str) -> str:
    """Undo :func:`turn`."""
    return "".join(FROM_UPSIDE_DOWN.get(char, char) for char in reversed(text))
