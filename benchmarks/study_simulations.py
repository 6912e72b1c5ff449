"""Studies whose people are simulated: does the analysis find the truth, and do intervals hold it?

The truth is an average over a very large number of images and people, computed by other means than
the analysis: sums over a grid of people, scipy's rank statistics, scipy's optimizer.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from common import Row, write
from numpy.typing import NDArray
from scipy import optimize, stats
from tqdm import tqdm

from scoreag.study.analysis import analyze
from scoreag.study.simulate import (
    NAMES,
    TYPICAL_MS,
    Images,
    World,
    answer_shares,
    make_images,
    simulate,
)

Numbers = NDArray[Any]
SOURCES = 40_000  # images of the truth
NODES = 9
LEVEL = 0.95
WORLDS = {  # by design
    "name": World(),
    "real": World(
        design="real", conditions={"clean": 1.5, "gas": 0.3, "gat": 0.9, "pgd": -0.5}, fooled={}
    ),
    "choose": World(
        design="choose", conditions={"clean": 0.0, "gas": -0.8, "gat": -0.2, "pgd": -1.5}, fooled={}
    ),
}


def people_grid(world: World) -> Iterator[tuple[float, int, float]]:
    """Person, kind and weight: Gauss and Hermite's nodes, and both kinds of people."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        for kind in (0, 1):
            yield world.sd_person * node, kind, weight / 2


def mean_answers(world: World, images: Images) -> tuple[Numbers, Numbers, Numbers]:
    """By image, over people: the shares of answers, those squared, and the squared shares."""
    n = len(images.label)
    columns = len(NAMES) + 1 if world.design == "name" else 3
    mean, equal = np.zeros((n, columns)), np.zeros(n)
    for person, kind, weight in people_grid(world):
        shares = answer_shares(world, images, np.full(n, person), np.full(n, kind))
        mean += weight * shares
        equal += weight * (shares**2).sum(1)
    return mean, (mean**2).sum(1), equal


def true_values(world: World) -> dict[str, float]:
    """What each figure of the analysis estimates, by its path in the summary."""
    rng = np.random.Generator(np.random.Philox(10**6))
    images = make_images(world, rng, SOURCES)
    mean, pair, equal = mean_answers(world, images)
    masks = {name: images.condition == i for i, name in enumerate(world.conditions)}
    shown = images.condition >= (world.design == "choose")  # there, clean is no trial of its own
    found = {"repeats_equal": world.again + (1 - world.again) * equal[shown].mean()}
    found["median_ms"] = TYPICAL_MS
    for name, mask in masks.items():
        found[f"conditions.{name}.unsure"] = mean[mask, -1].mean()
        found[f"conditions.{name}.median_ms"] = TYPICAL_MS
    if world.design == "choose":
        yes = mean[:, 0] + mean[:, -1] / 2
        found |= {f"conditions.{name}.chosen": yes[mask].mean() for name, mask in masks.items()}
        return {path: value for path, value in found.items() if ".clean." not in path}
    for path, mask in {
        "agreement": shown,
        **{f"conditions.{n}": m for n, m in masks.items()},
    }.items():
        found |= agreement(world, mean[mask], pair[mask], path)
    if world.design == "real":
        return found | true_realism(mean, masks)
    return found | true_shares(mean, images, masks) | true_proxies(world, images, masks, rng)


def true_realism(mean: Numbers, masks: dict[str, Numbers]) -> dict[str, float]:
    """Shares of "real", "not sure" counted half, and how far real and fake ones are apart."""
    yes = {name: (mean[mask, 0] + mean[mask, -1] / 2).mean() for name, mask in masks.items()}
    found = {f"conditions.{name}.says_real": share for name, share in yes.items()}
    for name, share in yes.items():
        if name != "clean":
            found[f"conditions.{name}.difference"] = share - yes["clean"]
            found[f"conditions.{name}.d_prime"] = stats.norm.ppf(yes["clean"]) - stats.norm.ppf(
                share
            )
    return found


