"""Rows on disk, found and put in order without being held in memory."""

import json

import pytest

from scoreag.io.manifest import FORMAT, compute_seal, write_manifest
from scoreag.io.records import append_rows, seal_row, verify_row
from scoreag.io.resume import make_finder, resume_rows

FIELDS = {"image_id": (int,), "value": (int,)}


@pytest.mark.parametrize(
    "ids",
    [range(5), [7], [3, 4, 9, 10, 11], [9, 3, 4, 10, 2], [10**12, 0, 5], []],
    ids=["one run", "one id", "two runs", "unordered", "far apart", "none"],
)
def test_a_finder_knows_the_place_of_each_id_and_of_no_other(ids):
    find = make_finder([*ids])
    near = {other + step for other in ids for step in (-1, 0, 1)}
    assert {i: find(i) for i in near} == {i: [*ids].index(i) if i in ids else None for i in near}


def test_a_line_of_which_any_byte_changed_is_no_row():
    line = seal_row({"image_id": 3, "value": 1.5}, "seal")
    assert verify_row(line, "seal") == {"image_id": 3, "value": 1.5}
    assert verify_row(line, "other") is None
    for i in range(len(line)):
        assert verify_row(line[:i] + bytes([line[i] ^ 1]) + line[i + 1 :], "seal") is None
        assert verify_row(line[:i], "seal") is None


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity"])
def test_a_number_that_no_row_can_hold_is_refused_though_its_digest_holds(number):
    import hashlib

    text = f'{{"value": {number}}}'
    digest = hashlib.sha256(f"seal\n{text}".encode()).hexdigest()[:16]
    assert verify_row(f'{text[:-1]}, "digest": "{digest}"}}\n'.encode(), "seal") is None


class Bar:
    """A progress bar that shows nothing."""

    def __init__(self, done):
        self.done = done

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, count):
        self.done += count


def write_run(folder, count):
    manifest = {"format": FORMAT, "images": count}
    write_manifest(folder, {**manifest, "seal": compute_seal(manifest)})


def values(folder):
    return [json.loads(line)["value"] for line in (folder / "rows.jsonl").read_bytes().splitlines()]


def test_only_what_is_missing_is_computed_and_the_rows_are_in_order(tmp_path):
    write_run(tmp_path, 6)
    batches = [[5, 6], [7, 8], [1, 2]]
    computed = []

    def compute(numbers, advance):
        for number in numbers:
            computed.append(number)
            yield [{"image_id": i, "value": 10 * i} for i in batches[number]]

    append_rows(tmp_path, [{"image_id": i, "value": 10 * i} for i in (2, 1, 7, 99)])
    resume_rows(tmp_path, batches, FIELDS, compute, Bar)  # of the second batch half is there
    assert computed == [0, 1]
    assert values(tmp_path) == [50, 60, 70, 80, 10, 20]
    before = (tmp_path / "rows.jsonl").stat()
    assert resume_rows(tmp_path, batches, FIELDS, compute, Bar) == 0
    assert (tmp_path / "rows.jsonl").stat().st_mtime_ns == before.st_mtime_ns


def test_a_row_that_is_there_twice_is_there_once_afterwards(tmp_path):
    write_run(tmp_path, 2)
    append_rows(tmp_path, [{"image_id": i, "value": i} for i in (0, 1, 1)])
    resume_rows(tmp_path, [[0, 1]], FIELDS, lambda *given: [], Bar)
    assert values(tmp_path) == [0, 1]


def test_groups_that_arrive_in_any_order_give_the_same_file(tmp_path):
    batches = [[2 * i, 2 * i + 1] for i in range(5)]

    def compute(numbers, advance):
        for number in numbers:
            yield [{"image_id": i, "value": i} for i in batches[number]]

    def backwards(groups):
        yield from [(group, [*compute(group, None)]) for group in groups][::-1]

    texts = []
    for name, execute in (("serial", None), ("elsewhere", backwards)):
        (tmp_path / name).mkdir()
        write_run(tmp_path / name, 10)
        resume_rows(tmp_path / name, batches, FIELDS, compute, Bar, 3, execute=execute)
        texts.append((tmp_path / name / "rows.jsonl").read_bytes())
    assert texts[0] == texts[1] and values(tmp_path / "serial") == [*range(10)]
