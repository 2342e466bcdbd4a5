"""Kinds of documents, and where in each of them a sentence stands that somebody put there.

An instruction for a model that reads a document is planted where a person would not look for it or not mind it: in a
comment, a field, a cell, a postscript, a hidden element. Innocent notes stand in the same places, so that none of them
gives an attack away. Kinds are told by what a text looks like; what looks like nothing else is ``text``.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from guardlib.data.attacks import POSITIONS, compose
from guardlib.text.tokenizer import sanitize

_TAG = re.compile(r"</?[a-zA-Z][^<>\n]*>")
_CLOSING_TAG = re.compile(
    r"</(?:p|div|li|h\d|td|tr|ul|article|section|span|body|html|aside|table|main|footer|a)>", re.I
)
_UNREAD = re.compile(r"<(title|script|style)\b.*?</\1>", re.I | re.S)  # what no comment or element can stand in
_HEADER = re.compile(r"^(?:subject|from|to|cc|date|betreff|von|asunto|objet|oggetto|assunto): \S", re.I | re.M)
_GREETING = re.compile(
    r"^(?:hi|hello|hey|dear|good (?:morning|afternoon|evening)|hallo|liebe[rs]?|guten \w+|sehr geehrte[rs]?|bonjour|"
    r"ch[eè]re?s?|hola|estimad\w+|querid\w+|buenos d\w+|ciao|gentile|caro|cara|ol[áa]|prezad\w+|beste|hoi|cześć|hej)\b"
    r"[^\n]{0,40}[,!:]?$",
    re.I | re.M,
)
_SQL = re.compile(
    r"^[ \t]*(?:SELECT\b[^;]*?\bFROM|CREATE TABLE|INSERT INTO|UPDATE\s+\S+\s+SET|DELETE FROM|ALTER TABLE"
    r"|WITH \w+ AS)\b",
    re.M,
)
_HASH_CODE = re.compile(
    r"^[ \t]*(?:def \w+\(.*|class \w+.*:|import [\w.]+(?: as \w+)?|from [\w.]+ import .+|elif .+:|with .+:"
    r"|for \w+ in .+:|#!.+|print\(.*|try:|except.*:|@\w+|return\b.*|[A-Z_]+=\S+|FROM \S+:\S+|RUN .+|fi|done|esac)$",
    re.M,
)
_SLASH_CODE = re.compile(
    r"^[ \t]*(?:(?:export |async )*function\b.*|(?:const|let|var) .+|#include .+|(?:public|private|static|func|fn|"
    r"package|using|struct|int|void|float|double) .*[;{(].*|\}.*|.+\) \{|.+;)$",
    re.M,
)
_RULER = re.compile(r"^[\s|:+=-]+$")
_SEPARATORS = ("|", "\t", ";", ",")
_FIELDS = ("note", "comment", "description", "summary", "message", "remark", "details", "snippet", "text", "info")
#: Kinds that plain text can be given the form of, and what else stands in such a document.
DRESSED = ("web", "json")
_OTHER_FIELDS = {
    "status": ("ok", "done", 200), "source": ("web", "wiki", "inbox", "cache"), "score": (0.91, 0.77, 0.5),
    "id": (17, "a-204", "doc_3"), "lang": ("en", "und", None), "tool": ("search", "read_page", "fetch", "lookup"),
}  # fmt: skip
_PAGES = (
    "<html><body>\n{body}\n</body></html>",
    "<!DOCTYPE html>\n<html>\n<head><title>Page</title></head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>",
    '<article class="post">\n{body}\n</article>',
    '<div id="content">\n<a href="/">Home</a>\n{body}\n</div>',
    "<section>\n{body}\n<footer>All rights reserved</footer>\n</section>",
    '<nav><a href="/a">News</a> <a href="/b">Archive</a></nav>\n{body}',
)
_BEFORE, _AFTER = ("", "", "", "Note: ", "NB: "), ("PS: ", "P.S. ", "PPS ", "", "")


def kind_of(text: str) -> str:
    """One of KINDS."""
    if isinstance(_parsed(text), dict | list):
        return "json"
    if len(_TAG.findall(text)) >= 3 and _CLOSING_TAG.search(text):
        return "web"
    lines = [line for line in text.splitlines() if line.strip()]
    code = len(_HASH_CODE.findall(text)) + len(_SLASH_CODE.findall(text))
    if (len(lines) > 1 and code >= max(2, len(lines) / 3)) or _SQL.search(text):
        return "code"
    if _separator(lines):  # after code, whose lines end in one mark too
        return "table"
    if len(_HEADER.findall(text)) >= 2 or (len(lines) > 2 and _GREETING.search(text[:200])):
        return "email"
    return "text"


def plant(document: str, kind: str, sentence: str, position: str, rng: np.random.Generator) -> str:
    """``sentence`` in ``document``, where a document of ``kind`` has room for one, near its start, middle or end.

    Raises:
        ValueError: ``kind`` is none of KINDS, or ``position`` none of POSITIONS; or ``document`` is no web page or no
            JSON though ``kind`` says so.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} does not exist; expected one of {', '.join(KINDS)}")
    if position not in POSITIONS:
        raise ValueError(f"position {position!r} does not exist; expected one of {', '.join(POSITIONS)}")
    return _PLANTERS[kind](document, sentence, position, rng)


