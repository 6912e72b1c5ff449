"""A run whose pictures are in shards: the same pictures and rows, however it was interrupted."""

import hashlib
import json
import os
import shutil
import tarfile

import pyarrow.parquet
import pytest
import torch

import tiny
from scoreag.data.image_folder import load_run
from scoreag.io import pictures, row_table
from scoreag.io.records import read_picture, read_rows
from scoreag.methods.run_batch import run_batch
from scoreag.methods.run_task import run_task
from scoreag.report.task_run import render_run_page

PLACES = {"file", "offset", "sha256", "original_file", "original_offset", "original_sha256"}
FORMS = ("webdataset", "parquet")


def run_small(job, folder, form, **more):
    """Batches of 4, of which two are a shard: the ten images are in a whole one and a short one."""
    options = {"write_every": 4, "batch_size": 4, "picture_format": form, **more}
    return run_task(job, folder, **options)


@pytest.fixture(scope="session")
def sharded(job, tmp_path_factory):
    """The run in each form, from one process that nothing interrupted."""
    before = torch.get_num_threads(), pictures.SHARD_IMAGES
    pictures.SHARD_IMAGES = 8
    torch.set_num_threads(1)
    folders = {form: tmp_path_factory.mktemp("sharded") / form for form in FORMS}
    for form, folder in folders.items():
        run_small(job, folder, form)
    torch.set_num_threads(before[0])
    pictures.SHARD_IMAGES = before[1]
    return folders


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(pictures, "SHARD_IMAGES", 8)


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


@pytest.fixture
def hurt(sharded, form, tmp_path):
    """A copy of it, to be changed."""
    shutil.copytree(sharded[form], tmp_path / "run")
    return tmp_path / "run"


def test_rows_are_those_of_single_files_except_for_the_places(finished, sharded, form):
    plain, rows = read_rows(finished), read_rows(sharded[form])
    for one, other in zip(plain, rows, strict=True):
        assert {k: v for k, v in one.items() if k not in PLACES} == {
            k: v for k, v in other.items() if k not in PLACES
        }
        assert one["sha256"] == other["sha256"]


def test_a_webdataset_shard_is_a_tar_archive_of_png_original_and_row(finished, sharded):
    with tarfile.open(sharded["webdataset"] / "images/000000.tar") as archive:
        found = {one.name: archive.extractfile(one).read() for one in archive}
    expected = [
        f"{i:06d}.{extension}"
        for i in range(20, 28)
        for extension in ("png", "original.png", "json")
    ]
    assert [*found] == expected
    assert found["000023.png"] == (finished / "images/000023.png").read_bytes()
    assert found["000023.original.png"] == (finished / "originals/000023.png").read_bytes()
    row = read_rows(finished)[3]
    assert json.loads(found["000023.json"]) == {k: v for k, v in row.items() if k not in PLACES}


def test_a_row_names_the_byte_at_which_its_picture_begins(sharded):
    for row in read_rows(sharded["webdataset"]):
        data = (sharded["webdataset"] / row["file"]).read_bytes()[row["offset"] :]
        assert data.startswith(b"\x89PNG")
        end = data.index(b"IEND") + 8
        assert hashlib.sha256(data[:end]).hexdigest() == row["sha256"]


def test_a_parquet_shard_is_a_table_of_pictures_and_labels(finished, sharded):
    table = pyarrow.parquet.read_table(sharded["parquet"] / "images/000001.parquet").to_pydict()
    rows = read_rows(finished)[8:]
    assert table["image_id"] == [28, 29]
    assert table["label"] == [row["label"] for row in rows]
    assert table["image"] == [(finished / row["file"]).read_bytes() for row in rows]
    assert table["original"] == [(finished / row["original_file"]).read_bytes() for row in rows]


def shard(folder, number):
    (file,) = folder.glob(f"images/{number:06d}.*")
    return file


def cut_the_last_line(folder):
    os.truncate(folder / "rows.jsonl", (folder / "rows.jsonl").stat().st_size - 20)


def lose_the_first_row(folder):
    lines = (folder / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "rows.jsonl").write_bytes(b"".join(lines[1:]))


def lose_all_rows(folder):
    (folder / "rows.jsonl").unlink()


def lose_a_shard(folder):
    shard(folder, 0).unlink()


def change_a_byte(folder):
    data = shard(folder, 0).read_bytes()
    middle = data.rindex(b"IDAT") + 8
    shard(folder, 0).write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


