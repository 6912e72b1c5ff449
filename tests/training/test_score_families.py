"""A score model of each family, trained, exported and loaded again."""

from dataclasses import replace

import pytest
import torch

import tiny
from scoreag import load_prior
from scoreag.models.model_cards import load_card
from scoreag.training.optimization import load_posthoc_average
from scoreag.training.recipes import SCORE_PRESETS as PRESETS
from scoreag.training.score_model_training import build_network, train_score_model

pytestmark = pytest.mark.usefixtures("one_thread")

SIGMA = torch.tensor(0.7)
PLAN = replace(
    PRESETS["tiny"].schedule,
    total_images=60,
    batch_size=4,
    ema_rampup_ratio=0.0,
    ema_widths=(0.05, 0.1),
    n_snapshots=5,
)
RECIPE = replace(PRESETS["tiny"], schedule=PLAN, warmup_images=20)


def train(folder, recipe, **options):
    folder.mkdir(exist_ok=True)
    data = tiny.images(16), tiny.labels(16), tiny.CLASSES
    return train_score_model(
        recipe, *data, folder, sample_every_images=60, progress=False, **options
    )


def saved_denoiser(made, recipe):
    """What the training itself would use: its network, its average from the checkpoint."""
    model = build_network(recipe, made.options, None)
    saved = torch.load(made.folder / "checkpoint.pt")["average"]
    model.load_state_dict({n: t.half().float() for n, t in saved.items()})
    return model.eval()


@pytest.mark.parametrize("family", ["edm", "ddpm", "ddpm_cosine", "vp", "ncsn"])
def test_a_loaded_model_is_the_denoiser_that_was_trained(family, tmp_path):
    period = {"edm": 3.0, "ncsn": 12.0}.get(family, 1000.0)
    options = {**RECIPE.options, "period": period}
    recipe = replace(RECIPE, family=family, options=options, sigma_data=0.6)
    made = train(tmp_path / family, recipe)
    assert made.family == family and made.sigma_data == 0.6
    x, labels = torch.randn(2, *tiny.SHAPE, generator=torch.Generator().manual_seed(0)), [0, 2]
    with torch.no_grad():
        expected = saved_denoiser(made, recipe)(x, SIGMA, torch.tensor(labels))
        found = load_prior(made.folder).model(x, SIGMA, torch.tensor(labels))
    torch.testing.assert_close(found, expected)


def test_the_card_can_have_an_average_of_another_width(tmp_path):
    """The same command again, when all is trained, makes it of the snapshots."""
    first = train(tmp_path / "model", RECIPE)
    wider = train(tmp_path / "model", RECIPE, ema_width=0.2)
    assert wider.training_config["ema_width"] == 0.2 and "ema_width" not in first.training_config
    assert wider.training_config["images_seen"] == 60 and wider.sha256 != first.sha256
    wanted = load_posthoc_average(tmp_path / "model", 0.2)
    found = load_prior(tmp_path / "model").model.state_dict()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, wanted[name], rtol=2**-10, atol=1e-7)


def test_no_average_can_be_made_without_snapshots(tmp_path):
    plan = replace(PLAN, ema_widths=())
    with pytest.raises(ValueError, match=r"an average of width 0\.1 is made of snapshots"):
        train(tmp_path / "model", replace(RECIPE, schedule=plan), ema_width=0.1)


def test_going_on_in_another_family_is_refused(tmp_path):
    init = load_card(tiny.write_score_model(tmp_path / "prior"))
    with pytest.raises(ValueError, match="is of family edm, and the preset of ddpm"):
        train(tmp_path / "model", replace(RECIPE, family="ddpm"), init=init)


def test_a_stopped_training_ends_in_the_same_averages_and_snapshots(tmp_path):
    def stop(state):
        if state.images_seen == 32:
            raise KeyboardInterrupt

    whole = train(tmp_path / "whole", RECIPE)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("scoreag.training.score_model_training.make_callbacks", lambda *_: [stop])
        train(tmp_path / "part", RECIPE, checkpoint_seconds=0.0)
    again = train(tmp_path / "part", RECIPE)
    assert again.sha256 == whole.sha256
    kept = sorted(path.name for path in (tmp_path / "whole" / "snapshots").iterdir())
    assert kept == [f"{seen:09d}.safetensors" for seen in (12, 24, 36, 48, 60)]
    last = [(tmp_path / name / "snapshots" / kept[-1]).read_bytes() for name in ("whole", "part")]
    assert last[0] == last[1]


def test_the_image_of_a_preset_that_does_not_mirror_is_not_mirrored():
    from scoreag.core.rng import Stream
    from scoreag.training.score_model_training import build_loss

    images = torch.tensor([0.0, 1.0]).expand(50, 1, 1, 2)
    recipe = PRESETS["fashion-small"]
    x0 = build_loss(recipe, 10).prepare(images, torch.zeros(50, dtype=torch.int64), Stream(0))[0]
    assert torch.equal(x0, 2 * images - 1)


@pytest.mark.parametrize(
    "name, shape, millions",
    [
        ("cifar10-small", (3, 32, 32), (2, 3)),
        ("cifar10-base", (3, 32, 32), (22, 25)),
        ("cifar100-small", (3, 32, 32), (2, 3)),
        ("fashion-small", (1, 28, 28), (0.9, 1.0)),
        ("fashion-edm", (1, 28, 28), (0.9, 1.0)),
        ("fashion-ddpm", (1, 28, 28), (0.9, 1.0)),
        ("fashion-ncsn", (1, 28, 28), (0.9, 1.0)),
        ("tiny-imagenet-small", (3, 64, 64), (2, 6)),
    ],
)
def test_the_network_of_a_preset_fits_its_images(name, shape, millions):
    recipe = PRESETS[name]
    model = build_network(recipe, {**recipe.options, "image_shape": shape, "classes": 10}, None)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert millions[0] < count < millions[1]
    if count < 10:
        x = torch.zeros(1, *shape)
        with torch.no_grad():
            assert model(x, SIGMA).shape == x.shape
