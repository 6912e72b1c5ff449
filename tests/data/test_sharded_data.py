"""Archives and tables of others as data: what WebDataset and Hugging Face write."""

import io
import json
import tarfile

import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from scoreag.data.loading import load_dataset


def png(value, size=(4, 4), mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, 10, 20)).save(file, "PNG")
    return file.getvalue()


def write_tar(path, members):
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return path


def write_table(path, **more):
    columns = {"image": [{"bytes": png(v), "path": None} for v in (1, 2, 3)], "label": [1, 0, 1]}
    table = pyarrow.table({**columns, **more})
    pyarrow.parquet.write_table(table, path, row_group_size=2)
    return path


def reds(data):
    return data.images[:, 0, 0, 0].tolist()


def test_pictures_and_labels_of_archives_come_in_the_order_of_their_files(tmp_path):
    write_tar(tmp_path / "b.tar", [("7.png", png(30)), ("7.cls", b"2\n")])
    write_tar(tmp_path / "a.tar", [
        ("x/1.json", json.dumps({"label": 1, "text": "?"}).encode()), ("x/1.png", png(10)),
        ("x/1.original.png", png(99)), ("y/1.cls", b"0"), ("y/1.PNG", png(20)),
        ("notes.txt", b"not a picture"),
    ])  # fmt: skip
    data = load_dataset(f"webdataset:{tmp_path}")
    assert reds(data) == [10, 20, 30] and data.labels.tolist() == [1, 0, 2]
    assert data.image_ids == (0, 1, 2)
    part = load_dataset(f"webdataset:{tmp_path}[1:3]")
    assert reds(part) == [20, 30] and part.image_ids == (1, 2)


def test_a_path_of_an_archive_or_a_table_needs_no_prefix(tmp_path):
    write_tar(tmp_path / "a.tar", [("1.png", png(10))])
    assert load_dataset(tmp_path / "a.tar").labels is None
    assert reds(load_dataset(write_table(tmp_path / "a.parquet"))) == [1, 2, 3]


def test_labels_by_name_are_numbered_by_the_classes(tmp_path):
    write_tar(tmp_path / "a.tar", [("1.png", png(1)), ("1.cls", b"dog"), ("2.cls", b"cat"),
                                   ("2.png", png(2))])  # fmt: skip
    data = load_dataset(f"webdataset:{tmp_path / 'a.tar'}", classes=("bird", "cat", "dog"))
    assert data.labels.tolist() == [2, 1]


def test_gray_pictures_become_rgb_among_others_and_sizes_must_be_alike(tmp_path):
    mixed = [("1.png", png(5, mode="L")), ("2.png", png(6))]
    data = load_dataset(write_tar(tmp_path / "a.tar", mixed))
    assert data.images[0].tolist() == torch.full((3, 4, 4), 5).tolist()
    write_tar(tmp_path / "b.tar", [("1.png", png(5)), ("2.png", png(6, (8, 4)))])
    with pytest.raises(ValueError, match=r"is 4 x 8, and the first is 4 x 4: .*--size"):
        load_dataset(tmp_path / "b.tar")
    assert load_dataset(tmp_path / "b.tar", size=(4, 4)).images.shape == (2, 3, 4, 4)


def test_a_table_is_read_over_its_groups_and_files(tmp_path):
    write_table(tmp_path / "a.parquet")
    write_table(tmp_path / "b.parquet", image=[png(v) for v in (4, 5, 6)], label=[0, 0, 0])
    data = load_dataset(f"parquet:{tmp_path}[1:5]")
    assert reds(data) == [2, 3, 4, 5] and data.labels.tolist() == [0, 1, 0, 0]


