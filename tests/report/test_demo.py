import pytest
import torch
from torch import nn

from scoreag.attacks.pgd import PGD
from scoreag.classifiers.normalized import wrap_classifier
from scoreag.cli.demo import DemoModels, run_demo
from scoreag.data.loading import Dataset
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers.heun import sample
from scoreag.report.demo import render_demo_page

QUICK = {"sampler": "heun", "steps": 2, "similarity": 30.0, "max_restarts": 0}


class Shrinking(nn.Module):
    """The denoiser of a standard normal: x / (1 + sigma^2)."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x, sigma, labels=None):
        return self.weight * x / (1 + sigma**2)


def net(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return wrap_classifier(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval())


def cast():
    defaults = {
        "synthesize": {**QUICK, "attack_scale": 5.0},
        "transform": {**QUICK, "sigma_start": 1.0, "attack_scale": 5.0},
        "purify": {**QUICK, "sigma_start": 0.3, "attack_scale": 0.0},
    }
    classes = ("cat", "dog", "ship")
    prior = Prior(Shrinking().eval(), sample, karras(4), (3, 4, 4), classes, defaults)
    return DemoModels(prior, net(0), net(1), ("a net", "another"))


def real(labels=(0, 1, 2, 0)):
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (4, 3, 4, 4), generator=source, dtype=torch.uint8)
    known = None if labels is None else torch.tensor(labels)
    return Dataset(pixels, known, (7, 3, 9, 1), cast().prior.classes, "made up")


def quick(out, **options):
    return run_demo(
        cast(), real(), out, attack=PGD(steps=3), per_class=1, progress=False, **options
    )


def test_a_tour_shows_saved_images_with_the_answers_to_them(tmp_path):
    made = quick(tmp_path)
    assert made.sample_labels.tolist() == [0, 1, 2]
    for shown in (made.original, made.pgd, made.gat, made.gap, made.gas, made.unguided):
        answers = cast().classifier(shown.images.float() / 255).argmax(1)
        assert torch.equal(shown.classifier_predictions, answers)
    moved = (made.pgd.images.int() - made.original.images.int()).abs()
    assert 0 < moved.max() <= 8


def test_a_tour_leaves_a_run_for_each_task(tmp_path):
    quick(tmp_path)
    for task in ("gat", "gap", "gas", "free"):
        assert (tmp_path / task / "summary.json").is_file()


def test_a_second_tour_finds_the_same(tmp_path):
    first, again = quick(tmp_path), quick(tmp_path)
    assert render_demo_page(first) == render_demo_page(again)


def test_images_without_labels_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"made up have no labels.*a labels.csv"):
        run_demo(cast(), real(None), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
