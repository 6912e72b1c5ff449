"""The calls of golden.py into the library: what each kind of line in golden.toml computes."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from golden_words import TABLE, options, taken, word
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import pad

import scoreag
from scoreag.certify import generator_risk, smoothing
from scoreag.cli.app import main as command_line
from scoreag.core.rng import Noise, Stream
from scoreag.diffusion import noise_schedules
from scoreag.diffusion import parameterizations as families
from scoreag.methods.synthesis import build_synthesis
from scoreag.metrics import feature_distances, lpips, norms
from scoreag.registry import load_attack, load_component
from scoreag.stats import estimates, proportion
from scoreag.stats.estimates import find_quantile_ranks
from scoreag.training import classifier_training, recipes, score_model_training

NOISE = Noise(seed=3, image_ids=[4, 9, 2])

prior = cache(partial(scoreag.load_prior, device="cpu"))
plain = cache(partial(scoreag.load_classifier, device="cpu"))


def victim(name: str) -> Any:
    """A classifier; one that purifies begins its draws again."""
    if name not in TABLE["defended"]:
        return plain(name)
    inner, model, purifier, more = TABLE["defended"][name]
    purifier, more = word("defend", purifier), options("defend", more)
    return scoreag.defend(victim(inner), prior(model), purifier, seed=1, **more)


def data(of: str = "", dtype: str = "float32") -> tuple[Tensor, Tensor]:
    """Three images with labels; for models of CIFAR-10 they are larger, and labelled by one."""
    images, labels = scoreag.load_data("fashion-mnist:sample")
    images, labels = images[::14].to(getattr(torch, dtype)), labels[::14]
    if not of.startswith("cifar10"):
        return images, labels
    images = pad(images, (2, 2, 2, 2)).repeat(1, 3, 1, 1)
    return images, plain("cifar10-resnet20")(images).argmax(1)


def synthesize(model: Any, asked: Any, images: Tensor, labels: Tensor, **more: Any) -> Any:
    return scoreag.synthesize(model, asked, labels, **more)


def purify(model: Any, asked: Any, images: Tensor, labels: Tensor, **more: Any) -> Any:
    return scoreag.purify(model, images, **more).images


def task(call: Callable[..., Any], _: str = "", **more: Any) -> dict[str, Any]:
    model, asked, dtype = taken(more, prior="fashion-small", victim="fashion-cnn", dtype="float32")
    if "judge" in more:
        more["judge"] = plain(more["judge"])
    found = call(prior(model), victim(asked), *data(dtype=dtype), progress=False, **more)
    if isinstance(found, Tensor):
        return {"images": found}
    names = TABLE["fields"]["result"].split()
    return {name: getattr(found, word("result", name)) for name in names}


def attack(name: str, /, **more: Any) -> Tensor:
    factory, (asked,) = load_attack(name), taken(more, victim="fashion-cnn")
    needed = {"lpips": distance, "prior": lambda: prior("fashion-small")}
    known = {field.name for field in fields(factory)}
    more |= {each: make() for each, make in needed.items() if each in known}
    return factory(**more)(victim(asked), *data(asked), NOISE.seed, NOISE.image_ids)


def defense(name: str, /, **more: Any) -> dict[str, Tensor]:
    model, asked, dtype = taken(more, prior="fashion-small", victim="fashion-cnn", dtype="float32")
    images, labels = data(dtype=dtype)
    made = scoreag.defend(victim(asked), prior(model), name, seed=1, **more)
    first = slope(made, images, labels)
    return {**first, "next": made(images), "replayed": made.fix_randomness(1, [7, 0, 3])(images)}


def slope(classifier: Any, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    leaf = images.clone().requires_grad_()
    logits = classifier(leaf)
    value = logits.log_softmax(1).gather(1, labels[:, None]).sum()
    return {"logits": logits, "gradient": torch.autograd.grad(value, leaf)[0]}


@torch.no_grad()
def denoiser(name: str) -> dict[str, list[Tensor]]:
    images, labels = data(name)
    levels, model = torch.tensor([0.05, 1.0, 40.0]), prior(name).model
    return {
        "unconditional": [model(2 * images - 1, level) for level in levels],
        "conditional": [model(2 * images - 1, level, labels) for level in levels],
    }


@torch.no_grad()
def network(name: str, /, **more: Any) -> Tensor:
    """What a network of score models with random weights says."""
    x, labels = torch.randn(3, 3, 16, 16, generator=torch.manual_seed(0)), torch.tensor([0, 2, 1])
    made = load_component("networks", name).build(image_shape=[3, 16, 16], classes=3, **more).eval()
    for _, weights in sorted(made.named_parameters()):
        weights.copy_(0.1 * torch.randn(weights.shape))
    return made(x, torch.tensor([-0.5, 0.2, 1.0]), labels)


def certified(_: str = "", **more: Any) -> dict[str, Any]:
    plan, (images, labels) = smoothing.SmoothingConfig(**more), data()
    networks = prior("fashion-small"), plain("fashion-cnn")
    base = smoothing.denoised_smoothing(*networks, plan.sigma, plan.dtype)
    pairs = zip(images, labels.tolist(), strict=True)
    return rows([smoothing.certify_image(base, x, i, y, plan) for i, (x, y) in enumerate(pairs)])


def bounded(_: str = "", **more: Any) -> dict[str, Any]:
    labels, target, asked, alpha = taken(more, labels=[1, 1, 8], target=None, asked="", alpha=0.01)
    job = build_synthesis(prior("fashion-small"), plain("fashion-cnn"), labels, target, 0, **more)
    spec = generator_risk.GeneratorSpec(job, victim(asked) if asked else None, alpha)
    found = generator_risk.classify_draws(spec, range(len(job)), 4)
    bounds = [each["upper"] for each in generator_risk.bound_class_risks(found, alpha).values()]
    said = [{"said": row["predicted"], **row} for row in found]
    return {**rows(said, without=["predicted"]), "upper": bounds}


def trained(train: Callable[..., Any], known: Any, name: str, /, **more: Any) -> Tensor:
    """All weights of the card, after a few steps on the bundled images."""
    images, batch = taken(more, images=96, batch=8)
    schedule = replace(known[name].schedule, total_images=images, batch_size=batch, dtype="float32")
    read = scoreag.load_data("fashion-mnist:sample").dataset
    with TemporaryDirectory() as folder:
        given = (read.images, read.labels, read.classes, Path(folder))
        train(replace(known[name], schedule=schedule, **more), *given, progress=False)
        weights = load_file(Path(folder) / "model.safetensors")
    return torch.cat([weights[key].flatten() for key in sorted(weights)])


def run(command: str, *more: str) -> dict[str, Any]:
    """What a command leaves here: numbers of rows, and pictures, wherever they are."""
    Path("plan.toml").write_text(TABLE["plan"]["text"])
    if command_line([command, *more, "--out", command, "--device", "cpu", "--quiet"]):
        raise RuntimeError("the command failed")
    files = sorted(Path(command).rglob("*.jsonl"))
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    found.sort(key=lambda row: repr(rows([row])))
    pictures = [np.asarray(Image.open(file)) for file in Path(command).rglob("*.png")]
    return {**rows(found), "pictures": sorted(pictures, key=lambda picture: picture.tobytes())}


def rows(found: Iterable[Mapping[str, Any]], without: Sequence[str] = ()) -> dict[str, list[float]]:
    """The numbers of rows by their names; NaN is none."""
    names = {name: word("row", name) for name in TABLE["fields"]["row"].split()}
    names = {name: key for name, key in names.items() if name not in without}
    told = {name: [n for row in found if key in row for n in numbers(row[key])]
            for name, key in names.items()}  # fmt: skip
    return {name: each for name, each in told.items() if each}


def numbers(value: Any) -> Iterator[float]:
    """The numbers in a table or a list, in their order."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from numbers(each)
    elif not isinstance(value, str):
        yield float("nan" if value is None else value)


