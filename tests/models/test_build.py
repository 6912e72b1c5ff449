"""A network grows no further than the tensors that are to be put into it."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from scoreag.classifiers.loading import load_classifier
from scoreag.classifiers.networks import cifar_resnet, sequential, small_cnn
from scoreag.diffusion.networks import song_unet
from scoreag.models.model_cards import Card, write_card
from scoreag.models.trust import build_bounded, infer_shapes, limit_network_size

LITTLE = {"weight": torch.zeros(3)}
GROWN = {
    "blocks": (song_unet.build, {"blocks": 10**6, "channels": 8}),
    "depth": (cifar_resnet.build, {"depth": 6 * 10**6 + 2, "width": 4}),
    "hidden": (small_cnn.build, {"hidden": 10**7}),
    "hidden, huge": (small_cnn.build, {"hidden": 10**12}),
    "classes": (song_unet.build, {"classes": 10**12, "channels": 8, "blocks": 1}),
    "layers": (sequential.build, {"layers": [["ReLU"]] * 5000}),
    "words": (cifar_resnet.build, {"depth": "x" * 100_000}),
}


@pytest.mark.parametrize("name", GROWN)
@pytest.mark.parametrize("make", [build_bounded, infer_shapes])
def test_arguments_that_ask_for_more_are_refused_as_it_grows(make: Any, name: str) -> None:
    build, options = GROWN[name]
    with pytest.raises(
        ValueError, match=r"far more (numbers|modules)|no network can be built"
    ) as e:
        make(build, options, LITTLE)
    assert len(str(e.value)) < 500 and "\n" not in str(e.value)


def test_the_network_of_the_tensors_is_built_and_the_bound_is_gone_afterwards() -> None:
    given = cifar_resnet.build(depth=8).state_dict()
    found = infer_shapes(cifar_resnet.build, {"depth": 8}, given)
    assert found == {name: tensor.shape for name, tensor in given.items()}
    assert (
        build_bounded(cifar_resnet.build, {"depth": 8}, given).state_dict().keys() == given.keys()
    )
    small_cnn.build(hidden=40_000)


def test_another_thread_builds_what_it_wants() -> None:
    made: list[nn.Module] = []
    with limit_network_size(LITTLE):
        other = threading.Thread(target=lambda: made.append(small_cnn.build(hidden=40_000)))
        other.start()
        other.join()
    assert made


def test_a_card_that_asks_for_more_than_its_weights_is_refused(tmp_path: Path) -> None:
    module = small_cnn.build((3, 8, 8), hidden=4)
    card = Card(
        "mine", "classifier", "small_cnn", "model.safetensors", "MIT", (3, 8, 8),
        options={"image_shape": [3, 8, 8], "hidden": 10**7}, folder=tmp_path,
    )  # fmt: skip
    write_card(card, module.state_dict())
    with pytest.raises(ValueError, match=r"mine: .* far more numbers than the 26 tensors of its"):
        load_classifier(tmp_path)
