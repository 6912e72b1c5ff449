"""What the three tasks check of their data before they load or compute anything."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scoreag.dataset import Dataset
from scoreag.verbs.tasks import about, check_apart, check_classes


def labelled(*classes: str) -> Dataset:
    pixels = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    return Dataset(pixels, torch.tensor([0]), (7,), classes, "folder:pets", ("cat/a.png",))


@pytest.mark.parametrize("spec", ["gat", "gat[0:2]", "folder:gat", "gat/images", "./gat/../gat"])
def test_data_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gat" / "images").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"is read from --out gat itself.*give another --out"):
        check_apart(SimpleNamespace(data=spec, out="gat"))
    check_apart(SimpleNamespace(data=spec, out="gat2"))


def test_data_of_other_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="classes of folder:pets are 0 cat, 1 dog, those of the m"):
        check_classes(labelled("cat", "dog"), ("dog", "cat"))


@pytest.mark.parametrize("classes", [("cat", "dog"), (), ("0", "1")])
def test_the_same_classes_or_nameless_ones_are_taken(classes: tuple[str, ...]) -> None:
    check_classes(labelled("cat", "dog"), classes)
    check_classes(labelled(*classes), ("cat", "dog"))


def test_manifest_and_rows_are_told_where_the_data_is_from() -> None:
    told = about(labelled())
    assert told["data"]["name"] == "folder:pets" and told["sources"] == {7: "cat/a.png"}
