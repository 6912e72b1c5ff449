import json

import pytest

import tiny
from scoreag import transform
from scoreag.data.loading import load_dataset
from scoreag.io.images import to_uint8
from scoreag.io.records import read_rows as rows


@pytest.fixture
def result():
    ids = [7, 9, 11]
    given = tiny.images(3), tiny.labels(3)
    return transform(
        tiny.prior(), tiny.victim(), *given, image_ids=ids, batch_size=4, progress=False
    )


def test_a_saved_result_is_a_run_that_can_be_read_again(result, tmp_path):
    result.save(tmp_path / "run")
    again = load_dataset(str(tmp_path / "run"))
    assert again.image_ids == (7, 9, 11)
    assert (again.images == to_uint8(result.images)).all()
    assert again.labels.tolist() == result.labels.tolist()


def test_its_rows_say_what_the_result_says(result, tmp_path):
    result.save(tmp_path)
    found = rows(tmp_path)
    assert [r["success"] for r in found] == result.success.tolist()
    assert [r["predictions"]["before"] for r in found] == result.clean_predictions.tolist()
    assert [r["nfe"] for r in found] == result.nfe.tolist()
    figures = json.loads((tmp_path / "summary.json").read_text())
    assert figures["rates"]["clean_accuracy"]["total"] == 3


def test_a_folder_with_something_in_it_is_refused(result, tmp_path):
    result.save(tmp_path)
    with pytest.raises(ValueError, match="is not empty"):
        result.save(tmp_path)
    result[:1].save(tmp_path, overwrite=True)
    assert len(rows(tmp_path)) == 1
