"""Where a result comes from: manifests, content hashes, versions, machine, commit.

A stage's ``manifest.json`` is written last and is the only sign that the stage succeeded.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import guardlib
from guardlib.fingerprint import PACKAGE, digest_of, file_digest
from guardlib.runtime.session import available_cpus

MANIFEST = "manifest.json"
PREVIOUS = "manifest.previous.json"  # the last good one, kept while its stage runs again
NOTEBOOK_COPY = "notebook.ipynb"
CHECKPOINTS = "checkpoints"
FORMAT = 1

PACKAGES = (
    "torch",
    "transformers",
    "datasets",
    "tokenizers",
    "safetensors",
    "accelerate",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "matplotlib",
    "papermill",
)


class ManifestError(ValueError):
    """A manifest that cannot be read, or that does not describe what lies beside it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What one stage read, wrote and found, and under which conditions.

    ``outputs``: file name → {"sha256", "bytes"}; names that start with "/" are relative to the project root (figures),
    all others to the stage's folder. ``inputs``: stage → digest of its manifest at the time it was read.
    ``fingerprint``: see :mod:`guardlib.fingerprint`. ``seconds``, ``peak_memory``: wall clock, bytes.
    """

    stage: str
    profile: dict
    seed: int
    fingerprint: dict
    inputs: dict[str, str]
    outputs: dict[str, dict]
    headline: dict
    notes: str
    data_hash: str
    run_id: str
    commit: str
    versions: dict[str, str]
    machine: dict
    started: str
    seconds: float
    peak_memory: int
    reads_mirror: bool = False
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """Hash of what later stages see: the outputs and the data's origin. A rerun with the same result keeps it."""
        return digest_of([self.stage, {name: row["sha256"] for name, row in self.outputs.items()}, self.notes])


def read_manifest(folder: Path, name: str = MANIFEST) -> Manifest | None:
    """The manifest in a stage's folder, or None where there is none.

    Raises:
        ManifestError: unreadable, not JSON, or not a manifest of this format.
    """
    path = folder / name
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} cannot be read as a manifest ({error}); {rerun(folder)}") from None
    return _check_manifest(values, path)


def _check_manifest(values: object, path: Path) -> Manifest:
    """``values`` as a Manifest; ManifestError names the first field that is missing, unknown or of the wrong type."""
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ManifestError(f"{path} is not a manifest of format {FORMAT}; {rerun(path.parent)}")
    fields = {field.name: field.type.split("[")[0] for field in dataclasses.fields(Manifest)}
    kinds = {"str": str, "int": int, "float": int | float, "dict": dict, "bool": bool}
    wrong = [name for name, kind in fields.items() if not isinstance(values.get(name), kinds[kind])]
    wrong += sorted(values.keys() - fields.keys())
    rows_fit = not wrong and all(
        isinstance(row, dict) and isinstance(row.get("sha256"), str) and isinstance(row.get("bytes"), int)
        for row in values["outputs"].values()
    )
    if wrong or not rows_fit:
        raise ManifestError(f"{path} is damaged (field {(wrong or ['outputs'])[0]!r}); {rerun(path.parent)}")
    if values["stage"] != path.parent.name:
        raise ManifestError(f"{path} belongs to stage {values['stage']!r}; {rerun(path.parent)}")
    return Manifest(**values)


