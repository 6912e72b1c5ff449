import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scoreag.classifiers.loading import load_card_classifier
from scoreag.classifiers.networks.small_cnn import PlainCNN
from scoreag.models.model_cards import (
    ZOO,
    Card,
    list_cards,
    load_card,
    load_weights,
    read_weights,
    to_toml,
    update_card,
    write_card,
)

OPTIONS = {"image_shape": [3, 8, 8], "convolutions": [[4, 4, 2]], "hidden": 8}


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PlainCNN(**OPTIONS).eval()


@pytest.fixture
def folder(tmp_path, network) -> Path:
    """A user's folder with a card and weights."""
    write_card(
        Card(
            name="mine",
            kind="classifier",
            network="small_cnn",
            file="model.safetensors",
            license="MIT",
            image_shape=(3, 8, 8),
            classes=tuple("abcdefghij"),
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
            options=OPTIONS,
            folder=tmp_path / "mine",
        ),
        network.state_dict(),
    )
    return tmp_path / "mine"


def test_a_written_card_is_read_back(folder):
    found = load_card(folder)
    assert (found.name, found.kind, found.image_shape) == ("mine", "classifier", (3, 8, 8))
    assert found.classes == tuple("abcdefghij") and found.options == OPTIONS
    assert load_card(folder / "card.toml") == found == load_card(str(folder))


def test_the_network_comes_back_with_its_weights(folder, network):
    x = torch.rand(2, 3, 8, 8)
    loaded = load_card_classifier(load_card(folder))
    assert torch.equal(loaded(x), network(x)) and not loaded.training


def test_half_precision_is_widened_and_keeps_eleven_bits(folder, network):
    kept = read_weights(write_card(load_card(folder), network.state_dict(), fp16=True))
    assert kept["convolutions.1.num_batches_tracked"].dtype == torch.int64
    assert kept["linear.weight"].dtype == torch.float32
    torch.testing.assert_close(kept["linear.weight"], network.linear.weight, rtol=2**-11, atol=0)


def test_the_same_weights_give_the_same_file(folder, network):
    assert write_card(load_card(folder), network.state_dict()).sha256 == load_card(folder).sha256


def test_figures_are_added_without_a_change_to_the_rest(folder):
    before = load_card(folder)
    figures = {"test": {"accuracy": {"value": 0.9, "count": 9, "total": 10, "of": "images"}}}
    update_card(before, metrics=figures)
    assert load_card(folder) == replace(before, metrics=figures)


def test_figures_stay_as_long_as_the_weights_do(folder, network):
    """A training that is done exports its card again when it is asked for again."""
    figures = {"test": {"accuracy": {"value": 0.9, "count": 9, "total": 10, "of": "images"}}}
    update_card(load_card(folder), metrics=figures)
    again = replace(load_card(folder), metrics={})
    assert write_card(again, network.state_dict()).metrics == load_card(folder).metrics == figures
    network.linear.bias.data += 1
    assert write_card(again, network.state_dict()).metrics == load_card(folder).metrics == {}


def test_entries_survive_being_written_and_read():
    entries = {
        "text": 'a "quoted" \\ line\nand another, ä',
        "numbers": [1, 2.5, 1e-7, -0.0],
        "nested": [[0.6, 24], [1.0, 32]],
        "yes": True,
        "a table": {"x": 1, "deeper": {"y": "z"}},
        "only": {"tables": {"inside": {"v": 3}}},
    }
    assert tomllib.loads(to_toml(entries)) == entries


@pytest.mark.parametrize(
    "text", ["\U0001f98a", "fähre", "a.b", "", "\x7f\x00\r", 'say "x"', "日本"]
)
def test_any_text_can_be_a_name_and_a_value(text):
    entries = {text: text, "table": {text: [text]}}
    assert tomllib.loads(to_toml(entries)) == entries


def test_half_a_character_of_a_files_name_is_written_out():
    """Python reads a name that is no UTF-8 so, and no file can hold it."""
    written = to_toml({"name": "run-\udcff"})
    assert tomllib.loads(written.encode().decode())["name"] == "run-\\udcff"


def test_what_is_nothing_is_left_out_and_infinity_is_kept():
    found = tomllib.loads(to_toml({"a": None, "b": {}, "c": {"d": None}, "e": float("inf")}))
    assert found == {"e": float("inf")}


def test_a_card_of_classes_in_any_script_is_read_back(folder):
    names = ("\U0001f98a", "日本", *"cdefghij")
    update_card(load_card(folder), classes=names, training_config={"fähre": 1})
    assert load_card(folder).classes == names and load_card(folder).training_config == {"fähre": 1}


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def cut_in_the_header(file):
    file.write_bytes(file.read_bytes()[:60])


