import pytest
import torch

from scoreag.classifiers.networks.sequential import build


def test_layers_are_torchs_with_their_arguments_in_order():
    made = build([["Conv2d", 3, 5, [4, 2], 2, 1], ["ReLU"], ["Flatten"], ["Linear", 100, 7]])
    shapes = {name: tuple(tensor.shape) for name, tensor in made.state_dict().items()}
    assert shapes == {
        "0.weight": (5, 3, 4, 2), "0.bias": (5,), "3.weight": (7, 100), "3.bias": (7,),
    }  # fmt: skip
    assert made(torch.zeros(2, 3, 8, 8)).shape == (2, 7)


@pytest.mark.parametrize(
    "layers, told",
    [
        ([["Conv2D", 3, 5, 3]], "layer 0 is 'Conv2D'; did you mean 'Conv2d'"),
        ([["ReLU"], ["Linear", 3]], "layer 1, Linear of .3.: .*missing 1 required"),
        ([["Module"]], "layer 0 is 'Module'"),
        ([[]], "layer 0 is empty"),
        (["ReLU"], r"layer 0 is 'ReLU'; write a list, \[\"ReLU\"\]"),
    ],
)
def test_a_mistake_names_its_layer(layers, told):
    with pytest.raises(ValueError, match=told):
        build(layers)
