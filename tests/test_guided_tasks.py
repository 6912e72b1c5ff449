"""Guidance of the prior in the tasks: what it costs, what it changes, and what is refused."""

from dataclasses import replace

import pytest
import torch

import scoreag
import tiny
from scoreag.assess.experiments import ModelCache
from scoreag.assess.plan import load_plan
from scoreag.assess.resolve import resolve_plan
from scoreag.assess.runner import read_cell
from scoreag.assess.threat_model import QueryCounter
from scoreag.certify.smoothing import SmoothingConfig, denoised_smoothing
from scoreag.cli.app import main
from scoreag.diffusion.prior_guidance import GuidedModel

CALM = {"max_restarts": 0, "attack_scale": 1.0, "steps": 3, "progress": False}


@pytest.fixture
def weaker(tmp_path):
    return f"weaker:{tiny.write_score_model(tmp_path / 'weaker', seed=3)}"


def gas(**options):
    return scoreag.synthesize(tiny.prior(), tiny.victim(), [0, 1, 2], **CALM | options)


def gat(**options):
    images, labels = tiny.images(3), tiny.labels(3)
    return scoreag.transform(tiny.prior(), tiny.victim(), images, labels, **CALM | options)


def gap(**options):
    options = {"steps": 3, "sampler": "euler", "progress": False, **options}
    return scoreag.purify(tiny.prior(), tiny.images(3), **options)


@pytest.mark.parametrize("task", [gas, gat])
def test_a_guided_call_counts_as_two_evaluations_and_one_outside_of_the_interval_as_one(task):
    plain = task(sampler="euler", sigma_start=5.0)
    assert plain.nfe.tolist() == [3, 3, 3]
    guided = task(sampler="euler", sigma_start=5.0, guidance_scale=2.0)
    assert guided.nfe.tolist() == [6, 6, 6] and not torch.equal(guided.images, plain.images)
    partly = task(
        sampler="euler", sigma_start=5.0, guidance_scale=2.0, guidance_interval=(4.0, 6.0)
    )
    assert partly.nfe.tolist() == [4, 4, 4]


@pytest.mark.parametrize("task", [gas, gat, gap])
def test_a_weaker_model_guides_each_task_and_is_named_in_the_manifest(task, weaker):
    plain, guided = task(), task(guidance_scale=2.0, guide=weaker)
    assert not torch.equal(guided.images, plain.images)
    assert guided.config["guide"] == weaker and guided.config["guidance_scale"] == 2.0


@pytest.mark.parametrize("guide, calls", [("null", 2), ("head", 1)])
def test_every_guide_says_what_it_costs(guide, calls):
    prior = tiny.prior(**tiny.HEAD)
    options = {**CALM, "sampler": "euler", "guidance_scale": 2.0, "guide": guide}
    result = scoreag.synthesize(prior, tiny.victim(), [0, 1], **options)
    assert result.nfe.tolist() == [3 * calls] * 2
    plain = scoreag.synthesize(prior, tiny.victim(), [0, 1], **CALM, sampler="euler")
    assert not torch.equal(result.images, plain.images)


def test_a_head_guides_a_purifier_which_has_no_labels():
    prior, images = tiny.prior(**tiny.HEAD), tiny.images(2)
    found = scoreag.purify(
        prior, images, sampler="euler", steps=3, guidance_scale=2.0, guide="head", progress=False
    )
    plain = scoreag.purify(prior, images, sampler="euler", steps=3, progress=False)
    assert found.nfe.tolist() == plain.nfe.tolist() and not torch.equal(found.images, plain.images)


def test_the_attacker_of_a_plan_may_be_guided_by_a_head():
    """What counts the evaluations of an attack hands the head through."""
    counter = QueryCounter()
    prior = counter.wrap_prior(tiny.prior(**tiny.HEAD))
    guided = GuidedModel(prior.model, 2.0, "head")
    assert guided(torch.zeros(2, 3, 8, 8), torch.tensor(1.0)).shape == (2, 3, 8, 8)
    assert counter.nfe == 2


def test_scale_one_is_the_model_itself_bit_for_bit():
    assert torch.equal(gas(guidance_scale=1.0).images, gas().images)


def test_an_unguided_sample_is_the_sampler_with_the_guided_model():
    """The task at attack scale 0, against the same chain put together by hand."""
    found = gas(attack_scale=0.0, guidance_scale=3.0, sampler="euler")
    prior = tiny.prior()
    prior = replace(prior, model=GuidedModel(prior.model, 3.0))
    config = scoreag.SamplingConfig(steps=3, sampler="euler")
    noise = scoreag.Noise(0, found.image_ids.tolist())
    from scoreag.diffusion.samplers import euler

    prior = replace(prior, sampler=euler.sample, sigmas=config.sigmas())
    expected = prior.sample(noise, torch.tensor([0, 1, 2]))
    assert torch.allclose(found.images, expected, atol=1e-5)


