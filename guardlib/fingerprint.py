"""What a stage's result depends on, as hashes: its notebook, the code it imports, settings, data and earlier stages.

Everything is read from source without importing it, so ``run_all.py`` decides in a moment what must run again.
Python is hashed as its syntax tree without docstrings: comments and formatting do not make a model train anew.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from guardlib.paths import RELEASE

PACKAGE = Path(__file__).resolve().parent

#: Fingerprint parts in the order in which they are reported.
PARTS = ("notebook", "code", "settings", "data", "inputs")


@dataclass(frozen=True, slots=True)
class NotebookFacts:
    """What a notebook's code says without running it: upstream stages, guardlib modules, use of the mirror."""

    digest: str
    modules: frozenset[str]
    inputs: tuple[str, ...]
    reads_mirror: bool


def digest_of(value: object) -> str:
    """SHA-256 of ``value`` as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=1024)  # stages share most of their code
def code_digest(source: str) -> str:
    """SHA-256 of Python source, blind to comments, docstrings and layout; of the plain text where it does not parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return hashlib.sha256(source.encode()).hexdigest()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and _is_docstring(node):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_docstring(node) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def read_notebook(path: Path) -> NotebookFacts:
    """Facts of the notebook at ``path``; its parameters cell is left out, since its values arrive as settings.

    Raises:
        ValueError: not a notebook.
        OSError: unreadable.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        tags = [cell.get("metadata", {}).get("tags", []) for cell in code]
        sources = ["".join(cell["source"]) for cell in code]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a notebook ({error!r}); run: git checkout -- notebooks") from None
    sources = [source for source, names in zip(sources, tags, strict=True) if "parameters" not in names]
    trees = [_parse_cell(source) for source in sources]
    inputs = {name for tree in trees for name in _stage_inputs(tree)}
    return NotebookFacts(
        digest=digest_of([code_digest(source) for source in sources]),
        modules=frozenset(module for tree in trees for module in _imports(tree, package="")),
        inputs=tuple(sorted(inputs)),
        reads_mirror=any(_reads_mirror(tree) for tree in trees),
    )


def _parse_cell(source: str) -> ast.Module:
    """A cell's syntax tree; ``%magic`` and ``!shell`` lines are no Python and are dropped."""
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    try:
        return ast.parse("\n".join(lines))
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def _stage_inputs(tree: ast.AST) -> Iterator[str]:
    """Literals of calls such as ``stage.input("01_data")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "input":
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value


def _reads_mirror(tree: ast.AST) -> bool:
    """Whether a cell uses ``….mirror``, or hands the whole ``stage`` to a function that could."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "mirror":
            return True
        if isinstance(node, ast.Call):
            arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
            if any(isinstance(argument, ast.Name) and argument.id == "stage" for argument in arguments):
                return True
    return False


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names that ``tree`` imports, ``from a import b`` as ``a.b``; relative ones are resolved in ``package``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def import_closure(modules: Iterable[str], package: Path = PACKAGE) -> dict[str, Path]:
    """Files of ``package`` that the dotted ``modules`` import, directly or not, also inside functions.

    A package's data files count as soon as one of its modules does. Importing ``guardlib.a.b`` runs
    ``guardlib/__init__.py`` but not the lazy imports inside its functions, so those count only when a name is
    asked of the package itself (``from guardlib import Guard``).

    Returns:
        Path relative to the package's parent (POSIX) → file, sorted.
    """
    files: dict[str, Path] = {}
    seen: set[tuple[str, bool]] = set()
    todo = [(name, False) for name in modules]
    while todo:
        name, asked = todo.pop()
        if name.split(".")[0] != package.name or (name, asked) in seen:
            continue
        seen.add((name, asked))
        parent = name.rpartition(".")[0]
        path = _module_file(name, package)
        if path is None:  # a name inside the module above it
            todo += [(parent, True)] if parent else []
            continue
        files[path.relative_to(package.parent).as_posix()] = path
        todo += [(parent, False)] if parent else []
        is_package = path.name == "__init__.py"
        found = _imported(path.read_text(encoding="utf-8"), name if is_package else parent, asked or not is_package)
        todo += [(other, False) for other in found]
    for folder in {path.parent for path in files.values()}:
        files |= {path.relative_to(package.parent).as_posix(): path for path in _data_files(folder)}
    return dict(sorted(files.items()))


def _module_file(name: str, package: Path) -> Path | None:
    """The source file of a dotted module name, or None where there is none."""
    base = package.parent.joinpath(*name.split("."))
    candidates = (base / "__init__.py", base.with_name(base.name + ".py"))
    return next((path for path in candidates if path.is_file()), None)


@functools.lru_cache(maxsize=1024)
def _imported(source: str, package: str, in_functions: bool) -> tuple[str, ...]:
    """What source imports, with or without its functions; nothing where it does not parse (its bytes are hashed)."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ()
    return tuple(_imports(tree if in_functions else _without_functions(tree), package))


def _without_functions(tree: ast.Module) -> ast.Module:
    kept = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return ast.Module(body=kept, type_ignores=[])


def _data_files(folder: Path) -> Iterator[Path]:
    """Non-Python files of a package's folder and of the folders in it that are no packages.

    Not the released guard: stages make it, none reads it; nor what is written for people.
    """
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__pycache__")) or path == RELEASE:
            continue
        if path.is_dir() and not (path / "__init__.py").is_file():
            yield from _data_files(path)
        elif path.is_file() and path.suffix not in {".py", ".pyc", ".md"}:
            yield path


def code_digests(modules: Iterable[str], package: Path = PACKAGE) -> dict[str, str]:
    """Path → digest of every file in :func:`import_closure`."""
    return {
        name: code_digest(path.read_text(encoding="utf-8")) if path.suffix == ".py" else file_digest(path)
        for name, path in import_closure(modules, package).items()
    }


def data_digest(mirror: Path | None, files: Sequence[str] = ()) -> str:
    """Identity of a mirror and a user's own files: SHA-256 of names, sizes and modification times; "none" without any.

    The contents are not read, so a mirror of many gigabytes costs no more than its listing.
    """
    if mirror is None and not files:
        return "none"
    rows = []
    for name in files:
        path = Path(name).expanduser()
        status = path.stat() if path.exists() else None
        rows.append([str(path), status and status.st_size, status and status.st_mtime_ns])
    seen: set[str] = set()  # a linked folder may lead back to one above it
    for folder, folders, names in os.walk(mirror, followlinks=True) if mirror else ():
        if (place := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            found = path.stat() if path.exists() else path.lstat()
            rows.append([path.relative_to(mirror).as_posix(), found.st_size, found.st_mtime_ns])
    return digest_of(rows)


def differences(old: dict, new: dict) -> list[str]:
    """Why ``old`` and ``new`` fingerprints differ, in words; empty when they are equal."""
    reasons = []
    for part in PARTS:
        before, now = old.get(part), new.get(part)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
            shown = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            reasons.append(f"{part} changed: {shown}")
        else:
            reasons.append(f"{part} changed")
    return reasons
