"""Canonical views: a text unfolded into what it hides.

Each rule undoes one trick. A rule's result counts only where it *reads as language* and the text before it did not
(or where it merely removes characters nobody sees, or escapes), so ordinary text has exactly one view: itself. An
unfolded text replaces what it was unfolded from; the model is told by a marker that it had been hidden. Benign text can
be folded too: a view says what is read, never what to think of it.

Every pattern here is linear: none has two ways to match the same characters.

Torch-free: the released guard runs this file.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass

from guardlib.text.alphabets import TURNED_LETTERS, turn_back
from guardlib.text.decoders import (
    apply_deletions,
    from_base32,
    from_base64,
    from_binary,
    from_hex,
    from_leet,
    from_morse_code,
    from_url,
    from_word_structure,
    is_writing,
)
from guardlib.text.escapes import from_escapes
from guardlib.text.invisible import INVISIBLE, strip_invisible
from guardlib.text.letters import is_disguise, plain_letter, to_latin, without_marks, without_ornament
from guardlib.text.scrambled import Unscrambler
from guardlib.text.spacing import join_letters, split_cases, split_words
from guardlib.text.word_order import WordOrder, reverse_order

RAW = "raw"
ESCAPES, ESCAPED_LETTERS = "escapes", "escaped letters"
WORD_ORDER = "word order"
_OPEN = (RAW, ESCAPES)  # views of text that nobody hid
#: A view must read this much better than what it was unfolded from, and this well. Shares of words known.
READABLE, GAIN = 0.5, 0.3
_EVIDENCE = 2  # known words that a view must hold; one alone is chance
_UNREAD, _KNOWN_COSTS, _ENDS_RUN = 6, 2, 4  # unknown words less twice the known ones among them make a run
_UNKNOWN_RUN = 5  # as many unknown ones in a sentence
_PLAIN_RUN = 4  # known words in a row that are no chance: "ignore all previous instructions"
_INSPECTED = 4000  # characters looked at to decide whether a text reads as language; keeps the decision O(1)

# Shorter words are left out: two letters are a word by chance in any code. Digits count: "pr3v10u5" is one word.
_WORD = re.compile(r"[^\W_]{3,}")
_NOT_ASCII = re.compile(r"(?<![^\W\d_])[A-Za-z]*[^\W\d_A-Za-z][^\W\d_]*")  # words that are not so throughout
_TURNED = re.compile(f"[{''.join(sorted(TURNED_LETTERS))}]")
_IN_A_SENTENCE = re.compile(r"(?:[\s,'’-]|(?<![^\W\d_])[^\W\d_]{1,2}(?![^\W\d_]))*")  # between words of three letters
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(
    r"(?<![0-9A-Za-z])(?:0x)?(?:[0-9a-fA-F]{2}){10,}[0-9a-fA-F]?(?![0-9A-Za-z])"  # 48656c6c6f…, a digit too many
    r"|(?<![0-9A-Za-z])[0-9a-fA-F]{2}(?:[\s:,.-]{1,2}[0-9a-fA-F]{2}){9,}(?![0-9A-Za-z])"  # 48 65 6c 6c 6f…
    r"|(?:(?:\\|0)x[0-9a-fA-F]{2}[\s,]{0,2}){10,}"  # \x48\x65… or 0x48, 0x65…
)
_BASE32 = re.compile(r"(?<![A-Za-z0-9])[A-Z2-7]{16,}={0,6}(?![A-Za-z0-9])")
_BINARY = re.compile(r"(?<![01])[01]{8}(?:[\s,:-]{0,2}[01]{8}){5,}[01]{0,7}(?![01])")
#: Codes of bytes within a text: rule, pattern, what a match spells.
CODES: tuple[tuple[str, re.Pattern[str], Callable[[str], str | None]], ...] = (
    ("binary", _BINARY, from_binary),
    ("hex", _HEX, from_hex),
    ("base32", _BASE32, from_base32),
    ("base64", _BASE64, from_base64),
)
_MORSE = re.compile(r"[.\-·•∙−–—_/|\s]{20,}")
_MIN_TURNED = 4  # turned letters that make a disguise; phonetic script has some of them
_MIN_MARKED = 0.4  # share of letters with a mark; no language writes so many
#: Backspaces that take more than a slip of the finger does.
_DELETIONS, _MANY_DELETIONS = re.compile("[\b\x7f]+"), re.compile("[\b\x7f]{3}")
#: Escaped ASCII letters, which no browser writes (RFC 3986, section 2.3).
_ESCAPED_LETTER = re.compile("%(?:[46][1-9A-Fa-f]|[57][0-9Aa])")
_MIN_ESCAPED = 3
_MAY_BE_ESCAPED = re.compile(r"\\[uUx]|&[#a-zA-Z]")
#: These two differ in the order of the words alone.
_REVERSALS = ("reversed", "reversed words")
#: Where a text within a text may stand: in quotes, after a colon, on a line of its own.
_INNER = re.compile(r""""[^"\n]*"|“[^“”\n]*”|`[^`\n]*`|(?<=: )[^\n:"“`]{12,}$|^[^\n:"“`]{12,}$""", re.MULTILINE)
_MIN_INNER = 12  # characters; shorter quotes are read over, but pair their marks
#: Where that finds nothing: a mark may have been one of inches.
_UNPAIRED = re.compile(r""""[^"\n]{12,}"|`[^`\n]{12,}`""")
_SENTENCE_END = re.compile(r"(?<=[.!?。])\s+")
_INNER_MARKS = re.compile('[\n:"“`]')
#: A line that has one of these inside, where nothing above is hidden.
_LINE = re.compile(r"""^(?=[^\n]*[:"“`])[^\n]{12,}$""", re.MULTILINE)
_INNER_RULES = (*_REVERSALS, "rot13")
_INNER_EVIDENCE = 3  # there are many lines in a text, and each is a chance to be wrong
_QUOTES = '"“”`'
_MIN_QUOTED = 6  # words whose order can be told
_SPACED = re.compile(r"(?<![^\W_])[^\W_](?:[\W_]{1,4}[^\W_](?![^\W_])){4,}")
#: More letters than a word has; capitals inside are a name in a program.
_RUN_TOGETHER = re.compile(r"(?<![^\W_])(?:[A-Z]?[a-z]{24,}|[A-Z]{25,})(?![^\W_])")
_ENDLESS = re.compile(r"(?<![^\W_])[^\W_]{101,}(?![^\W_])")  # longer than any name; word pieces end at 100
_MOST_NESTED = 3  # codes within one another