def test_the_manifest_of_a_run_names_the_guide_and_its_digest(tmp_path, weaker):
    result = gas(guidance_scale=2.0, guide=weaker)
    assert result.config["guide"] == weaker
    card = tiny.write_score_model(tmp_path / "prior")
    net = tiny.write_classifier(tmp_path / "net")
    words = ["synthesize", "--model", str(card), "--classifier", str(net), "--per-class", "1"]
    words += ["--guidance-scale", "2", "--guide", weaker, "--out", str(tmp_path / "run"), "--quiet"]
    assert main(words) == 0
    manifest = scoreag.io.manifest.read_manifest(tmp_path / "run")
    guide = manifest["models"]["score-model"]["guide"]
    assert guide["name"] == "tiny" and len(guide["sha256"]) == 64


def test_a_guided_defense_is_another_defense(weaker):
    images = tiny.images(2).float() / 255
    plain = scoreag.defend(tiny.victim(), tiny.prior(), "gap", steps=2)
    guided = scoreag.defend(
        tiny.victim(), tiny.prior(), "gap", steps=2, guidance_scale=2.0, guide=weaker
    )
    assert not torch.equal(plain(images), guided(images))
    assert plain.defense_identity() != guided.defense_identity()


REFUSED = [
    (gas, {"guidance_scale": -1.0}, "guidance_scale is -1.0; expected a number of at least 0"),
    (gas, {"guidance_scale": float("nan")}, "guidance_scale is nan"),
    (
        gas,
        {"guidance_scale": 2.0, "guide": "nul"},
        "no guide 'nul'; write 'null', 'head', or 'weaker:",
    ),
    (gas, {"guidance_scale": 2.0, "guide": "head"}, "this model has no second output; write guide"),
    (gas, {"guidance_scale": 2.0, "guide": "weaker:"}, "names no score model"),
    (gas, {"guidance_scale": 2.0, "guide": "weaker:cifar10"}, "of other images than the score"),
    (gas, {"guide": "weaker:cifar10"}, "guidance_scale is 1, at which guide does nothing"),
    (gas, {"guidance_interval": (1.0, 2.0)}, "at which guidance_interval does nothing"),
    (gas, {"guidance_scale": 2.0, "guidance_interval": (2.0, 1.0)}, "expected 0 <= low < high"),
    (gap, {"guidance_scale": 2.0}, "purify of this model has no labels; write guide 'weaker:NAME'"),
]


@pytest.mark.parametrize("task, options, message", REFUSED)
def test_guidance_that_cannot_work_is_answered(task, options, message):
    with pytest.raises(ValueError, match=message):
        task(**options)


def test_a_snapshot_of_other_classes_is_refused(tmp_path):
    folder = tiny.write_score_model(tmp_path / "other", classes=("a", "b", "c"))
    with pytest.raises(ValueError, match="is of other classes than the score model"):
        gas(guidance_scale=2.0, guide=f"weaker:{folder}")


def test_a_model_without_a_null_label_is_refused():
    prior = tiny.prior()
    prior.model.network.null_label = False
    with pytest.raises(ValueError, match="this model has no null label; write guide 'weaker:NAME'"):
        scoreag.synthesize(prior, tiny.victim(), [0], guidance_scale=2.0)


def test_one_shot_denoising_takes_no_guidance():
    with pytest.raises(ValueError, match=r"takes no guidance_scale.*or write guidance_scale 1"):
        scoreag.defend(tiny.victim(), tiny.prior(), "one_step_denoising", guidance_scale=2.0)
    scoreag.defend(tiny.victim(), tiny.prior(), "one_step_denoising", guidance_scale=1.0)


def test_a_certificate_smooths_the_model_itself_whatever_its_card_says():
    """The card's guidance is of its tasks; one-shot denoising calls the model once, with w = 1."""
    guided = {name: {**one, "guidance_scale": 3.0} for name, one in tiny.QUICK.items()}
    noisy = tiny.images(2).float() / 255
    plain, other = (
        denoised_smoothing(prior, tiny.victim(), SmoothingConfig().sigma)
        for prior in (tiny.prior(), replace(tiny.prior(), defaults=guided))
    )
    assert torch.equal(plain(noisy), other(noisy))
    prior = replace(tiny.prior(), model=GuidedModel(tiny.prior().model, 1.5))
    with pytest.raises(ValueError, match=r"guided by 1\.5.*give the prior without guidance"):
        denoised_smoothing(prior, tiny.victim(), SmoothingConfig().sigma)


def test_a_card_may_name_its_guide_without_trust(tmp_path, weaker):
    tuned = {"synthesize": {**tiny.HARD, "guidance_scale": 2.0, "guide": weaker}}
    prior = scoreag.load_prior(tiny.write_score_model(tmp_path / "tuned", defaults=tuned))
    found = scoreag.synthesize(prior, tiny.victim(), [0, 1, 2], **CALM)
    assert torch.equal(found.images, gas(guidance_scale=2.0, guide=weaker).images)


