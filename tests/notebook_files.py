"""Small notebooks for tests, of the same form as the real ones."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PARAMETERS = 'profile = "laptop"\ndata = ""\nsettings = {}'
OPEN = """from guardlib.workbook import open_stage

stage = open_stage("{stage}", profile=profile, data=data, settings=settings)"""
FINISH = 'stage.finish(headline={"answer": 42})'
WRITE = '(stage.folder / "result.txt").write_text("{text}")'


def write_notebook(home: Path, stage: str, *body: str, parameters: str = PARAMETERS, last: str = FINISH) -> Path:
    """``<home>/notebooks/<stage>.ipynb`` with ``body`` before its last cell; without a body it writes one file."""
    cells = [
        new_markdown_cell(f"# {stage}"),
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        new_code_cell(OPEN.format(stage=stage)),
        *(new_code_cell(source) for source in body or (WRITE.format(text=stage),)),
        new_code_cell(last),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = home / "notebooks" / f"{stage}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path