def true_shares(mean: Numbers, images: Images, masks: dict[str, Numbers]) -> dict[str, float]:
    """Shares that see the label, their differences, and success among images that are seen."""
    seen = mean[np.arange(len(mean)), images.label]
    clean = masks["clean"]
    found = {f"conditions.{name}.sees_label": seen[mask].mean() for name, mask in masks.items()}
    for name, mask in masks.items():
        if name == "clean":
            continue
        found[f"conditions.{name}.difference"] = seen[mask].mean() - seen[clean].mean()
        for k in (1, 3, 5):
            top, bottom = (images.fooled[mask] * seen[mask] ** k).mean(), (seen[clean] ** k).mean()
            where = f"conditions.{name}.validity.{k}"
            found[f"{where}.seen_success"], found[f"{where}.ceiling"] = top, bottom
            found[f"{where}.validity_corrected_success"] = top / bottom
    return found


def agreement(world: World, mean: Numbers, pair: Numbers, path: str) -> dict[str, float]:
    """Alpha and AC1 of infinitely many people and images, whose labels are balanced."""
    marginals = mean.mean(0)
    if world.design == "name":
        marginals = np.append(np.full(len(NAMES), (1 - marginals[-1]) / len(NAMES)), marginals[-1])
    expected = (marginals**2).sum()
    chance = (marginals * (1 - marginals)).sum() / (len(marginals) - 1)
    return {
        f"{path}.krippendorff_alpha": 1 - (1 - pair.mean()) / (1 - expected),
        f"{path}.gwet_ac1": (pair.mean() - chance) / (1 - chance),
    }


def true_proxies(
    world: World, images: Images, masks: dict[str, Numbers], rng: np.random.Generator
) -> dict[str, float]:
    """Ranks, detection and slopes over all images, each seen by ``raters`` people."""
    n, asked = len(images.label), world.raters
    scores = np.empty((n, asked))
    for j in range(asked):
        person = world.sd_person * rng.standard_normal(n)
        shares = answer_shares(world, images, person, rng.integers(2, size=n))
        scores[:, j] = rng.random(n) < shares[np.arange(n), images.label]
    share, found = scores.mean(1), {}
    proxies = {"judge": images.judge, "lpips": np.exp(-images.logit)}
    for proxy, values in proxies.items():
        for part, mask in {"all": np.full(n, True), **masks}.items():
            x, y, path = values[mask], share[mask], f"proxies.{proxy}.{part}"
            found[f"{path}.spearman"] = float(stats.spearmanr(x, y).statistic)
            low = y < 0.75
            test = stats.mannwhitneyu(x[low], x[~low]).statistic / (low.sum() * (~low).sum())
            found[f"{path}.auc_below_80"] = test if proxy == "lpips" else 1 - test
            if proxy == "judge":
                found[f"{path}.calibration_slope"] = logistic_slope(x, y)
    return found


def logistic_slope(proxy: Numbers, share: Numbers) -> float:
    p = np.clip(proxy, 1e-3, 1 - 1e-3)
    x = np.log(p / (1 - p))

    def loss(b: Numbers) -> float:
        z = b[0] + b[1] * x
        return float((np.logaddexp(0, z) - share * z).mean())

    return float(optimize.minimize(loss, np.array([0.0, 1.0])).x[1])


def look_up(summary: Row, path: str) -> Row:
    found: Any = summary
    for name in path.split("."):
        found = found.get(name, {}) if isinstance(found, dict) else {}
    return found


def compare(path: str, truth: float, entries: list[Row]) -> Row:
    """Coverage and bias of one figure over all studies that have it."""
    known = [one for one in entries if one.get("value") is not None]
    held = [one for one in known if "low" in one]
    inside = sum(bool(one["low"] <= truth <= one["high"]) for one in held)
    level = float(np.mean([one.get("coverage", LEVEL) for one in held]))
    low, high = (int(stats.binom.ppf(q, len(held), level)) for q in (0.0005, 0.9995))
    values = np.array([one["value"] for one in known])
    return {
        "figure": path, "truth": round(float(truth), 5), "mean": round(float(values.mean()), 5),
        "bias": round(float(values.mean() - truth), 5),
        "bias_error": round(float(values.std(ddof=1) / np.sqrt(len(values))), 5),
        "inside": inside, "studies": len(held), "bounds": [low, high],
        "width": round(float(np.mean([one["high"] - one["low"] for one in held])), 5),
        "within": bool(low <= inside <= high),
    }  # fmt: skip