PLAN = """
description = "a guide"
images = 2
[datasets.tiny]
data = "image-folder:images"
classifiers = "net"
prior = "prior"
reference_classifier = "other"
[attacks.gat]
steps = 2
max_restarts = 0
GUIDE
purifiers = "none"
[purifiers.gap]
steps = 2
sampler = "euler"
GUIDE
[attacks.pgd]
eps = 0.1
steps = 1
purifiers = "gap"
"""


@pytest.fixture
def plan_folder(tmp_path, monkeypatch):
    """The current folder, with the data and the models that the plan names."""
    monkeypatch.chdir(tmp_path)
    tiny.write_images(tmp_path / "images", 6)
    tiny.write_score_model(tmp_path / "prior")
    tiny.write_classifier(tmp_path / "net")
    tiny.write_classifier(tmp_path / "other", 3)
    return tmp_path


def assessed(folder, guide, capsys):
    """The key and the rows of the cells of the plan, by their last name."""
    text = PLAN.replace("GUIDE", f'guidance_scale = 2.0\nguide = "{guide}"' if guide else "")
    (folder / "plan.toml").write_text(text)
    cells = resolve_plan(load_plan(folder / "plan.toml"), ModelCache())
    words = ["assess", str(folder / "plan.toml"), "--out", "out", "--quiet", "--overwrite"]
    assert main(words) == 0, capsys.readouterr().err
    names = (cell.name.rpartition("/")[2] for cell in cells)
    stored = (read_cell(folder / "out", cell).rows for cell in cells)
    return dict(zip(names, zip((cell.key for cell in cells), stored, strict=True), strict=True))


def test_a_plan_takes_a_weaker_guide_whose_weights_are_in_the_keys_of_its_cells(
    plan_folder, capsys
):
    tiny.write_score_model(plan_folder / "guide", seed=3)
    plain = assessed(plan_folder, "", capsys)
    first = assessed(plan_folder, "weaker:guide", capsys)
    tiny.write_score_model(plan_folder / "guide", seed=4)
    second = assessed(plan_folder, "weaker:guide", capsys)
    for name in ("gat", "pgd"):
        (key, rows), (guided, more), (other, _) = (one[name] for one in (plain, first, second))
        assert len({key, guided, other}) == 3
        assert sum(row["nfe"] for row in more) == 2 * sum(row["nfe"] for row in rows) > 0
        assert {row["sha256"] for row in more}.isdisjoint(row["sha256"] for row in rows)
    assert plain["clean"][0] == first["clean"][0]


def test_a_plan_whose_guide_is_missing_is_refused(plan_folder, capsys):
    (plan_folder / "plan.toml").write_text(
        PLAN.replace("GUIDE", 'guidance_scale = 2.0\nguide = "weaker:nowhere"')
    )
    assert main(["assess", "plan.toml", "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert "line 9: no folder and no card 'nowhere'" in said and not (plan_folder / "out").exists()


def test_calls_of_a_guided_prior_are_counted_with_those_of_its_guide():
    counter = QueryCounter()
    prior = counter.wrap_prior(replace(tiny.prior(), guide=tiny.prior().model))
    scoreag.attacks.GAT(prior=prior, steps=2, sampler="euler", guidance_scale=2.0, max_restarts=0)(
        tiny.victim(), tiny.images(2), tiny.labels(2)
    )
    assert counter.nfe == 2 * 2 * 2  # images, steps, evaluations


def test_calls_of_a_guide_that_an_attack_attaches_are_counted(plan_folder, weaker):
    """As a plan runs an attack directly."""
    direct = PLAN.replace("[attacks.gat]", '[attacks.gat]\nattack = "scoreag.attacks.gat"')
    (plan_folder / "plan.toml").write_text(
        direct.replace("GUIDE", f'guidance_scale = 2.0\nguide = "{weaker}"')
    )
    cells = resolve_plan(load_plan(plan_folder / "plan.toml", trust_code=True), ModelCache())
    (gat,) = (cell for cell in cells if cell.attack == "gat")
    assert main(["assess", "plan.toml", "--out", "out", "--quiet", "--trust-code"]) == 0
    steps, evaluations = 2, 2
    stages = 2 if gat.options["sampler"] in (None, "heun") else 1
    rows = read_cell(plan_folder / "out", gat).rows
    assert {row["nfe"] for row in rows} == {evaluations * (stages * steps - (stages - 1))}


def test_samples_by_another_guide_are_no_part_of_an_evaluation(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.write_images(tmp_path / "images", 6)
    tiny.write_score_model(tmp_path / "prior")
    tiny.write_classifier(tmp_path / "net")
    words = ["evaluate", "prior", "--data", "image-folder:images", "--train-data"]
    words += ["image-folder:images", "--images", "4", "--nfe", "2", "--reference-classifier", "net"]
    words += ["--out", "out", "--quiet"]
    guided = [*words, "--guidance-scale", "2", "--guide", "weaker:weaker"]
    tiny.write_score_model(tmp_path / "weaker", seed=3)
    assert main(guided) == 0
    tiny.write_score_model(tmp_path / "weaker", seed=4)
    assert main(guided) == 1
    assert "another --out, or --overwrite" in capsys.readouterr().err
    assert main(words) == 1  # nor of one without guidance
