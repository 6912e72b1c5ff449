"""Weights in several files."""

from pathlib import Path

import pytest
import torch

import tiny
from scoreag.io.filesystem import file_sha256
from scoreag.models.model_cards import (
    load_card,
    read_stored_weights,
    read_weights,
    update_card,
    write_card,
)
from scoreag.models.safetensors import split_shards


def alter(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.fixture
def sharded(tmp_path) -> Path:
    """A classifier whose weights are in two files, each of at most 80 % of all bytes."""
    folder = tiny.write_classifier(tmp_path / "net")
    found = read_stored_weights(load_card(folder))
    most = sum(t.numel() * t.element_size() for t in found.values()) * 8 // 10
    made = write_card(load_card(folder), found, max_shard_size=most)
    assert list(made.weight_files) == ["model-1-of-2.safetensors", "model-2-of-2.safetensors"]
    (folder / "model.safetensors").unlink()
    return folder


def test_weights_in_shards_are_those_that_were_written(sharded, tmp_path):
    found, wanted = (
        read_weights(load_card(sharded)),
        read_weights(load_card(tiny.write_classifier(tmp_path / "one"))),
    )
    assert set(found) == set(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_stored_tensors_come_in_one_order(tmp_path):
    """So that what is cut into shards again is cut alike."""
    folder = tiny.write_classifier(tmp_path / "net")
    orders = {tuple(read_stored_weights(load_card(folder))) for _ in range(20)}
    assert len(orders) == 1 and list(next(iter(orders))) == sorted(next(iter(orders)))


def test_a_file_is_filled_up_to_its_limit_and_no_further():
    """Of tensors of 12, 8, 8 and 4 bytes, 20 go into the first file, and 12 into the second."""
    given = {name: torch.zeros(n) for name, n in zip("abcd", (3, 2, 2, 1), strict=True)}
    assert [list(part) for part in split_shards(given, 20)] == [["a", "b"], ["c", "d"]]
    assert [list(part) for part in split_shards(given, 32)] == [["a", "b", "c", "d"]]


@pytest.mark.parametrize(
    "damage, message",
    [
        (Path.unlink, "net: its weights .*model-2-of-2.safetensors are missing"),
        (alter, "net: .*model-2-of-2.safetensors was altered: its sha256 is"),
        (
            lambda f: f.write_bytes(f.read_bytes()[:-100]),
            r"net: .*model-2-of-2.safetensors is cut short: \d+ of \d+ bytes",
        ),
    ],
)
def test_a_missing_or_altered_shard_is_refused_by_its_hash(sharded, damage, message):
    damage(sharded / "model-2-of-2.safetensors")
    with pytest.raises(ValueError, match=message):
        read_weights(load_card(sharded))


def test_an_altered_list_of_shards_is_refused(sharded):
    """Another file with a digest that fits does not make the card's model."""
    made = load_card(sharded)
    name = "model-2-of-2.safetensors"
    alter(sharded / name)
    update_card(made, weight_files={**made.weight_files, name: file_sha256(sharded / name)})
    with pytest.raises(ValueError, match="net: its list of shards was altered: their sha256"):
        read_weights(load_card(sharded))


def test_a_tensor_that_fits_into_no_shard_is_named():
    with pytest.raises(ValueError, match=r"linear.weight has 104 bytes, and a file may have 100"):
        split_shards({"linear.weight": torch.zeros(26)}, 100)
