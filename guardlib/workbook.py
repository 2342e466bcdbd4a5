"""What every notebook does first and last: open a stage, and finish it.

    stage = open_stage("03_train", profile=profile, data=data, settings=settings)
    ...
    stage.finish(headline={"val_accuracy": 0.93})

A stage that was interrupted has no manifest and therefore does not count as done; its checkpoints stay for a resume.
"""

from __future__ import annotations

import datetime
import errno
import json
import os
import sys
import time
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from guardlib.config import PROFILES, Profile
from guardlib.fingerprint import NotebookFacts, data_digest, digest_of
from guardlib.freshness import NOT_READ, expected_fingerprint, input_digest, last_manifest, notebook_facts
from guardlib.paths import STAGES, figures_folder, project_root, stage_folder
from guardlib.report.provenance import (
    CHECKPOINTS,
    MANIFEST,
    Manifest,
    ManifestError,
    describe_machine,
    describe_outputs,
    discard_checkpoints,
    git_commit,
    missing_outputs,
    output_files,
    package_versions,
    peak_memory,
    plain_headline,
    read_manifest,
    rerun,
    retire_manifest,
    write_manifest,
)
from guardlib.settings import get_profile

if TYPE_CHECKING:
    import pandas as pd

DATA_STAGE = STAGES[0]


class StageError(RuntimeError):
    """A stage that cannot start, read its inputs or finish; one line that ends with the next command."""


