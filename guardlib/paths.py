"""Where every artifact lives: ``<root>/artifacts/<profile>/<NN_stage>/…`` and ``<root>/figures/``."""

from __future__ import annotations

import os
from pathlib import Path

#: The guard that the package carries.
RELEASE = Path(__file__).resolve().parent / "runtime" / "release"

STAGES = (
    "01_data",
    "02_dry_run",
    "03_train",
    "04_router_analysis",
    "05_benchmarks",
    "06_quantize_onnx",
    "07_cpu_latency",
    "08_paper_figures",
)

#: Stages that nothing else reads; they run with ``--all`` or by their number.
APPENDIX = ("09_distillation",)


def project_root() -> Path:
    """The folder that holds ``artifacts/`` and ``figures/``: ``$GUARDLIB_HOME``, the checkout, or the working folder.

    A notebook may be started from ``notebooks/`` or from the root, so the checkout is looked for upwards.
    """
    home = os.environ.get("GUARDLIB_HOME")
    if home:
        return Path(home).expanduser().resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "run_all.py").is_file() and (folder / "notebooks").is_dir():
            return folder
    return here


def stage_folder(profile: str, stage: str, root: Path | None = None) -> Path:
    """``artifacts/<profile>/<stage>``; raises ValueError for a stage that does not exist."""
    if stage not in STAGES + APPENDIX:
        raise ValueError(f"stage {stage!r} does not exist; expected one of {', '.join(STAGES + APPENDIX)}")
    return (root or project_root()) / "artifacts" / profile / stage


def run_again(place: str | Path, stage: str) -> str:
    """The command that runs ``stage`` and all after it in the profile whose artifacts ``place`` belongs to, if any."""
    parts = Path(place).resolve().parts
    at = len(parts) - parts[::-1].index("artifacts") if "artifacts" in parts else len(parts)  # the last of them
    profile = f"--profile {parts[at]} " if at < len(parts) else ""
    return f"run: python run_all.py {profile}--from {stage[:2]}"


def figures_folder(profile: str, root: Path | None = None) -> Path:
    """Paper figures of the default profile go to ``figures/``; those of other profiles to ``figures/<profile>/``."""
    base = (root or project_root()) / "figures"
    return base if profile == "laptop" else base / profile