def test_the_class_names_of_a_hugging_face_table_are_read(tmp_path):
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.table({"img": [png(1), png(2)], "label": [1, 0]})
    pyarrow.parquet.write_table(table.replace_schema_metadata(about), tmp_path / "a.parquet")
    data = load_dataset(tmp_path / "a.parquet")
    assert data.classes == ("cat", "dog") and data.labels.tolist() == [1, 0]
    other = load_dataset(tmp_path / "a.parquet", classes=("dog", "cat"))
    assert other.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "members, message",
    [
        ([("1.png", png(1)), ("1.cls", b"0"), ("2.png", png(2))], "2 pictures and 1 labels"),
        ([("a.txt", b"")], "has no pictures"),
        ([("1.png", b"nothing")], "picture 0 of .* is no whole"),
        ([("1.png", png(1)), ("1.json", b"{")], r"1\.json is no JSON"),
        ([("1.png", png(1)), ("1.cls", bytes(2 << 20))], "too many for a label"),
    ],
)
def test_what_is_wrong_with_an_archive_is_said(tmp_path, members, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(write_tar(tmp_path / "a.tar", members))


@pytest.mark.parametrize("name", ["a.tar", "a.parquet"])
def test_a_damaged_file_ends_in_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"not what the name says" * 100)
    with pytest.raises(ValueError, match="is no whole"):
        load_dataset(tmp_path / name)


def test_a_table_without_pictures_and_a_missing_path_are_refused(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="has no column 'image'; it has: text"):
        load_dataset(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"no \.tar files at"):
        load_dataset(f"webdataset:{tmp_path / 'none'}")


def test_a_range_of_gray_pictures_has_the_colors_of_all(tmp_path):
    gray = [(f"{i}.png", png(5, mode="L")) for i in (1, 2, 3)]
    path = write_tar(tmp_path / "a.tar", [*gray, *[(f"{i}.png", png(6)) for i in (4, 5, 6)]])
    for part in ("[0:2]", "[2:4]", "[4:6]"):
        assert load_dataset(f"{path}{part}").images.shape == (2, 3, 4, 4)
    path = write_tar(tmp_path / "b.tar", [*gray, ("4.png", png(6))])
    assert load_dataset(f"{path}[0:3]").images.shape == (3, 1, 4, 4)
    with pytest.raises(ValueError, match=r"picture 3 of \S+b\.tar' is in color, and most .* gray"):
        load_dataset(path)


def test_a_sample_without_a_picture_is_told_and_shifts_no_label(tmp_path):
    members = [("1.png", png(1)), ("1.cls", b"0"), ("2.gif", b"GIF89a"), ("2.cls", b"7"),
               ("3.cls", b"1"), ("3.png", png(3))]  # fmt: skip
    data = load_dataset(write_tar(tmp_path / "a.tar", members))
    assert reds(data) == [1, 3] and data.labels.tolist() == [0, 1]
    assert data.skipped == {"no picture that is read": ("2.gif",)}
    other = load_dataset(write_tar(tmp_path / "b.tar", [("1.png", png(1)), ("2.cls", b"5")]))
    assert other.labels is None and "1 no picture that is read (2.cls)" in other.summary


def test_hidden_members_are_no_pictures(tmp_path):
    members = [("./a/1.png", png(1)), ("./a/.ipynb_checkpoints/1-checkpoint.png", png(2)),
               ("./a/._1.png", png(3))]  # fmt: skip
    data = load_dataset(write_tar(tmp_path / "a.tar", members))
    assert reds(data) == [1] and list(map(len, data.skipped.values())) == [2]
    path = write_tar(tmp_path / "b.tar", members[1:])
    with pytest.raises(ValueError, match=r"has no pictures .*; 2 hidden, e\.g\. \./a/\.ipynb"):
        load_dataset(path)


def test_a_wrong_label_is_told_with_its_place(tmp_path):
    members = [("1.png", png(1)), ("1.cls", b"3"), ("2.png", png(2)), ("2.cls", b"-1")]
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(ValueError, match=r"^picture 1 of \S+a\.tar: the label '-1' is no whole"):
        load_dataset(path)
    table = write_table(tmp_path / "a.parquet", label=["cat", "\u00b2", "dog"])
    with pytest.raises(ValueError, match=r"^line 1 of \S+a\.parquet: no class '\u00b2'"):
        load_dataset(table, classes=("cat", "dog"))


def test_a_label_that_only_looks_like_a_number_is_no_class_of_a_hugging_face_table(tmp_path):
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.table({"img": [png(1), png(2)], "label": ["1", "\u00b2"]})
    pyarrow.parquet.write_table(table.replace_schema_metadata(about), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"^line 1 of .*: no class"):
        load_dataset(tmp_path / "a.parquet")