@dataclass(frozen=True, slots=True)
class View:
    """One reading of a text: the rule that unfolded it (``raw``: none) and whether it had been hidden."""

    name: str
    text: str
    hidden: bool


class Unfolder:
    """Finds the views of a text.

    ``words`` are the words that count as readable (lower case); ``lookalikes`` maps a character to the Latin letter
    it can pass for (:func:`guardlib.text.lookalikes.latin_lookalikes`); ``order`` tells which way round words run. The
    released guard carries all three with it.
    """

    def __init__(self, words: frozenset[str], lookalikes: dict[str, str], order: WordOrder) -> None:
        self._words = words
        self.lookalikes = lookalikes
        self.order = order
        self._segments: tuple[tuple[str, re.Pattern[str], Callable[[str], str | None]], ...] = (
            ("url", re.compile(r"\S+"), from_url),
            *CODES,
            ("morse", _MORSE, from_morse_code),
            ("spaced", _SPACED, lambda run: join_letters(run, self._words, self._reads_better)),
            ("spaced", _RUN_TOGETHER, lambda run: split_words(run, self._words)),
            ("spaced", _ENDLESS, lambda run: split_cases(run, self._words)),
        )
        self._on_characters: tuple[tuple[str, Callable[[str], str]], ...] = (
            ("invisible", self._strip_invisible),
            ("upside down", self._turn_back),
            ("accents", self._strip_accents),
            ("lookalikes", self._map_lookalikes),
        )

        self._on_whole_text = _WHOLE_TEXT | {"scrambled": Unscrambler(words)}

    def readability(self, text: str) -> float:
        """Share of the words of ``text`` (three letters or more, first 4,000 characters) that are known, else 0."""
        known, total = self._count_words(text)
        return known / total if total else 0.0

    def views(self, text: str) -> list[View]:
        """The readings of ``text``, at least one. Cost is linear in its length; nothing hidden: one pass over it."""
        name, current = RAW, text
        beside: list[View] = []  # what turning a whole text would make unreadable
        if _MAY_BE_ESCAPED.search(current):
            name, current = self._unescape(name, current)
        if "\b" in current or "\x7f" in current:
            undone, deleted = apply_deletions(current)
            if self._count_words(undone, None)[0] > self._count_words(current, None)[0]:
                # What is deleted need not be noise: a model is handed the bytes, and may read it.
                if _MANY_DELETIONS.search(current) or self._count_words(deleted, None)[0] >= _EVIDENCE:
                    beside.append(View(name, current, name not in _OPEN))
                    beside += [view for view in self.views(_DELETIONS.sub(" ", current)) if view.hidden]
                name, current = "deletions", undone
        if not current.isascii() or INVISIBLE.search(current):
            for rule, undo in self._on_characters:
                undone = undo(current)
                if undone != current:
                    if rule == "upside down" and self._leaves_unread(undone, current):
                        beside.append(View(name, current, name not in _OPEN))
                    name, current = rule, undone
            if _MAY_BE_ESCAPED.search(current):
                name, current = self._unescape(name, current)
        for rule, pattern, decode in self._segments:
            if rule == "url" and current.count("%") < _MIN_ESCAPED:
                continue
            decoded = self._decode_segments(current, pattern, decode)
            if decoded != current:
                name, current = rule, decoded
        structured = from_word_structure(current)
        if structured != current:
            name, current = "structure", structured
        readable = self.readability(current) >= READABLE
        found = [] if readable else self._turn_whole(current)
        if found:
            found = self._in_order(found)
            if self._leaves_unread(found[0].text, current):
                beside.append(View(name, current, name not in _OPEN))
            return found + beside
        rule, current = self._turn_inner(current)
        if rule:
            name, readable = rule, self.readability(current) >= READABLE
        if readable and self.order.is_backward(current):
            # A sentence of which the order says nothing, or one that may run forward among others that do not.
            if self._run_of(current, known=False) or self.order.has_forward(current):
                beside.append(View(name, current, name not in _OPEN))
            return [View(WORD_ORDER, reverse_order(current), True), *beside]
        return [View(name, current, name not in _OPEN), *beside]

    def _unescape(self, name: str, text: str) -> tuple[str, str]:
        """Name and text of the view ``name`` once its escapes are undone, but those inside a tree or list of words."""
        structured = from_word_structure(text)
        plain, letters = from_escapes(structured)
        if structured != text:
            return "structure", plain
        if letters:
            return ESCAPED_LETTERS, plain
        return (ESCAPES if name == RAW and plain != text else name), plain

    def _turn_whole(self, current: str) -> list[View]:
        """What rules for a whole text make of one that does not read as language."""
        found: list[View] = []
        for rule, undo in self._on_whole_text.items():
            undone = undo(current)
            if undone != current and self._reads_better(undone, current):
                found.append(View(rule, undone, True))
        return found

    def _turn_inner(self, text: str) -> tuple[str, str]:
        """A quote, line, answer to a colon or run of unknown words that is reversed, in a text that is not: the rule
        ("": none), the text."""
        used, odd = "", False

        def turn(match: re.Match[str]) -> str:
            nonlocal used
            before = match.group()
            inner = before.strip(_QUOTES)
            if len(inner) < _MIN_INNER:
                return before
            quoted = before[0] in _QUOTES and (match.re is _INNER or (match.re is _UNPAIRED and odd))
            if self.readability(inner) >= READABLE:
                if quoted and inner.count(" ") >= _MIN_QUOTED - 1 and self.order.is_backward(inner):
                    used = WORD_ORDER
                    return before.replace(inner, reverse_order(inner))
                return before
            rule, turned = self._turn_part(inner)
            used = rule or used
            return before.replace(inner, turned)

        if _INNER_MARKS.search(text):
            text = _LINE.sub(turn, _INNER.sub(turn, text))
            if not used:
                odd = text.count('"') % 2 or text.count("`") % 2
                text = _UNPAIRED.sub(turn, text)
        kept, last = [], 0
        for start, stop in self._unread_runs(text):
            rule, turned = self._turn_part(text[start:stop])
            if not rule:  # a foreign sentence may be one run with what is turned
                turns = [self._turn_part(part) for part in _SENTENCE_END.split(text[start:stop])]
                rule, turned = max(rule for rule, _ in turns), " ".join(part for _, part in turns)
            if rule:
                used = rule
                kept += [text[last:start], turned]
                last = stop
        return used, "".join([*kept, text[last:]])

    def _turn_part(self, inner: str) -> tuple[str, str]:
        """What a rule makes of a part of a text, and the rule; "" and the part itself where none makes it readable."""
        found = [View(rule, _WHOLE_TEXT[rule](inner), True) for rule in _INNER_RULES]
        found = self._in_order([view for view in found if self._reads_better(view.text, inner, _INNER_EVIDENCE)])
        if not found:
            return "", inner
        kept = f"{inner} " if self._leaves_unread(found[0].text, inner) else ""
        return found[0].name, kept + found[0].text

    def _unread_runs(self, text: str) -> list[tuple[int, int]]:
        """Start and stop of runs of six unknown words or more; a known one among three is chance ("dna" is one)."""
        runs: list[tuple[int, int]] = []
        score, best, start, stop = 0, 0, 0, 0
        for match in _WORD.finditer(text):
            known = match.group().lower() in self._words
            if score <= 0 and not known:
                score, best, start = 0, 0, match.start()
            score += -_KNOWN_COSTS if known else 1
            if score > best:
                best, stop = score, match.end()
            elif best >= _UNREAD and score <= best - _ENDS_RUN:
                runs.append((start, stop))
                score, best = 0, 0
        return [*runs, (start, stop)] if best >= _UNREAD else runs

    def _in_order(self, found: list[View]) -> list[View]:
        """Of views with the same words one way round and the other, the one that runs forward, where that shows."""
        scores = {view.name: self.order.score(view.text) for view in found if view.name in _REVERSALS}
        best = max(scores.values(), default=0.0)
        return [view for view in found if scores.get(view.name, best) == best]

    def _count_words(self, text: str, inspected: int | None = _INSPECTED) -> tuple[int, int]:
        words = _WORD.findall(text[:inspected].lower())
        return sum(map(self._words.__contains__, words)), len(words)

    def _leaves_unread(self, turned: str, before: str) -> bool:
        """Whether turning a whole text hid something: a plain sentence beside a longer one in ROT13, say.

        Four known words that follow one another tell it in ``before``; in other languages, or where they are misspelt,
        five unknown ones in what it was turned into.
        """
        return self._run_of(before, known=True) or self._run_of(turned, known=False)

    def _run_of(self, text: str, known: bool) -> bool:
        """Whether four words follow one another somewhere in ``text`` that are all known, or five that are unknown.

        Unknown ones with nothing but blanks between them: names in code and lists are not known either.
        """
        run, last = 0, 0
        for match in _WORD.finditer(text):
            if not known and not _IN_A_SENTENCE.fullmatch(text, last, match.start()):
                run = 0
            run = run + 1 if (match.group().lower() in self._words) == known else 0
            last = match.end()
            if run == (_PLAIN_RUN if known else _UNKNOWN_RUN):
                return True
        return False

    def _reads_better(self, text: str, before: str, evidence: int = _EVIDENCE) -> bool:
        """Whether ``text`` reads as language, with so many different known words, and ``before`` does not."""
        known, total = self._count_words(text)
        if known < evidence or known < max(READABLE, self.readability(before) + GAIN) * total:
            return False
        return len(self._words.intersection(_WORD.findall(text[:_INSPECTED].lower()))) >= evidence

    def _decode_segments(self, text: str, pattern: re.Pattern[str], decode: Callable[[str], str | None]) -> str:
        """``text`` with each match of ``pattern`` that decodes to language replaced by it."""

        def replace(match: re.Match[str]) -> str:
            before = match.group()
            decoded = decode(before)
            if decoded is None or decoded == before:
                return before
            if decode in _OF_BYTES:
                decoded = self._decode_again(decoded)
                if "://" in before:  # browsers escape in links what is no letter
                    if len(_ESCAPED_LETTER.findall(before)) >= _MIN_ESCAPED:
                        return decoded
                elif is_writing(decoded):
                    return decoded
            return decoded if self._reads_better(decoded, before) else before

        return pattern.sub(replace, text)

    def _decode_again(self, text: str) -> str:
        """What is left when a code that is all of ``text`` is undone, and all of that again, up to three times."""
        for _ in range(_MOST_NESTED):
            text, _ = from_escapes(text)
            whole = text.strip()
            codes = (code for _, pattern, code in self._segments if code in _OF_BYTES and pattern.fullmatch(whole))
            decoded = next((inner for code in codes if (inner := code(whole))), None)
            if decoded is None:
                break
            text = decoded
        return text

    def _strip_invisible(self, text: str) -> str:
        """Invisible characters stand inside words, or between them: what makes more words known."""
        joined = strip_invisible(text)
        if joined == text:
            return text
        apart = strip_invisible(text, " ")
        return apart if self._count_words(apart)[0] > self._count_words(joined)[0] else joined

    def _turn_back(self, text: str) -> str:
        """Text upside down → upright; text without several turned letters stays."""
        if len(_TURNED.findall(text[:_INSPECTED])) < _MIN_TURNED:
            return text
        upright = turn_back(text)
        return upright if self._reads_better(upright, text) else text

    def _strip_accents(self, text: str) -> str:
        """Marks on nearly every Latin letter are removed where that makes language; those of real languages stay."""
        start = text[:_INSPECTED]
        if start.isascii():
            return text
        bare = "".join(map(without_marks, start))
        marked = sum(without_marks(char) != char for char in start)
        if marked < max(_MIN_MARKED * sum(char.isascii() and char.isalpha() for char in bare), 1):
            return text
        return "".join(map(without_marks, text)) if self._reads_better(bare, start) else text

    def _map_lookalikes(self, text: str) -> str:
        """Full-width and mathematical letters → ASCII; look-alikes → Latin in words that mix Latin and another script.

        A word wholly in another script is that script's word and stays; words in ornament are of none.
        """
        folded = "".join(char if char.isascii() else plain_letter(char) for char in text)  # as long as text
        if folded != text and not is_disguise(text, folded, self._words, self.lookalikes):
            folded = without_ornament(text)
        return _NOT_ASCII.sub(lambda match: to_latin(match.group(), self.lookalikes), folded)


#: They give back bytes, which are text by no accident.
_OF_BYTES = (from_url, from_binary, from_hex, from_base32, from_base64)
#: Tried where the whole text does not read as language.
_WHOLE_TEXT: dict[str, Callable[[str], str]] = {
    "reversed": lambda text: text[::-1],
    "reversed words": lambda text: re.sub(r"\S+", lambda match: match.group()[::-1], text),
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "leet": from_leet,
}