def dress(text: str, kind: str, rng: np.random.Generator) -> str:
    """Plain ``text`` as a document of ``kind``, one of DRESSED: a web page, or what a tool gives back in JSON."""
    parts = [part.strip() for part in text.splitlines() if part.strip()]
    if kind == "json":
        fields = [(_pick(("content", "body_text", "page", "result", "document"), rng), " ".join(parts))]
        for name, values in _OTHER_FIELDS.items():
            if rng.random() < 0.5:
                fields.insert(int(rng.integers(len(fields) + 1)), (name, _pick(values, rng)))
        value = dict(fields)
        return json.dumps(
            _pick(({"results": [value]}, [value], value), rng), ensure_ascii=False, indent=_pick((None, 2), rng)
        )
    tag = _pick(("p", "p", "div", "li"), rng)
    body = "\n".join(f"<{tag}>{html.escape(part, quote=False)}</{tag}>" for part in parts)
    return _pick(_PAGES, rng).format(body=body)


def _pick(options: Sequence, rng: np.random.Generator):
    return options[int(rng.integers(len(options)))]


def _place(size: int, position: str, rng: np.random.Generator) -> int:
    """A place from 0 to ``size``: the first, the last, or one in the middle half."""
    if position == "middle":
        return round(size * rng.uniform(0.25, 0.75))
    return 0 if position == "start" else size


def _in_code(document: str, sentence: str, position: str, rng: np.random.Generator) -> str:
    """A comment or a string on a line of its own among the lines of code, indented as the line that follows."""
    lines = document.split("\n")
    code = [at for at, line in enumerate(lines) if any(form.match(line) for form in (_SQL, _HASH_CODE, _SLASH_CODE))]
    first, last = (code[0], code[-1] + 1) if code else (0, len(lines))
    at = first + _place(last - first, position, rng)
    if at < len(lines) and lines[at].startswith("#!"):
        at += 1
    following = next((line for line in lines[at:] if line.strip()), "")
    indent = following[: len(following) - len(following.lstrip())]
    said = " ".join(sentence.split())
    quoted, block = json.dumps(said, ensure_ascii=False), f"/* {said.replace('*/', '* /')} */"
    statement = _takes_a_statement(lines[:at], following)
    if _SQL.search(document) and not _HASH_CODE.search(document):
        forms = (f"-- {said}", block, f"-- TODO: {said}")
    elif len(_HASH_CODE.findall(document)) >= len(_SLASH_CODE.findall(document)):
        own = f"note = {quoted}" if statement else f"# {said}"
        forms = (f"# {said}", f"# TODO: {said}", f"# NOTE: {said}", own)
    else:
        own = f"const note = {quoted};" if statement else f"// {said}"
        forms = (f"// {said}", block, f"// TODO: {said}", f"// NOTE {said}", own)
    return "\n".join([*lines[:at], indent + _pick(forms, rng), *lines[at:]])


def _takes_a_statement(before: Sequence[str], following: str) -> bool:
    """Whether a statement may stand there: not after a decorator, inside brackets or before an else."""
    last = next((line.strip() for line in reversed(before) if line.strip()), "")
    continued = last.startswith("@") or last.endswith(("(", "[", "{", ",", "\\", "=", "+"))
    return not continued and re.match(r"\s*(?!else|elif|except|finally|catch)[A-Za-z_]", following) is not None


def _in_json(document: str, sentence: str, position: str, rng: np.random.Generator) -> str:
    """A string field of one of its objects; an element of a list that has none."""
    value = _parsed(document)
    if value is None:
        raise ValueError(f"document {document[:40]!r} is no JSON object or list; expected one, or another kind")
    objects = list(_objects(value))
    if objects:
        chosen = objects[min(_place(len(objects), position, rng), len(objects) - 1)]
        fields = list(chosen.items())
        at = _place(len(fields), position, rng)
        free = [name for name in _FIELDS if name not in chosen]
        fields.insert(at, (_pick(free, rng) if free else f"note_{len(chosen)}", sentence))
        chosen.clear()
        chosen.update(fields)
    else:
        value.insert(_place(len(value), position, rng), sentence)
    return sanitize(json.dumps(value, ensure_ascii=False, indent=2 if "\n" in document.strip() else None))