def open_stage(stage: str, profile: str = "laptop", data: str = "", settings: dict | None = None) -> Stage:
    """Resolve the profile, make the stage's folder, retire its old manifest and print the run line.

    Args:
        stage: one of :data:`guardlib.paths.STAGES`.
        profile: a name in :data:`guardlib.config.PROFILES`.
        data: folder of a mirror; empty: ``$GUARDLIB_DATA``, and no mirror where that is unset too.
        settings: dotted config keys → values, on top of the profile.

    Raises:
        ConfigError: unknown profile or setting.
        StageError: unknown stage, a mirror that is no folder, or a folder that cannot be written.
    """
    if os.environ.get("GUARDLIB_HEADLESS"):
        plain_progress_bars()
    resolved = get_profile(profile, settings)
    root = project_root()
    try:
        folder, facts = stage_folder(profile, stage, root), notebook_facts(stage)
    except ValueError as error:
        raise StageError(str(error)) from None
    mirror = find_mirror(data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = Stage(
            stage, resolved, folder, root, mirror, expected_fingerprint(stage, resolved, mirror, root), facts
        )
    except OSError as error:
        raise StageError(disk_error(error, folder)) from None
    print(opened.run_line())
    return opened


def plain_progress_bars() -> None:
    """Make ``tqdm.auto`` draw text in this process: widgets would be lost, and the log would show no progress."""
    import tqdm.std

    plain = types.ModuleType("tqdm.autonotebook", "Text bars only.")
    plain.tqdm, plain.trange = tqdm.std.tqdm, tqdm.std.trange
    sys.modules.setdefault("tqdm.autonotebook", plain)


def find_mirror(data: str = "") -> Path | None:
    """The mirror's folder: ``data``, else ``$GUARDLIB_DATA``, else None. A relative one is also tried from the root.

    Raises:
        StageError: it is named but is no folder.
    """
    named, given = ("data", data) if data else ("GUARDLIB_DATA", os.environ.get("GUARDLIB_DATA", ""))
    if not given:
        return None
    path = Path(given).expanduser()
    for candidate in (path, project_root() / path):
        if candidate.is_dir():
            return candidate.resolve()
    raise StageError(
        f"{named} is {given!r}, which is no folder; expected a mirror that holds <owner>/<name>/, or run without it"
    )


def disk_error(error: OSError, folder: Path) -> str:
    """One line for a disk that is full, a folder that cannot be written, and the like."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return f"the disk of {folder} is full; free some space and run the same command again"
    where = error.filename or folder
    return (
        f"{where} cannot be written ({error.strerror or error}); expected a writable folder, e.g. GUARDLIB_HOME=~/tiny"
    )


def data_notes(sources: list[dict]) -> str:
    """One line on the data's origin from the rows of ``sources.json`` (name, origin, used, rows).

    >>> data_notes([{"origin": "built-in", "used": True, "rows": 1200}])
    'built-in corpus only: 1 sources, 1,200 rows'
    """
    parts = []
    names = {"built-in": "built-in corpus", "file": "own files"}
    for origin in ("mirror", "hub", "file", "built-in"):
        rows = [row["rows"] for row in sources if row["used"] and row["origin"] == origin]
        if rows:
            parts.append(f"{names.get(origin, origin)}: {len(rows)} sources, {sum(rows):,} rows")
    if len(parts) == 1:
        parts[0] = parts[0].replace("built-in corpus:", "built-in corpus only:")
    return "; ".join(parts) or "no data"


@dataclass(slots=True)
class Stage:
    """One notebook's run: where it reads, where it writes, and what it was asked to do. Made by :func:`open_stage`."""

    name: str
    profile: Profile
    _folder: Path
    root: Path
    _mirror: Path | None
    _fingerprint: dict
    _facts: NotebookFacts
    _inputs: dict[str, Manifest] = field(default_factory=dict)
    _reads_mirror: bool = False
    _draws_figures: bool = False
    _clock: float = field(default_factory=time.perf_counter)
    _started: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))
    _before: dict[str, tuple] = field(default_factory=dict)
    _writes: bool = False

    def __post_init__(self) -> None:
        self._before = {name: _stamp(path) for name, path in self._files().items()}

    @property
    def folder(self) -> Path:
        """Where the stage writes. Asking for it takes the sign of an earlier success away; opening a stage does not.

        Raises:
            StageError: it cannot be written.
        """
        if not self._writes:
            try:
                retire_manifest(self._folder)
                self.profile.save(self._folder / "profile.json")
            except OSError as error:
                raise StageError(disk_error(error, self._folder)) from None
            self._writes = True
        return self._folder

    @property
    def mirror(self) -> Path | None:
        """Folder of the data mirror, or None. Asking for it makes the stage depend on the mirror."""
        if not self._reads_mirror:
            self._reads_mirror = True
            self._fingerprint["data"] = data_digest(self._mirror, self.profile.data.files)
        return self._mirror

    @property
    def checkpoints(self) -> Path:
        """Folder for checkpoints: it survives an interrupted run and is no output."""
        path = self.folder / CHECKPOINTS
        path.mkdir(exist_ok=True)
        return path

    @property
    def figures(self) -> Path:
        """Folder of the paper's figures; what is written there after a stage asked for it is among its outputs."""
        path = figures_folder(self.profile.name, self.root)
        path.mkdir(parents=True, exist_ok=True)
        if not self._draws_figures:
            self._draws_figures = True
            self._before |= {name: _stamp(file) for name, file in self._figure_files().items()}
        return path

    @property
    def run_id(self) -> str:
        """Short name of this run: a hash of all it depends on, so the same run made twice has the same name."""
        return digest_of([self.name, self._fingerprint])[:10]

    @property
    def data_hash(self) -> str:
        """Short hash of the prepared data (``01_data``'s outputs) that this stage goes back to; "" without any."""
        return next((manifest.data_hash for manifest in self._upstream()), "")

    @property
    def notes(self) -> str:
        """One line on the data's origin, carried from ``01_data`` to every later stage."""
        if self.name == DATA_STAGE:
            return self._notes_of_sources()
        return "; ".join(dict.fromkeys(m.notes for m in self._upstream())) or "no data yet"

    def input(self, stage: str) -> Path:
        """The folder of an earlier stage, whose files are checked against its manifest.

        Raises:
            StageError: the stage does not exist, is not finished, or its files are not those it wrote.
        """
        if stage not in STAGES or stage == self.name:
            raise StageError(f"{self.name} reads {stage!r}; expected one of {', '.join(STAGES)}")
        folder = stage_folder(self.profile.name, stage, self.root)
        command = f"python run_all.py --profile {self.profile.name} --only {stage[:2]}"
        try:
            manifest = read_manifest(folder)
        except ManifestError as error:
            raise StageError(f"{self.name} needs {stage}: {error}") from None
        if manifest is None:
            raise StageError(f"{self.name} needs {stage}, which has no manifest at {folder / MANIFEST}; run: {command}")
        wrong = missing_outputs(manifest, folder, self.root, contents=True)
        wrong = [name for name in wrong if not name.startswith("/")]
        if wrong:
            raise StageError(f"{self.name} needs {stage}, whose {wrong[0]} is not what it wrote; {rerun(folder)}")
        for name, digest in manifest.inputs.items():
            if input_digest(self.profile.name, name, self.root) != digest:
                print(f"note: {stage} was made from another {name} than the one that is there now; {rerun(folder)}")
        self._inputs[stage] = manifest
        self._fingerprint["inputs"][stage] = manifest.digest
        return folder

    def provenance(self) -> dict[str, str]:
        """What a figure or table says about itself: stage, run, commit, profile, hash and origin of the data."""
        return {
            "stage": self.name,
            "run_id": self.run_id,
            "commit": git_commit(),
            "profile": self.profile.name,
            "data_hash": self.data_hash,
            "data": self.notes,
        }

    def run_line(self) -> str:
        """Versions, device, commit, seed and data, for the top of a notebook."""
        versions, machine = package_versions(), describe_machine()
        names = ("python", "guardlib", "torch", "onnxruntime", "numpy")
        device = machine["cuda"] or f"{machine['cpu']}, {machine['cores']} cores"
        rows = {
            "stage": f"{self.name}, profile {self.profile.name}, seed {self.profile.seed}, commit {git_commit()}",
            "versions": ", ".join(f"{name} {versions[name]}" for name in names if name in versions),
            "device": f"{device}, {machine['memory'] / 2**30:.0f} GiB",
            "data": self.notes,
        }
        return "\n".join(f"{name:<9} {value}" for name, value in rows.items())

    def finish(self, headline: dict | None = None, trained: bool = False) -> pd.DataFrame:
        """Hash what was written, write the manifest, and return the outputs as a table (file, bytes, sha256).

        Of a stage that ``trained``, the checkpoints are removed at the very end: whatever fails before, the next run
        goes on from them. Files of an earlier run that this one did not write again stay, but are no outputs of it.

        Raises:
            StageError: nothing was written, a headline value is no scalar, or the disk refuses.
        """
        import pandas as pd

        try:
            files = self._written()
            if set(files) <= {"profile.json"}:
                raise StageError(f"{self.name} wrote nothing to {self._folder}; expected results before stage.finish()")
            outputs = describe_outputs(files)
            write_manifest(self._folder, self._manifest(outputs, plain_headline(headline or {})))
        except OSError as error:
            raise StageError(disk_error(error, self._folder)) from None
        except ValueError as error:
            raise StageError(f"{self.name}: {error}") from None
        if trained:
            discard_checkpoints(self._folder)
        rows = [(name, row["bytes"], row["sha256"][:12]) for name, row in outputs.items()]
        return pd.DataFrame(rows, columns=["file", "bytes", "sha256"])

    def _files(self) -> dict[str, Path]:
        """Name as in the manifest → file: all in the stage's folder and, if it draws any, in the figures folder."""
        files = {path.relative_to(self._folder).as_posix(): path for path in output_files(self._folder)}
        return files | self._figure_files() if self._draws_figures else files

    def _figure_files(self) -> dict[str, Path]:
        figures = figures_folder(self.profile.name, self.root)
        return {
            "/" + path.relative_to(self.root).as_posix(): path
            for path in output_files(figures)
            if path.relative_to(figures).parts[0] not in PROFILES  # laptop's folder holds those of the others
        }

    def _written(self) -> dict[str, Path]:
        """Those of :meth:`_files` that were written since the stage was opened, or by a run that was cut short."""
        last = last_manifest(self._folder)
        since = datetime.datetime.fromisoformat(last.started).timestamp() if last else 0.0
        written, left = {}, []
        for name, path in self._files().items():
            touched = self._before.get(name) != _stamp(path)
            cut_short = not (last and name in last.outputs) and path.stat().st_mtime >= since
            if touched or (cut_short and not name.startswith("/")):
                written[name] = path
            elif not name.startswith("/"):
                left.append(name)
        if left:
            print(f"left out, since this run did not write them: {', '.join(left)}")
        return written

    def _manifest(self, outputs: dict, headline: dict) -> Manifest:
        """The manifest of this run; the fingerprint keeps only inputs that the notebook names or that were read."""
        fingerprint = dict(self._fingerprint)
        kept = {*self._facts.inputs, *self._inputs}
        fingerprint["inputs"] = {name: digest for name, digest in fingerprint["inputs"].items() if name in kept}
        if not (self._facts.reads_mirror or self._reads_mirror):
            fingerprint["data"] = NOT_READ
        own_hash = digest_of({name: row["sha256"] for name, row in outputs.items()})[:12]
        return Manifest(
            stage=self.name,
            profile=self.profile.to_dict(),
            seed=self.profile.seed,
            fingerprint=fingerprint,
            inputs={name: manifest.digest for name, manifest in self._inputs.items()},
            outputs=outputs,
            headline=headline,
            notes=self.notes,
            data_hash=own_hash if self.name == DATA_STAGE else self.data_hash,
            run_id=self.run_id,
            commit=git_commit(),
            versions=package_versions(),
            machine=describe_machine(),
            started=self._started.isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - self._clock, 3),
            peak_memory=peak_memory(),
            reads_mirror=self._reads_mirror,
        )

    def _upstream(self) -> list[Manifest]:
        """Manifests this stage goes back to: those it has read, else the data stage's."""
        if self._inputs or self.name == DATA_STAGE:
            return list(self._inputs.values())
        try:
            manifest = read_manifest(stage_folder(self.profile.name, DATA_STAGE, self.root))
        except ManifestError:
            return []
        return [manifest] if manifest else []

    def _notes_of_sources(self) -> str:
        """The data stage's own notes: from the ``sources.json`` it wrote; before that, where it is going to look."""
        path = self._folder / "sources.json"
        if path.is_file() and self._before.get(path.name) != _stamp(path):
            return data_notes(json.loads(path.read_text(encoding="utf-8")))
        return data_origin(self._mirror)


def data_origin(mirror: Path | None) -> str:
    """One line on where a run is going to look for data."""
    if mirror:
        return f"mirror {mirror}; sets it lacks from the Hub where it can be reached; the built-in corpus"
    return "no mirror; the Hub where it can be reached, and the built-in corpus"


def _stamp(path: Path) -> tuple:
    """Changes whenever a file is written, also to the same bytes or with a copied modification time."""
    status = path.stat()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