def cut_a_shard(folder):
    os.truncate(shard(folder, 1), shard(folder, 1).stat().st_size // 2)


def swap_the_shards(folder):
    first, second = (shard(folder, number) for number in (0, 1))
    content = first.read_bytes(), second.read_bytes()
    first.write_bytes(content[1])
    second.write_bytes(content[0])


DAMAGES = [
    cut_the_last_line, lose_the_first_row, lose_all_rows, lose_a_shard, change_a_byte, cut_a_shard,
    swap_the_shards,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_repaired_to_the_same_files(job, sharded, hurt, form, damage):
    damage(hurt)
    assert tiny.contents(hurt) != tiny.contents(sharded[form])
    run_small(job, hurt, form)
    assert tiny.contents(hurt) == tiny.contents(sharded[form])


@pytest.mark.parametrize("calls", [1, 2])
def test_an_unfinished_shard_is_completed(job, sharded, form, tmp_path, monkeypatch, calls):
    asked = []

    def stopped(piece, pad_to, advance):
        asked.append(piece)
        if len(asked) == calls + 1:
            raise KeyboardInterrupt
        return run_batch(piece, pad_to, advance)

    monkeypatch.setattr("scoreag.methods.run_task.run_batch", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_small(job, tmp_path, form)
    assert [file.suffix for file in (tmp_path / "images").iterdir()] == [
        ".part" if calls == 1 else shard(sharded[form], 0).suffix
    ]
    with (tmp_path / "images/000000.part").open("ab") as part:  # of a write that was killed
        part.write(b"half a member" if calls == 1 else b"")
    run_small(job, tmp_path, form)
    assert len(asked) == 4  # one was interrupted, and none was computed twice
    assert tiny.contents(tmp_path) == tiny.contents(sharded[form])


def test_a_run_that_was_killed_before_its_shard_was_finished_computes_nothing(
    job, sharded, form, tmp_path, monkeypatch
):
    monkeypatch.setattr(pictures.PictureShards, "commit", lambda store: None)
    run_small(job, tmp_path, form)
    assert {file.suffix for file in (tmp_path / "images").iterdir()} == {".part"}
    monkeypatch.undo()
    monkeypatch.setattr(pictures, "SHARD_IMAGES", 8)
    monkeypatch.setattr("scoreag.methods.run_task.run_batch", None)
    run_small(job, tmp_path, form)
    assert tiny.contents(tmp_path) == tiny.contents(sharded[form])


def test_another_format_is_another_run(job, hurt, form):
    with pytest.raises(ValueError, match=r"other settings: pictures\.\w+ was .* and is now None"):
        run_small(job, hurt, "png")


def test_overwriting_deletes_the_shards_of_the_run_and_no_other_file(job, hurt, form):
    mine = hurt / "images/mine.tar"
    mine.write_bytes(b"mine")
    run_small(job.select(range(2)), hurt, "png", overwrite=True)
    left = sorted(path.name for path in hurt.glob("images/*"))
    assert left == ["000020.png", "000021.png", "mine.tar"]


def test_the_images_are_data_for_another_run(finished, sharded, form):
    plain, source = load_run(str(finished)), load_run(str(sharded[form]))
    for one, other in zip(plain.read(range(10)), source.read(range(10)), strict=True):
        assert torch.equal(one, other)
    assert source.image_ids == plain.image_ids


def test_the_report_shows_the_pictures_of_single_files(finished, sharded, form):
    def shown(folder):
        return [part.split('"')[0] for part in render_run_page(folder).split("data:image/png")[1:]]

    assert shown(sharded[form]) == shown(finished) != []


def test_a_picture_that_was_changed_is_not_shown(hurt):
    change_a_byte(hurt)
    with pytest.raises(ValueError, match=r"is not what the run wrote|is no whole Parquet"):
        render_run_page(hurt)


@pytest.mark.parametrize("offset", [-5, 300, 10**30])
def test_a_crafted_place_ends_in_one_line(hurt, offset):
    with pytest.raises(ValueError, match=r"has no picture"):
        read_picture(hurt, read_rows(hurt)[0] | {"offset": offset})


def test_a_large_run_of_single_files_has_folders_of_a_thousand_ids(
    job, finished, tmp_path, monkeypatch
):
    monkeypatch.setattr(pictures, "MAX_FLAT_IMAGES", 9)
    run_small(job, tmp_path, "png")
    names = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")]
    assert "images/000xxx/000020.png" in names and len(names) == 20
    (tmp_path / "images/000xxx/000025.png").unlink()
    run_small(job, tmp_path, "png")
    plain = {path.name: path.read_bytes() for path in finished.glob("images/*.png")}
    assert {p.name: p.read_bytes() for p in tmp_path.glob("images/000xxx/*")} == plain
    run_small(job.select(range(2)), tmp_path, "png", overwrite=True)
    assert len([*tmp_path.rglob("*.png")]) == 4


def test_groups_may_arrive_in_any_order(job, sharded, form, tmp_path, monkeypatch):
    from scoreag.methods import run_task as module

    def backwards(function, shared, tasks, options):
        yield from [(key, function(shared, argument)) for key, argument in tasks][::-1]

    monkeypatch.setattr(module, "run_on_ray", backwards)
    run_small(job, tmp_path, form, ray=module.RayOptions("local"))
    assert tiny.contents(tmp_path) == tiny.contents(sharded[form])


def test_the_rows_of_a_large_run_are_a_parquet_table_too(job, tmp_path, monkeypatch):
    monkeypatch.setattr(row_table, "MIN_ROWS", 9)
    monkeypatch.setattr(row_table, "_GROUP", 4)
    run_small(job, tmp_path, "png")
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pydict()
    for i, row in enumerate(read_rows(tmp_path)):
        assert table["image_id"][i] == row["image_id"]
        assert table["predictions.saved"][i] == row["predictions"]["saved"]
        assert table["distances.linf"][i] == row["distances"]["linf"]
        assert json.loads(table["probabilities.saved"][i]) == row["probabilities"]["saved"]
        assert table["success"][i] is row["success"] and table["found"][i] is None
    assert len(table["image_id"]) == 10