def _parsed(text: str) -> dict | list | None:
    """What a JSON object or list holds; None where ``text`` is none."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _objects(value: object):
    """All objects of a JSON value, outermost and first ones first."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(child)


def _in_table(document: str, sentence: str, position: str, rng: np.random.Generator) -> str:
    """A cell of a row. The first row names the columns and is left alone where there are others."""
    lines = document.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # a row ends with either
    separator = _separator([line for line in lines if line.strip()]) or "|"
    rows = [at for at, line in enumerate(lines) if separator in line and any(_cells(line, separator))]
    rows = [at for at in rows if not _RULER.match(lines[at])]
    rows = rows[1:] or rows
    if not rows:  # nothing but separators
        return compose(document, sentence, position, rng)
    row = rows[min(_place(len(rows), position, rng), len(rows) - 1)]
    cells = _cells(lines[row], separator)
    said = " ".join(sentence.split())
    filled = [at for at, cell in enumerate(cells) if cell.strip()]
    cells[_pick(filled[1:] or filled, rng)] = f" {said.replace('|', '/')} " if separator == "|" else said
    return "\n".join([*lines[:row], _row(cells, separator), *lines[row + 1 :]])


def _cells(line: str, separator: str) -> list[str]:
    """The cells of a line; a quoted one may hold the separator, but for "|", which knows no quotes."""
    if separator == "|":
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator), [])


def _row(cells: Sequence[str], separator: str) -> str:
    """Inverse of :func:`_cells`."""
    if separator == "|":
        return separator.join(cells)
    written = io.StringIO()
    csv.writer(written, delimiter=separator, lineterminator="").writerow(cells)
    return written.getvalue()


def _separator(lines: list[str]) -> str | None:
    """What stands between the cells: a mark that most lines hold equally often; None where they are no table."""
    for mark in _SEPARATORS:
        (often, agreeing), *_ = Counter(line.count(mark) for line in lines).most_common(1) or [(0, 0)]
        prose = mark == "," and (often < 2 or sum(", " in line for line in lines) > 0.3 * len(lines))
        if len(lines) >= 3 and often and agreeing >= 0.7 * len(lines) and not prose:
            return mark
    return None


def _in_email(document: str, sentence: str, position: str, rng: np.random.Generator) -> str:
    """A line of its own: below the greeting, between paragraphs, or as a postscript."""
    paragraphs = document.split("\n\n") if "\n\n" in document else document.split("\n")
    gap = "\n\n" if "\n\n" in document else "\n"
    if position == "end":
        return document.rstrip() + gap + _pick(_AFTER, rng) + sentence
    opening = [at for at, part in enumerate(paragraphs[:3]) if _GREETING.search(part) or _HEADER.search(part)]
    first = max(opening, default=-1)
    body = len(paragraphs) - first - 1
    at = first + 1 + (_place(body, position, rng) if body else 0)
    return gap.join([*paragraphs[:at], _pick(_BEFORE, rng) + sentence, *paragraphs[at:]])


def _in_web(document: str, sentence: str, position: str, rng: np.random.Generator) -> str:
    """Between two tags: a comment, a description of an image, an element that is not shown, or a plain paragraph."""
    said = " ".join(sentence.split())
    comment = re.sub(r"-{2,}", "-", said)
    visible, attribute = html.escape(said, quote=False), html.escape(said)
    forms = (
        f"<!-- {comment} -->",
        f'<img src="header.png" alt="{attribute}">',
        f'<div style="display:none">{visible}</div>',
        f"<span hidden>{visible}</span>",
        f'<p style="font-size:1px;color:#fff">{visible}</p>',
        f'<meta name="description" content="{attribute}">',
        f'<a href="#" title="{attribute}">more</a>',
        f"<p>{visible}</p>",
    )
    places = [match.start() if match.group().startswith("</") else match.end() for match in _TAG.finditer(document)]
    unread = [match.span() for match in _UNREAD.finditer(document)]
    places = sorted({place for place in places if not any(start < place < stop for start, stop in unread)})
    if not places:
        raise ValueError(f"document {document[:40]!r} has no tags; expected a web page, or another kind")
    at = places[min(_place(len(places), position, rng), len(places) - 1)]
    return document[:at] + _pick(forms, rng) + document[at:]


_PLANTERS: dict[str, Callable[[str, str, str, np.random.Generator], str]] = {
    "text": compose,
    "email": _in_email,
    "web": _in_web,
    "table": _in_table,
    "code": _in_code,
    "json": _in_json,
}
KINDS = tuple(_PLANTERS)