def alter(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage, message",
    [
        (Path.unlink, "model.safetensors are missing"),
        (alter, "was altered: its sha256 is [0-9a-f]{64}, the card says [0-9a-f]{64}"),
        (cut, r"is cut short: \d+ of \d+ bytes"),
        (cut_in_the_header, "is cut short: 60 bytes, its header alone has"),
        (lambda f: f.write_bytes(b"\n<!DOCTYPE html><html>Not found"), "is an HTML page"),
        (
            lambda f: f.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
            "is a pointer of git-lfs",
        ),
        (lambda f: f.write_bytes(b""), "is no safetensors file"),
        (lambda f: f.write_bytes(b"PK\x03\x04 this is a zip archive"), "is no safetensors file"),
    ],
)
def test_weights_that_are_not_whole_are_refused_by_one_line(folder, damage, message):
    damage(folder / "model.safetensors")
    with pytest.raises(ValueError, match=message) as caught:
        read_weights(load_card(folder))
    assert "\n" not in str(caught.value) and "mine" in str(caught.value)


def without(entry):
    return lambda text: "\n".join(line for line in text.split("\n") if not line.startswith(entry))


@pytest.mark.parametrize(
    "change, message",
    [
        (without("network ="), "lacks the entry 'network'"),
        (lambda text: 'licenses = "MIT"\n' + text, "an entry 'licenses'; did you mean 'license'"),
        (lambda text: text.replace('"classifier"', '"clasifier"'), "did you mean 'classifier'"),
        (lambda text: text + "\n[oops", "is no card: "),
    ],
)
def test_a_card_with_a_mistake_is_refused(folder, change, message):
    file = folder / "card.toml"
    file.write_text(change(file.read_text()))
    with pytest.raises(ValueError, match=message):
        load_card(folder)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("linear.bias"), "mine: the weights lack 'linear.bias'"),
        (
            lambda t: t.update({"linear.biass": torch.ones(1)}),
            "hold 'linear.biass', which the network lacks; did you mean 'linear.bias'",
        ),
        (
            lambda t: t.update({"linear.bias": torch.ones(3)}),
            r"'linear.bias' has shape \(3,\) in the weights, \(10,\) in the network",
        ),
    ],
    ids=["missing", "surplus", "shape"],
)
def test_a_tensor_that_does_not_fit_is_named(network, change, message):
    tensors = dict(network.state_dict())
    change(tensors)
    with pytest.raises(ValueError, match=message):
        load_weights(network, tensors, "mine")


def test_an_old_file_without_the_counters_of_normalizations_is_taken(network):
    old = {n: t for n, t in network.state_dict().items() if "num_batches" not in n}
    load_weights(network, old, "mine")


def test_an_option_that_the_network_lacks_is_refused(folder):
    update_card(load_card(folder), options={"hiden": 8})
    with pytest.raises(
        ValueError, match="small_cnn takes no option 'hiden'; did you mean 'hidden'"
    ):
        load_card_classifier(load_card(folder))


def test_a_folder_without_a_card_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no card\.toml"):
        load_card(tmp_path)


def test_the_zoo_is_listed_by_kind():
    assert sorted(list_cards("classifier") + list_cards("score-model")) == list_cards()
    assert {"cifar10-resnet20", "cifar10-judge", "cifar10-robust"} <= set(list_cards("classifier"))


def test_a_misspelt_name_is_answered_by_the_one_that_was_meant():
    with pytest.raises(ValueError, match="no card 'cifar10-resnet2'; did you mean 'cifar10-resn"):
        load_card("cifar10-resnet2")


@pytest.mark.parametrize("file", sorted(ZOO.glob("*.toml")), ids=lambda file: file.stem)
def test_a_bundled_card_is_complete(file):
    """Its weights are whole and at most 16 MB, and its figures name what they count."""
    found = load_card(file.stem)
    assert found.name == file.stem and found.license == "MIT" and read_weights(found)
    assert all((ZOO / name).stat().st_size <= 16e6 for name in found.weight_files or [found.file])
    assert {"seed", "total_images", "minutes", "data"} <= set(
        json.dumps(found.training_config).split('"')
    )
    for named in found.metrics.values():
        for figure in (one for name, one in named.items() if name != "settings"):
            assert figure["low"] <= figure["value"] <= figure["high"]
            assert figure["total"] > 0 and figure["of"]
            if "count" in figure:
                assert figure["value"] == round(figure["count"] / figure["total"], 4)


@pytest.mark.parametrize("name", list_cards("classifier"))
def test_a_bundled_classifier_answers(name):
    found = load_card(name)
    assert load_card_classifier(found)(torch.rand(2, *found.image_shape)).shape == (
        2,
        len(found.classes),
    )


def test_a_folder_of_the_same_name_does_not_hide_a_bundled_card(tmp_path, monkeypatch):
    (tmp_path / "cifar10-resnet20").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_card("cifar10-resnet20").folder == ZOO
    with pytest.raises(ValueError, match=r"has no card\.toml"):
        load_card("./cifar10-resnet20")