def noise() -> dict[str, Any]:
    like, wide = torch.zeros(3, 2, 5), torch.zeros(3, 7, dtype=torch.float64)
    joined, stream = (
        Noise.concat([NOISE.fold_in("draw", 0), NOISE.fold_in("draw", 1)]),
        Stream(5, "step", 2),
    )
    return {
        "normal": [NOISE.normal_like(like), NOISE.fold_in("step", 1).normal_like(like)],
        "normal of float64": NOISE.fold_in("start").normal_like(wide),
        "uniform": [NOISE.uniform_like(wide), Noise(2**40, [0, 10**6, 7]).uniform_like(wide)],
        "joined": joined.fold_in("more").normal_like(torch.zeros(6, 3)),
        "stream": [stream.normal([5]), stream.uniform([5]), stream.integers(9, [5])],
        "permutation": Stream("order").permutation(11),
    }


def levels() -> dict[str, Any]:
    """Noise grids, and how each family reads a level."""
    sigmas, linear = torch.tensor([0.01, 0.3, 2.0, 70.0]), families.linear_alphas_cumprod()
    known = {
        "edm": families.edm(), "edm sign": families.edm(0.7, -1), "ddpm": families.ddpm(linear),
        "cosine": families.ddpm(families.cosine_alphas_cumprod()),
        "v": families.v_prediction(linear),
        "x0": families.x0_prediction(linear), "flow": families.flow(), "ncsn": families.ncsn(),
        "unit score": families.unit_score(), "smld": families.smld(), "vp": families.vp(),
        "iddpm": families.iddpm(), "iddpm between": families.iddpm(rounded=False),
    }  # fmt: skip
    grids = {"karras": noise_schedules.karras(7), "vp grid": noise_schedules.vp_uniform(7, 2.0)}
    return {name: list(family(sigmas)) for name, family in known.items()} | grids


