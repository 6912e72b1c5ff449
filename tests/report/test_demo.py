import json

import pytest
import torch
from torch import nn

from scoreag.attacks.pgd import PGD
from scoreag.classifiers.normalized import wrap_classifier
from scoreag.cli import demo_runs
from scoreag.cli.demo_models import DemoModels
from scoreag.cli.demo_runs import RUNS, DemoRun, run_demo
from scoreag.data.loading import Dataset
from scoreag.defenses.purified_classifier import PurifiedClassifier
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
    prior = Prior(
        Shrinking().eval().requires_grad_(False), sample, karras(4), (3, 4, 4), classes, defaults
    )
    return DemoModels(prior, net(0), net(1), net(2), ("a net", "another", "a robust one"))


def real(labels=(0, 1, 2, 0)):
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (4, 3, 4, 4), generator=source, dtype=torch.uint8)
    known = None if labels is None else torch.tensor(labels)
    return Dataset(pixels, known, (7, 3, 9, 1), cast().prior.classes, "made up")


def quick(out, seed=0):
    run = DemoRun(out, seed, progress=False)
    return run_demo(cast(), real(), run, attack=PGD(steps=3), white_box_steps=2)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(demo_runs, "N_FIRST", 3)


def test_a_tour_shows_saved_images_with_the_answers_to_them(tmp_path):
    made = quick(tmp_path)
    plain, found = made.plain, made.purified
    assert made.generated.labels.tolist() == [0, 1, 2]
    for network, images in [
        (0, (plain.original, plain.pgd, plain.gat, made.generated.gas, made.generated.unguided)),
        (0, (found.blind, found.clean, found.white_box, found.white_box_purified)),
        (2, (made.robust.original, made.robust.pgd, made.robust.gat)),
    ]:
        for shown in images:
            answers = net(network)(shown.images.float() / 255).argmax(1)
            assert torch.equal(shown.classifier_predictions, answers)
            judged = net(1)(shown.images.float() / 255).argmax(1)
            assert torch.equal(shown.judge_predictions, judged)
    for before, after in ((plain.original, plain.pgd), (plain.original.first(3), found.white_box)):
        assert 0 < (after.images.int() - before.images.int()).abs().max() <= 8


def test_the_stops_that_take_longer_have_the_first_images(tmp_path):
    made = quick(tmp_path)
    assert torch.equal(made.robust.original.images, made.plain.original.images[:3])
    assert made.robust.labels.tolist() == [0, 1, 2]
    assert len(made.purified.blind.images) == 4 and len(made.purified.white_box.images) == 3


def test_a_tour_leaves_a_run_for_each_task_and_attack(tmp_path):
    quick(tmp_path)
    assert sorted(RUNS) == sorted(file.name for file in tmp_path.iterdir())
    for name in RUNS:
        assert json.loads((tmp_path / name / "manifest.json").read_text())["finished"]
    through = json.loads((tmp_path / "pgd-through-gap" / "manifest.json").read_text())
    assert through["config"]["steps"] == 2 and through["config"]["attack"] == "pgd"
    (defense,) = through["models"]["classifier"]["defenses"]
    assert (defense["purifier"], defense["backward"]) == ("gap", "exact")
    judged = json.loads((tmp_path / "gap-white-box" / "manifest.json").read_text())
    assert judged["config"]["jacobian"] == defense["config"]["jacobian"]
    for name in ("000007", "000003", "000009"):
        attacked = (tmp_path / "pgd-through-gap" / "images" / f"{name}.png").read_bytes()
        assert attacked == (tmp_path / "gap-white-box" / "originals" / f"{name}.png").read_bytes()


def test_the_attack_through_gap_does_not_see_the_draws_that_judge_it(tmp_path, monkeypatch):
    from scoreag.defenses import purified_classifier
    from scoreag.methods import purification

    seen = {"attack": set(), "judge": set()}

    def watch(module, name, kind, position):
        inner = getattr(module, name)

        def outer(*arguments, **options):
            noise = arguments[position]
            for one in noise if isinstance(noise, list) else [noise]:
                numbers = one.normal_like(torch.zeros(len(one.image_ids), 1)).flatten().tolist()
                seen[kind] |= {*zip(one.image_ids, numbers, strict=True)}
            return inner(*arguments, **options)

        monkeypatch.setattr(module, name, outer)

    watch(purified_classifier, "_compute_logits", "attack", 2)
    watch(purification, "sample_task", "judge", 2)
    quick(tmp_path)
    assert {image_id for image_id, _ in seen["judge"]} == {7, 3, 9, 1}
    of_first = [number for image_id, number in seen["attack"] if image_id == 7]
    assert len(of_first) >= 2 + 3  # two steps; before, as float and in 8 bits
    assert not seen["attack"] & seen["judge"]


def test_a_second_tour_finds_the_same_and_attacks_nothing(tmp_path, monkeypatch):
    first = quick(tmp_path)

    def refuse(*arguments, **options):
        raise AssertionError("an attack that was finished runs again")

    monkeypatch.setattr(PGD, "run", refuse)
    monkeypatch.setattr(PurifiedClassifier, "forward", refuse)
    assert render_demo_page(first) == render_demo_page(quick(tmp_path))


@pytest.mark.parametrize("lost", ["images/000003.png", "rows.jsonl", "summary.json"])
def test_an_attack_that_was_stopped_is_run_again(lost, tmp_path):
    page = render_demo_page(quick(tmp_path))
    (tmp_path / "pgd-through-gap" / lost).unlink()
    assert render_demo_page(quick(tmp_path)) == page
    assert (tmp_path / "pgd-through-gap" / lost).is_file()


def test_a_tour_of_another_seed_is_not_mixed_with_this_one(tmp_path):
    quick(tmp_path)
    with pytest.raises(ValueError, match="holds a run with other settings: seed"):
        quick(tmp_path, seed=1)


def test_images_without_labels_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"made up have no labels.*a labels.csv"):
        run_demo(cast(), real(None), DemoRun(tmp_path / "out", progress=False), attack=PGD())
    assert not (tmp_path / "out").exists()
