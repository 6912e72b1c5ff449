"""The notebooks of examples/ run from the first cell to the last, on the installed package."""

import json
import os
import sys
from importlib import import_module
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))
TIMEOUT = 1800  # seconds a cell; on one idle core, a notebook takes less than a minute
PRINTED = {  # in the outputs of each: results that its text announces
    "attack_your_classifier": (r"\toprule", "fooled the classifier", "image/png"),
    "purify_and_attack_the_purifier": ("misclassified after purification", "image/png"),
    "image_folder_from_training_to_report": ("robust accuracy", "image/png"),
}


def code_cells(file: Path) -> list[dict]:
    return [c for c in json.loads(file.read_text())["cells"] if c["cell_type"] == "code"]


def test_each_notebook_is_tried():
    assert {file.stem for file in NOTEBOOKS} == {*PRINTED}


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_kept_without_outputs_and_installs_on_colab_only(file):
    cells = code_cells(file)
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
    first, *others = ["".join(cell["source"]) for cell in cells]
    assert 'if "google.colab" in sys.modules' in first and "%pip" in first
    assert not any("%pip" in source or "pip install" in source for source in others)


QUICK = "attack_your_classifier"  # the one that `make test` runs; `make notebooks` runs all
EACH = [
    pytest.param(file, id=file.stem, marks=() if file.stem == QUICK else pytest.mark.notebooks)
    for file in NOTEBOOKS
]


@pytest.mark.slow
@pytest.mark.parametrize("file", EACH)
def test_a_notebook_runs_on_the_installed_package(file, tmp_path, monkeypatch):
    nbformat, nbclient = import_module("nbformat"), import_module("nbclient")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = nbformat.read(file, as_version=4)
    client = nbclient.NotebookClient(
        book, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    outputs = json.dumps([cell.get("outputs", []) for cell in book.cells], ensure_ascii=False)
    for words in PRINTED[file.stem]:
        assert json.dumps(words)[1:-1] in outputs
