import pytest
import torch
from torch import nn

from scoreag.attacks.pgd import PGD
from scoreag.classifiers.loading import load_classifier
from scoreag.models.model_cards import load_card
from scoreag.training.outputs import add_metrics, export, measure_accuracy
from scoreag.training.recipes import Recipe
from scoreag.training.schedule import TrainingSchedule

OPTIONS = {"image_shape": [3, 8, 8], "classes": 2, "convolutions": [[4, 4, 2]], "hidden": 8}
RECIPE = Recipe(
    network="small_cnn",
    options=OPTIONS,
    schedule=TrainingSchedule(total_images=10, batch_size=5, seed=7),
)


class Brightness(nn.Module):
    """Says 1 for images brighter than one half."""

    def forward(self, x):
        mean = x.mean((1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], 1)


def exported(network, folder, provenance=None, half=True):
    return export(
        "classifier", RECIPE, network.state_dict(), folder, ("dark", "bright"), (3, 8, 8),
        provenance or {}, half=half, mean=RECIPE.mean, std=RECIPE.std, options=OPTIONS,
    )  # fmt: skip


@pytest.fixture
def network():
    from scoreag.classifiers.networks.small_cnn import PlainCNN

    return PlainCNN(**OPTIONS).eval()


def test_what_was_exported_can_be_loaded_by_its_folder(network, tmp_path):
    exported(network, tmp_path, half=False)
    x = torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (RECIPE.mean, RECIPE.std))
    torch.testing.assert_close(load_classifier(str(tmp_path))(x), network((x - mean) / std))


def test_the_card_holds_the_numbers_of_the_recipe_and_how_it_went(network, tmp_path):
    exported(network, tmp_path, {"minutes": 3.5})
    recipe = load_card(tmp_path).training_config
    assert recipe["schedule"]["seed"] == 7 and recipe["minutes"] == 3.5 and recipe["lr"] == 0.2


def test_figures_count_what_is_right_before_and_under_attack():
    """Means 0.4, 0.49, 0.51, 0.6, the third of class 0: PGD at 0.05 turns the two near 0.5."""
    levels = torch.tensor([102, 125, 130, 153], dtype=torch.uint8)
    images, labels = levels.view(4, 1, 1, 1).repeat(1, 3, 4, 4), torch.tensor([0, 0, 0, 1])
    attacks = {"pgd": PGD(eps=0.05, steps=5)}
    found = measure_accuracy(Brightness().eval(), images, labels, "images", attacks, batch_size=3)
    assert (found["accuracy"]["count"], found["accuracy"]["total"]) == (3, 4)
    assert found["accuracy_pgd"]["count"] == 2 and found["accuracy_pgd"]["of"] == "images"


def test_figures_are_entered_beside_those_that_are_there(network, tmp_path):
    made = exported(network, tmp_path)
    made = add_metrics(made, "held_out", {"accuracy": {"value": 0.5}})
    add_metrics(made, "test", {"accuracy": {"value": 0.25}})
    found = load_card(tmp_path).metrics
    assert (found["held_out"]["accuracy"]["value"], found["test"]["accuracy"]["value"]) == (
        0.5,
        0.25,
    )