def pigeonhole(world: World, seed: int, truth: float, resamples: int = 400) -> bool:
    """Whether the plain bootstrap of people and images at once holds the share of `gat`."""
    manifest, people = simulate(replace(world, clickers=0), seed)
    rng = np.random.Generator(np.random.Philox(seed + 1))
    rows = [
        (i, int(item["source"][5:]), t.answer == item["label"])
        for i, person in enumerate(people)
        for t in person.of_kind("main")
        if (item := manifest["items"][t.item])["condition"] == "gat"
    ]
    person, source, seen = (np.array(column) for column in zip(*rows, strict=True))
    n_people, n_sources = len(people), world.images
    draws = []
    for _ in range(resamples):
        a = np.bincount(rng.integers(n_people, size=n_people), minlength=n_people)
        b = np.bincount(rng.integers(n_sources, size=n_sources), minlength=n_sources)
        weights = a[person] * b[source]
        draws.append((weights * seen).sum() / weights.sum())
    low, high = np.quantile(draws, [0.025, 0.975])
    return bool(low <= truth <= high)


def simulate_odds(world: World, studies: int, first: int) -> list[Row]:
    """The odds ratios of the mixed model, where nobody lapses, as the model has it."""
    exact = replace(world, lapses=(0.0, 0.0))
    names = [name for name in world.conditions if name != "clean"]
    entries: dict[str, list[Row]] = {name: [] for name in names}
    for seed in tqdm(range(first, first + studies), "mixed model"):
        model = analyze(*simulate(exact, seed)).summary["mixed_model"]
        for name in names:
            one = model["odds_ratios"][name]
            entries[name].append({key: float(np.log(one[key])) for key in ("value", "low", "high")})
    clean = world.conditions["clean"]
    return [
        compare(f"mixed_model.log_odds_ratio.{n}", world.conditions[n] - clean, entries[n])
        for n in names
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=0, help="of the simulated studies")
    parser.add_argument("--mixed-model", action="store_true", help="it alone: seconds a study")
    args = parser.parse_args()
    world = WORLDS["name"]
    setting: Row = {
        "studies": args.studies, "images": world.images, "conditions": [*world.conditions],
        "raters": world.raters, "first_seed": args.first_seed,
    }  # fmt: skip
    if args.mixed_model:
        rows = simulate_odds(world, args.studies, args.first_seed)
        write("study_mixed_model", {**setting, "rows": rows})
    else:
        seeds = range(args.first_seed, args.first_seed + args.studies)
        designs = {name: simulate_design(one, seeds) for name, one in WORLDS.items()}
        rows = [row for one in designs.values() for row in one["rows"]]
        share = true_values(world)["conditions.gat.sees_label"]
        plain = sum(pigeonhole(world, seed, share) for seed in seeds)
        write("study_simulations", {
            **setting, "designs": designs,
            "pigeonhole": {"inside": plain, "studies": args.studies},
        })  # fmt: skip
    for row in rows:
        print("" if row["within"] else "OUTSIDE", row)


def simulate_design(world: World, seeds: range) -> Row:
    """Every figure of a design over all studies, and how many people were left out."""
    truth = true_values(world)
    summaries = [
        analyze(*simulate(world, seed), mixed=False).summary for seed in tqdm(seeds, world.design)
    ]
    rows = [compare(path, x, [look_up(s, path) for s in summaries]) for path, x in truth.items()]
    return {**describe_people(world, summaries), "rows": rows}


def describe_people(world: World, summaries: list[Row]) -> Row:
    """How many people clicked without looking, and how many were left out."""
    people = [s["people"] for s in summaries]
    return {
        "looked": sum(p["read"] for p in people) - world.clickers * len(people),
        "clickers": world.clickers * len(people),
        "left_out": sum(p["read"] - p["analyzed"] for p in people),
    }


if __name__ == "__main__":
    main()