def metrics() -> dict[str, Any]:
    source = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, 3, 3, 40, 40, generator=source)
    x, y = torch.randn(2, 60, 5, generator=source)
    moments = [feature_distances.Moments.from_features(features, "x") for features in (x, y)]
    return {
        "ssim": norms.ssim(a, b),
        "psnr": norms.psnr(a, b),
        "lpips": distance()(a, b),
        "lpips embedding": distance().embed(a),
        "frechet": feature_distances.frechet_distance(*moments),
        "frechet error": list(feature_distances.fid_with_jackknife(x, y, "x")),
        "kernel": list(feature_distances.kid_with_std_error(x, y)),
        "recall": feature_distances.recall(x, y),
        "precision": feature_distances.precision(x, y),
        "nearest": list(feature_distances.find_nearest(x, y)),
        "distances": list(norms.compute_norms(a, b).values()),
        "ranks": list(find_quantile_ranks(40, 0.3) or ()),
        "bootstrap": list(numbers(estimates.bootstrap_ci(x[:, 0], "x"))),
        "binomial": [f(c, 30, 0.01) for f in BOUNDS for c in (0, 9, 30)],
    }


def distance() -> lpips.Lpips:
    """LPIPS with random weights, four channels in every layer."""
    source, sizes, inputs = torch.Generator().manual_seed(0), (11, 5, 3, 3, 3), (3, 4, 4, 4, 4)
    weights, heads = {}, {}
    for n, (layer, size, width) in enumerate(zip(lpips.LAYERS, sizes, inputs, strict=True)):
        weights[f"features.{layer}.weight"] = torch.randn(4, width, size, size, generator=source)
        weights[f"features.{layer}.bias"] = torch.randn(4, generator=source)
        heads[lpips.HEAD_KEY.format(n)] = torch.rand(1, 4, 1, 1, generator=source)
    return lpips.Lpips(weights, heads)


BOUNDS = proportion.clopper_pearson_lower, proportion.clopper_pearson_upper
FIXED = {"data": lambda: list(data()), "noise": noise, "levels": levels, "metrics": metrics}
CALLS: dict[str, Callable[..., Any]] = {
    "synthesize": partial(task, synthesize),
    "transform": partial(task, scoreag.transform),
    "purify": partial(task, purify),
    "attacks": attack,
    "defend": defense,
    "smoothing": certified,
    "generative": bounded,
    "score_model": partial(
        trained,
        partial(score_model_training.train_score_model, sample_every_images=10**9),
        recipes.SCORE_PRESETS,
    ),
    "classifier": partial(
        trained, classifier_training.train_classifier, recipes.CLASSIFIER_PRESETS
    ),
    "network": network,
    "denoiser": denoiser,
    "logits": lambda name: slope(plain(name), *data(name)),
    "run": run,
}