def rerun(folder: Path) -> str:
    """The command that makes a stage's folder anew."""
    return f"run: python run_all.py --profile {folder.parent.name} --only {folder.name[:2]} --force"


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write atomically: a reader sees the whole manifest or none. Raises OSError where the disk refuses."""
    path = folder / MANIFEST
    temporary = folder / f".{MANIFEST}.{os.getpid()}"
    text = json.dumps(dataclasses.asdict(manifest), indent=2, allow_nan=False) + "\n"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    (folder / PREVIOUS).unlink(missing_ok=True)
    return path


def retire_manifest(folder: Path) -> None:
    """Take the sign of success away before a stage runs again; what it said is kept in ``manifest.previous.json``."""
    if (folder / MANIFEST).exists():
        (folder / MANIFEST).replace(folder / PREVIOUS)


def output_files(folder: Path) -> list[Path]:
    """Every file a stage has written, sorted; no checkpoints, manifests, executed notebook or hidden files."""
    skipped = {MANIFEST, PREVIOUS, NOTEBOOK_COPY}
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if parts[0] in skipped or any(part == CHECKPOINTS or part.startswith(".") for part in parts):
            continue
        if path.is_file():
            found.append(path)
    return found


def describe_outputs(files: dict[str, Path]) -> dict[str, dict]:
    """Name → {"sha256", "bytes"} of the files that hold it."""
    return {name: {"sha256": file_digest(path), "bytes": path.stat().st_size} for name, path in sorted(files.items())}


def output_path(name: str, folder: Path, root: Path) -> Path:
    """The file behind a name in :attr:`Manifest.outputs`."""
    return root / name[1:] if name.startswith("/") else folder / name


def missing_outputs(manifest: Manifest, folder: Path, root: Path, *, contents: bool = False) -> list[str]:
    """Outputs that are gone or of another size; with ``contents``, also those whose bytes are others."""
    wrong = []
    for name, row in manifest.outputs.items():
        path = output_path(name, folder, root)
        same = path.is_file() and path.stat().st_size == row["bytes"]
        if not same or (contents and file_digest(path) != row["sha256"]):
            wrong.append(name)
    return wrong


def plain_headline(headline: dict) -> dict:
    """Headline metrics as JSON scalars: numpy numbers become Python's, NaN and infinity become None.

    Raises:
        ValueError: a name that is no str, or a value that is no number, str, bool or None.
    """
    plain = {}
    for name, value in headline.items():
        value = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
        if not isinstance(name, str) or not isinstance(value, str | int | float | None):
            raise ValueError(f"headline {name!r} is {value!r} ({type(value).__name__}); expected a number or a str")
        plain[name] = None if isinstance(value, float) and not math.isfinite(value) else value
    return plain


def package_versions() -> dict[str, str]:
    """Versions of Python, guardlib and the packages a result may depend on, where they are installed."""
    versions = {"python": platform.python_version(), "guardlib": guardlib.__version__}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def of_one_run(manifests: Mapping[str, Manifest | None]) -> str:
    """What keeps the stages from being one run, in words: a missing one, or one that read others; "" where nothing."""
    for stage, manifest in manifests.items():
        if manifest is None:
            return f"{stage} has no manifest"
        for name, digest in manifest.inputs.items():
            if name in manifests and (manifests[name] is None or manifests[name].digest != digest):
                return f"{stage} read another {name} than the one that is there"
    return ""


@lru_cache(maxsize=1)
def git_commit(folder: Path = PACKAGE) -> str:
    """Short commit of the code, with "+changes" where tracked files differ; "no commit" outside git.

    What programs write from results (figures, README, tables of benchmarks) is no such difference.
    """
    tracked = _git(folder, "ls-files", "--error-unmatch", "__init__.py")
    commit = _git(folder, "rev-parse", "--short=12", "HEAD")
    if not tracked or not commit:
        return "no commit"
    written = [f":(top,exclude){path}" for path in ("figures", "README.md", "benchmarks/results")]
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":/", *written)
    return f"{commit}+changes" if changes else commit


def _git(folder: Path, *arguments: str) -> str:
    """What git prints; empty where it fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@lru_cache(maxsize=1)
def describe_machine() -> dict:
    """CPU model, cores that this process may use, memory in bytes, operating system, and GPU ("" without CUDA)."""
    return {
        "cpu": _cpu_model(),
        "cores": available_cpus(),
        "memory": _memory_bytes(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cuda": _cuda_device(),
    }


def _cpu_model() -> str:
    """The CPU's name as its vendor writes it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    if sys.platform == "darwin":
        done = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        if done.stdout.strip():
            return done.stdout.strip()
    return platform.processor() or platform.machine() or "unknown CPU"


def _memory_bytes() -> int:
    """Physical memory; 0 where it cannot be told."""
    try:
        import psutil
    except ImportError:
        return 0
    return psutil.virtual_memory().total


def _cuda_device() -> str:
    """Name of the GPU torch would use. torch takes seconds to import, so it is asked only where there is a driver."""
    if "torch" not in sys.modules and shutil.which("nvidia-smi") is None:
        return ""
    if importlib.util.find_spec("torch") is None:
        return ""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def discard_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of every training in ``folder`` and below: when all that is made of them is on disk."""
    for place in list(folder.rglob(CHECKPOINTS)):
        shutil.rmtree(place, ignore_errors=True)
