"""Pickles of EDM: read without their code, and refused where they want anything else."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

import made_edm
import tiny
from scoreag import load_prior
from scoreag.diffusion.parameterizations import Preconditioned, edm
from scoreag.io.safe_unpickler import UnsupportedCheckpoint
from scoreag.models.convert.checkpoint import convert_checkpoint, open_checkpoint
from scoreag.models.convert.edm import build_spec
from scoreag.registry import load_component

SIGMA = torch.tensor(0.7)


class Hostile:
    """Leaves a trace where its pickle is run."""

    def __reduce__(self):
        return os.system, ("touch trace",)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_pickle_gives_the_network_that_was_put_into_it(here):
    found = open_checkpoint(made_edm.write(here / "edm.pkl", loss_fn="x"))
    expected = made_edm.network().state_dict()
    assert found.tensors.keys() == expected.keys()
    assert all(torch.equal(found.tensors[name], expected[name]) for name in expected)
    assert (found.family, found.network, found.classes) == ("edm", "song_unet", 3)
    assert found.image_shape == (3, 8, 8) and found.unused_keys[0] == "loss_fn"


def test_a_converted_model_denoises_as_the_one_in_the_pickle(here):
    """And so does the file itself, where a model is asked for."""
    path = made_edm.write(here / "edm.pkl")
    _, card = convert_checkpoint(path, here / "edm", ("cat", "dog", "ship"))
    network, x = made_edm.network(), torch.randn(2, 3, 8, 8)
    labels, total = torch.tensor([2, 0]), SIGMA**2 + 0.25
    time = (SIGMA.log() / 4).expand(2)
    with torch.no_grad():
        raw = network(x / total.sqrt(), time, labels)
        expected = 0.25 / total * x + SIGMA / 2 / total.sqrt() * raw
        for prior in (load_prior(here / "edm"), load_prior(path)):
            torch.testing.assert_close(prior.model(x, SIGMA, labels), expected)
    assert card.classes == ("cat", "dog", "ship") and load_prior(path).classes == ("0", "1", "2")


def test_safetensors_that_name_their_class_are_read_alike(here):
    tensors = {f"model.{n}": t for n, t in made_edm.network().state_dict().items()}
    about = {"class": "EDMPrecond", "arguments": json.dumps(made_edm.ARGUMENTS)}
    save_file(tensors, here / "edm.safetensors", metadata=about)
    found, pickled = open_checkpoint(here / "edm.safetensors"), made_edm.write(here / "edm.pkl")
    other = open_checkpoint(pickled)
    assert (found.family, found.options) == (other.family, other.options)
    assert all(torch.equal(found.tensors[n], other.tensors[n]) for n in other.tensors)
    save_file(tensors, here / "bare.safetensors", metadata={**about, "arguments": "{}"})
    with pytest.raises(UnsupportedCheckpoint, match="its arguments lack 'img_resolution'"):
        open_checkpoint(here / "bare.safetensors")
    with pytest.raises(ValueError, match="says itself what it is of; leave out --config"):
        open_checkpoint(here / "edm.safetensors", {"image_size": 8})
    save_file(tensors, here / "nameless.safetensors")
    with pytest.raises(ValueError, match=r"nameless\.safetensors does not say what"):
        open_checkpoint(here / "nameless.safetensors")


def nested_in_the_state(here):
    state = {"_parameters": {"weight": Hostile()}, "_init_kwargs": {}}
    return made_edm.write(here / "x.pkl", ema=made_edm.Persistent("EDMPrecond", state))


def beside_the_network(here):
    return made_edm.write(here / "x.pkl", augment_pipe=Hostile())


def alone(here):
    (here / "x.pkl").write_bytes(pickle.dumps(Hostile()))
    return here / "x.pkl"


@pytest.mark.parametrize("write", [alone, beside_the_network, nested_in_the_state])
def test_a_hostile_pickle_is_refused_by_what_it_wanted_and_nothing_is_run(here, write):
    path = write(here)
    with pytest.raises(
        UnsupportedCheckpoint, match=r"it asks for (posix|nt)\.system.*nothing was run"
    ):
        open_checkpoint(path)
    assert not (here / "trace").exists()
    pickle.loads(path.read_bytes()) if write is alone else None
    assert (here / "trace").exists() == (write is alone)  # it would have left one


def test_a_hostile_storage_is_refused_too(here):
    """A storage within a pickle is a file of torch.save, which is a pickle again."""

    class Storage:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (pickle.dumps(Hostile()),)

    path = made_edm.write(here / "x.pkl", ema=Storage())
    with pytest.raises(UnsupportedCheckpoint, match="is no whole pickle"):
        open_checkpoint(path)
    assert not (here / "trace").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            (torch.zeros(2).untyped_storage(), 0, (10**12,), (0,)),
            "a tensor of 1000000000000 numbers",
        ),
        ((torch.zeros(4).untyped_storage(), 3, (4,), (1,)), "is no whole pickle"),
    ],
    ids=["repeated", "beyond the end"],
)
def test_a_tensor_is_no_larger_than_its_bytes(here, arguments, message):
    class Tensor:
        def __reduce__(self):
            storage = torch.storage.TypedStorage(
                wrap_storage=arguments[0], dtype=torch.float32, _internal=True
            )
            return torch._utils._rebuild_tensor_v2, (storage, *arguments[1:], False, {})

    path = made_edm.write(here / "x.pkl", ema=Tensor())
    with pytest.raises(UnsupportedCheckpoint, match=message):
        open_checkpoint(path)


def test_arguments_that_repeat_without_end_are_refused(here):
    """Thirty lists, each with the one before it twice: a billion entries in a few hundred bytes."""
    bomb = [1]
    for _ in range(30):
        bomb = [bomb, bomb]
    state = {"_init_kwargs": {"channel_mult": bomb}}
    path = made_edm.write(here / "x.pkl", ema=made_edm.Persistent("EDMPrecond", state))
    with pytest.raises(UnsupportedCheckpoint, match="its arguments are more than 1000"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    "ema, message",
    [
        (made_edm.Persistent("StyleGAN", {}), "holds a 'StyleGAN'"),
        (made_edm.Persistent("EDMPrecond", {"_init_kwargs": {"model_type": "X"}}), "network 'X'"),
        ([1, 2], "has no network called 'ema'"),
    ],
)
def test_another_network_is_named(here, ema, message):
    path = made_edm.write(here / "x.pkl", ema=ema)
    with pytest.raises(UnsupportedCheckpoint, match=message):
        open_checkpoint(path)


def test_an_unknown_argument_is_named(here, monkeypatch):
    path = made_edm.write(here / "edm.pkl")
    monkeypatch.setitem(made_edm.ARGUMENTS, "num_blockz", 2)
    with pytest.raises(ValueError, match="an argument 'num_blockz'"):
        open_checkpoint(made_edm.write(path))


@pytest.mark.parametrize("kind", ["cut", "flipped"])
def test_a_damaged_file_gives_one_clean_error_or_the_network(here, kind):
    """At 60 places each: never another exception."""
    whole = made_edm.write(here / "edm.pkl").read_bytes()
    source = torch.Generator().manual_seed(5)
    places = torch.randint(2, len(whole), (60,), generator=source).tolist()
    outcomes = {"read": 0, "refused": 0}
    for place in places:
        data = bytearray(whole[:place] if kind == "cut" else whole)
        if kind == "flipped":
            data[place] ^= 1 << (place % 8)
        (here / "x.pkl").write_bytes(data)
        try:
            open_checkpoint(here / "x.pkl")
            outcomes["read"] += 1
        except ValueError as error:
            assert str(error)
            outcomes["refused"] += 1
    assert outcomes["refused"] == 60 if kind == "cut" else outcomes["refused"] > 0


@pytest.mark.parametrize("kind", ["SongUNet", "DhariwalUNet"])
@pytest.mark.parametrize("dropout, label", [(0.0, None), (0.1, 3)])
def test_a_network_trained_with_dropped_labels_has_a_null_label(kind, dropout, label):
    """Its row of label weights is 0, as no label has."""
    arguments = {**made_edm.ARGUMENTS, "model_type": kind, "label_dropout": dropout}
    made = build_spec("EDMPrecond", arguments, {}, "made")
    network = load_component("networks", made.network).build(**made.options)
    assert Preconditioned(network, edm()).null_label == label
    if label is not None:
        network, x = tiny.filled(network, 0), torch.ones(2, 3, 8, 8)
        time, null = torch.zeros(2), torch.full((2,), label)
        assert torch.equal(network(x, time, null), network(x, time))
        assert not torch.equal(network(x, time, null - 1), network(x, time))
