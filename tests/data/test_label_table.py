"""labels.csv as spreadsheets and scripts write it, and what is refused with its line."""

from pathlib import Path

import pytest
from PIL import Image

from scoreag.data import loading as data

NAMES = ("bär.png", "b.png", "c.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "toads"
    folder.mkdir()
    for name in NAMES:
        Image.new("RGB", (4, 4)).save(folder / name)
    return folder


def labeled(folder: Path, *rows: str, head: str = "file,label") -> data.Dataset:
    (folder / "labels.csv").write_text("".join(f"{row}\n" for row in (head, *rows)))
    return data.load_dataset(folder)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_every_way_in_which_excel_saves_is_read(
    folder: Path, encoding: str, separator: str
) -> None:
    rows = [("file", "label"), ("bär.png", "Kröte"), ("b.png", "Frosch")]
    text = "".join(f"{separator.join(row)}\r\n" for row in rows)
    (folder / "labels.csv").write_bytes(text.encode(encoding))
    came = data.load_dataset(folder)
    assert (came.files, came.classes) == (("bär.png", "b.png"), ("Frosch", "Kröte"))
    assert came.counts == {"Frosch": 1, "Kröte": 1}


def test_big_endian_is_read_by_its_mark(folder: Path) -> None:
    text = "file,label\nb.png,toad\n"
    (folder / "labels.csv").write_bytes(b"\xfe\xff" + text.encode("utf-16-be"))
    assert data.load_dataset(folder).classes == ("toad",)


@pytest.mark.parametrize("raw", [b"\x00\x01", "file,label\nb.png,a\n".encode("utf-16-le"), b"\x81"])
def test_what_is_no_text_is_refused(folder: Path, raw: bytes) -> None:
    (folder / "labels.csv").write_bytes(raw)
    with pytest.raises(ValueError, match=r"labels\.csv is no text in UTF-8, UTF-16 or"):
        data.load_dataset(folder)


def test_quotes_and_blank_lines_count_in_the_number_of_the_line(folder: Path) -> None:
    rows = ['"b.png","a toad, ""old"""', "", '"c.png","two\nlines"']
    assert labeled(folder, *rows).classes == ('a toad, "old"', "two\nlines")
    with pytest.raises(ValueError, match=r"labels\.csv, line 6, names 'd\.png'"):
        labeled(folder, *rows, "d.png,toad")


@pytest.mark.parametrize(
    "file",
    ["{folder}/b.png", "../toads/b.png", "sub/../b.png", "C:\\toads\\b.png", "..\\toads\\b.png"],
)
def test_a_path_that_is_not_inside_the_folder_is_refused_with_its_line(
    folder: Path, file: str
) -> None:
    with pytest.raises(
        ValueError, match=r"^\S+labels\.csv, line 3: .* write it relative to [^\n]+$"
    ):
        labeled(folder, "c.png,toad", f"{file.format(folder=folder)},toad")


@pytest.mark.parametrize("file", ["{folder}/b.png", "../toads/b.png", "sub/../b.png"])
def test_a_path_that_leads_into_the_folder_gets_the_word_to_write(folder: Path, file: str) -> None:
    with pytest.raises(ValueError, match=r"write it relative to \S+toads, 'b\.png'$"):
        labeled(folder, f"{file.format(folder=folder)},toad")
    with pytest.raises(ValueError, match=r"write it relative to \S+toads$"):
        labeled(folder, "C:\\toads\\b.png,toad")


def test_the_slashes_of_windows_get_a_hint(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"line 2, names .* is not there; write 'sub/b\.png'"):
        labeled(folder, "sub\\b.png,toad")


@pytest.mark.parametrize("stray", ["-1", "2.0", "unknown", "1e3", "²", "9" * 19])
def test_a_stray_label_among_numbers_is_told_with_its_line(folder: Path, stray: str) -> None:
    with pytest.raises(ValueError, match=rf"labels\.csv, line 3: the label '{stray}' is "):
        labeled(folder, "c.png,10", f"b.png,{stray}")


@pytest.mark.parametrize(
    "stray, advice",
    [("2.0", "; write 2, or write names"), ("+3.", "; write 3, or"), ("2.5", "; give its class a"),
     ("-1", "; give its class a number, or leave it out, or write names everywhere$")],
)  # fmt: skip
def test_the_advice_on_a_stray_label_fits_it(folder: Path, stray: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        labeled(folder, "c.png,10", f"b.png,{stray}")


@pytest.mark.parametrize("labels", [["-1", "-1"], ["2.0", "10.0"], ["+1", "1."]])
def test_numbers_that_count_no_class_are_no_names(folder: Path, labels: list[str]) -> None:
    with pytest.raises(ValueError, match=r"line 2: the label .* is no whole number of 0 or more"):
        labeled(folder, f"b.png,{labels[0]}", f"c.png,{labels[1]}")


def test_names_that_have_digits_are_names(folder: Path) -> None:
    assert labeled(folder, "b.png,n01440764", "c.png,3d").classes == ("3d", "n01440764")


def test_a_class_that_is_not_of_the_model_is_told_with_its_line(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,label\nb.png,toad\nc.png,taod\n")
    with pytest.raises(ValueError, match=r"line 3: no class 'taod'; did you mean 'toad'"):
        data.load_dataset(folder, classes=("frog", "toad"))


def test_folders_that_mix_numbers_and_names_are_refused(tmp_path: Path) -> None:
    for name in ("2", "10", "unknown"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "a.png")
    with pytest.raises(ValueError, match=r"/unknown: the label 'unknown' is no whole number"):
        data.load_dataset(tmp_path)


def test_a_picture_with_two_labels_is_refused_and_one_that_is_named_twice_is_not(
    folder: Path,
) -> None:
    assert len(labeled(folder, "b.png,toad", "b.png,toad")) == 2
    with pytest.raises(ValueError, match=r"line 3: 'b\.png' has the label 'frog', and 'toad' in l"):
        labeled(folder, "b.png,toad", "b.png,frog")


def test_a_model_whose_classes_are_numbers_takes_names_by_the_alphabet(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,label\nb.png,toad\nc.png,frog\n")
    came = data.load_dataset(folder, classes=("0", "1", "2"))
    assert came.labels is not None
    assert (came.labels.tolist(), came.classes) == ([1, 0], ("frog", "toad"))
    with pytest.raises(ValueError, match="2 classes by name, and the model has 1"):
        data.load_dataset(folder, classes=("0",))
