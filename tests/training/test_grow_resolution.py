"""A level of finer maps around a trained network."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scoreag.diffusion.networks.unet import UNet
from scoreag.models.model_cards import Card, build_network, load_card, read_weights, write_card
from scoreag.training.initialization import grow_resolution

SHAPE = (3, 8, 8)


def coarse(folder: Path, blocks: int = 1, **options: object) -> Card:
    """A U-Net of patches with random weights, none of them zero."""
    told = {"channels": 16, "multipliers": [1, 2], "blocks": blocks, "attention_at": [4, 2],
            "image_shape": list(SHAPE), "classes": 3, **options}  # fmt: skip
    torch.manual_seed(3)
    built = UNet(**told)  # type: ignore[arg-type]
    made = Card(
        name="coarse", kind="score-model", network="unet", file="model.safetensors",
        license="MIT", image_shape=SHAPE, classes=("a", "b", "c"), family="edm",
        sigma_data=0.5, options=told, folder=folder, metrics={"test": {"value": 1.0}},
    )  # fmt: skip
    folder.mkdir()
    return write_card(made, {n: torch.randn_like(t) for n, t in built.state_dict().items()})


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_levels_inside_compute_what_they_did(tmp_path: Path, blocks: int) -> None:
    """The maps that leave the old network's last level, given those that enter its first."""
    before = coarse(tmp_path / "coarse", blocks)
    after = grow_resolution(before, tmp_path / "finer")
    old, new = build_network(before), build_network(after)
    entering, told = torch.randn(2, 16, 4, 4), torch.randn(2, 64)
    kept = [x := entering]
    for layer in old.down:
        kept.append(x := layer(x, told))
    left = through(old.middle(x, told), old.up, kept, told)
    kept = [x := entering]
    for layer in list(new.down)[1 + blocks :]:
        kept.append(x := layer(x, told))
    inner = list(new.up)[: len(old.up)]
    assert torch.equal(through(new.middle(x, told), inner, kept, told), left)


def through(x: torch.Tensor, layers: object, kept: list, told: torch.Tensor) -> torch.Tensor:
    for layer in layers:  # type: ignore[attr-defined]
        resized = type(layer).__name__ == "Resize"
        x = layer(x if resized else torch.cat([x, kept.pop()], 1), told)
    return x


def test_it_sees_single_pixels_and_has_one_level_more(tmp_path: Path) -> None:
    after = grow_resolution(coarse(tmp_path / "coarse"), tmp_path / "finer")
    assert (after.options["patch"], after.options["multipliers"]) == (1, [1, 1, 2])
    assert read_weights(after)["first.weight"].shape == (16, 3, 3, 3)
    assert not after.metrics
    assert load_card(tmp_path / "finer").sha256 == after.sha256


def test_the_same_seed_gives_the_same_card(tmp_path: Path) -> None:
    before = coarse(tmp_path / "coarse")
    one, two, other = (
        grow_resolution(before, tmp_path / str(i), seed) for i, seed in enumerate((0, 0, 1))
    )
    assert one.sha256 == two.sha256 != other.sha256


def test_what_has_no_patches_is_refused(tmp_path: Path) -> None:
    before = coarse(tmp_path / "coarse")
    with pytest.raises(
        ValueError, match=r"of patch 1 and multipliers.*leave out --grow-resolution"
    ):
        grow_resolution(replace(before, options={**before.options, "patch": 1}), tmp_path / "finer")
    with pytest.raises(ValueError, match="is a song_unet"):
        grow_resolution(replace(before, network="song_unet"), tmp_path / "finer")
