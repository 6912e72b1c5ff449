"""docs/results.md, the pages beside the recorded results, and the table in README.md.

No figure is typed: a table that has no file is left out, and says which command would make it.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

from drawn import picture, write_pictures
from markdown_parts import Row, share, short, table
from remarks import render_remarks
from render_assessed import assessed
from render_attacks import attacks
from render_certified import certificates, certified, energy_pace, promised, steered
from render_everyday import everyday, everyday_short
from render_gradients import memory, purifier_gradient, purifiers
from render_libraries import libraries
from render_models import page
from render_parametrisations import parametrisations
from render_people import mixed_model, study_simulations
from render_readme import summary
from render_runs import forecast, killed, report_size, reproducibility
from render_scale import cost_model, million
from render_semantic import semantic
from render_speed import speed, speed_parts
from render_tasks import purification, sampling, synthesis, transformation
from render_transfer import transfer
from render_white_box import white_box
from render_world import cards, draws, families, guidance, guidance_curves, world

from scoreag.core import ALGORITHM

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
ELSEWHERE = ("public_cost",)  # recorded results that another document shows
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def training_curve(data: Row) -> str:
    body = [
        [
            f"{row['images_seen']:,}",
            f"{row['loss']:.3f}",
            share(row["unguided_judge"]),
            share(row["attacked_purified"]),
            share(row["clean_purified"]),
        ]
        for row in sorted(data["rows"], key=lambda row: row["images_seen"])
    ]
    head = ["images seen", "training loss", "unguided: judge says y*", "attacked, purified",
            "clean"]  # fmt: skip
    text = f"\n{data['data']}; PGD-40 at 8/255 without purifier: {share(data['attacked'])}.\n\n"
    return text + table(head, body)


FORECAST_AT = 8_000_000  # images, of the preset


def score_training(data: Row) -> str:
    rows = sorted(data["rows"], key=lambda row: row["images_seen"])
    body = [[f"{row['images_seen']:,}", f"{row['loss']:.4f}", share(row["guided"])] for row in rows]
    before, last = rows[-2:]
    doublings = math.log2(last["images_seen"] / before["images_seen"])
    slope = (before["loss"] - last["loss"]) / doublings
    best = last["loss"] - slope * math.log2(FORECAST_AT / last["images_seen"])
    head = ["images seen", "held-out loss", "guided: judge says y*"]
    text = f"\nPreset `{data['preset']}`, loss on {data['held_out']}:\n\n" + table(head, body)
    return text + (
        f"\nForecast: the last rows differ by {slope:.4f} a doubling. If it lasted, the loss after "
        f"{FORECAST_AT:,} images would be {best:.3f}. Such slopes fall, so this is a bound.\n"
    )


SHARED = ("dtype", "total_images")  # changes that every row of a comparison names


def recipes(data: Row) -> str:
    judged = any("guided" in row for row in data["rows"])
    body = [
        [
            ", ".join(f"{name} {v}" for name, v in row["changes"].items() if name not in SHARED)
            or "the preset",
            f"{row['images']:,}",
            f"{row['weights'] / 1e6:.2f} M",
            f"{row['seconds']:.0f}",
            f"{row['loss']:.4f}",
            *([short(row["guided"]) if "guided" in row else "not measured"] if judged else []),
        ]
        for row in data["rows"]
    ]
    head = ["change", "images seen", "weights", "seconds", "held-out loss"]
    if judged:
        head.append(f"w = {data['scale']:g}: judge says y*")
    return f"\nPreset `{data['preset']}`, {data['data']}:\n\n" + table(head, body)


SECTIONS: list[tuple[str, str, str, Callable[[Row], str]]] = [
    ("models", "cifar10", "Cards of the CIFAR-10 models", cards),
    ("cifar100", "cifar100", "Cards of the CIFAR-100 models", cards),
    ("cifar100", "tiny_imagenet", "Cards of the Tiny ImageNet models", cards),
    ("assessments", "unrestricted", "Robust classifiers of CIFAR-10", assessed),
    ("assessments", "unrestricted_prn", "A stronger robust classifier of CIFAR-10", assessed),
    ("assessments", "unrestricted_fashion", "A robust classifier of Fashion-MNIST", assessed),
    ("results", "transformation", "GAT on CIFAR-10", transformation),
    ("defaults", "transformation_first", "GAT by the earlier score model", transformation),
    ("defaults", "transformation_curves", "GAT over its settings", transformation),
    (
        "defaults",
        "transformation_retries",
        "GAT: attack scale of the first draw, with restarts",
        transformation,
    ),
    ("results", "synthesis", "GAS on CIFAR-10", synthesis),
    ("results", "synthesis_robust", "GAS on the robust network of CIFAR-10", synthesis),
    ("cifar100", "cifar100_transformation", "GAT on CIFAR-100", transformation),
    ("cifar100", "cifar100_synthesis", "GAS on CIFAR-100", synthesis),
    (
        "cifar100",
        "tiny_imagenet_transformation",
        "GAT on Tiny ImageNet, ten classes",
        transformation,
    ),
    ("cifar100", "tiny_imagenet_synthesis", "GAS on Tiny ImageNet, ten classes", synthesis),
    (
        "cifar100",
        "cifar100_transformation_close",
        "GAT on CIFAR-100, closer to the image",
        transformation,
    ),
    (
        "cifar100",
        "cifar100_transformation_curves",
        "GAT on CIFAR-100 over settings",
        transformation,
    ),
    ("cifar100", "cifar100_synthesis_guided_curves", "GAS on CIFAR-100 over settings", synthesis),
    ("cifar100", "cifar100_purification_curves", "GAP on CIFAR-100 over settings", purification),
    (
        "cifar100",
        "tiny_imagenet_transformation_curves",
        "GAT on Tiny ImageNet over settings",
        transformation,
    ),
    (
        "cifar100",
        "tiny_imagenet_synthesis_guided_curves",
        "GAS on Tiny ImageNet over settings",
        synthesis,
    ),
    (
        "cifar100",
        "tiny_imagenet_purification_curves",
        "GAP on Tiny ImageNet over settings",
        purification,
    ),
    ("attacks", "transfer", "Transfer at equal LPIPS", transfer),
    ("defaults", "attack_options", "GAT: options one at a time, robust network", transformation),
    ("defaults", "fashion_synthesis_x0_steps", "GAS on Fashion-MNIST: x0_steps", synthesis),
    (
        "defaults",
        "fashion_synthesis_sampling",
        "GAS on Fashion-MNIST: more options",
        synthesis,
    ),
    ("defaults", "fashion_synthesis_options", "GAS on Fashion-MNIST: other options", synthesis),
    ("defaults", "transformation_0_1", "GAT at the attack scale of 0.1", transformation),
    ("defaults", "purification_0_1", "GAP by algorithm 1", purification),
    (
        "defaults",
        "synthesis_guided_curves",
        "GAS over guidance of the prior, by a third classifier",
        synthesis,
    ),
    ("defaults", "synthesis_0_1", "GAS without guidance of the prior (0.1)", synthesis),
    ("defaults", "synthesis_first", "GAS by the earlier score model", synthesis),
    ("defaults", "synthesis_curves", "GAS over its settings", synthesis),
    ("results", "purification", "GAP on CIFAR-10, blind attacker", purification),
    ("cifar100", "cifar100_purification", "GAP on CIFAR-100, blind attacker", purification),
    (
        "cifar100",
        "tiny_imagenet_purification",
        "GAP on Tiny ImageNet, ten classes, blind attacker",
        purification,
    ),
    ("defaults", "purification_first", "GAP by the earlier score model", purification),
    ("defaults", "purification_curves", "GAP over its settings", purification),
    ("defaults", "purification_samplers", "GAP: samplers and steps", purification),
    ("defaults", "purification_few_steps", "GAP: few steps", purification),
    ("attacks", "attacks", "Attacks beside other libraries", attacks),
    ("attacks", "libraries", "Models and attacks of other libraries", libraries),
    ("results", "everyday", "Everyday tasks beside other tools", everyday_short),
    ("attacks", "everyday", "Everyday tasks beside other tools, all parts", everyday),
    ("models", "draws", "Unguided samples by sampler, CIFAR-10", draws),
    ("models", "fashion_draws", "Unguided samples by sampler, Fashion-MNIST", draws),
    ("models", "prior_guidance", "Guidance of the prior, CIFAR-10", guidance),
    (
        "models",
        "prior_guidance_curves",
        "Guidance of the prior: how it was chosen",
        guidance_curves,
    ),
    ("models", "training_curve", "Longer training of the score model", training_curve),
    ("models", "training_recipes", "Training recipes at equal time", recipes),
    ("models", "score_training", "The CIFAR-10 score model over its training", score_training),
    ("models", "recipes_0_2", "Training recipes of 0.2 at equal compute", recipes),
    ("models", "recipes_small_a", "Training recipes: patches and width", recipes),
    ("models", "recipes_small_b", "Training recipes: depth and single pixels", recipes),
    ("models", "training_recipes_fashion", "Training recipes on Fashion-MNIST: depth", recipes),
    (
        "models",
        "training_recipes_fashion_2",
        "Training recipes on Fashion-MNIST: width and rate",
        recipes,
    ),
    ("assessments", "paper_cifar10", "The paper's questions on CIFAR-10", assessed),
    ("assessments", "paper_forecast", "Cost estimate of the plan `paper`", forecast),
    ("assessments", "theirs", "Two CIFAR-10 classifiers trained by others", assessed),
    ("assessments", "tricks", "A classifier with hidden gradients", assessed),
    (
        "assessments",
        "hardened",
        "A classifier trained on GAT and GAS images, and a detector",
        assessed,
    ),
    ("assessments", "paper_fashion", "The paper's questions on Fashion-MNIST", assessed),
    ("fashion", "fashion", "Fashion-MNIST models trained from nothing", world),
    ("results", "fashion_transformation", "GAT on Fashion-MNIST", transformation),
    ("results", "fashion_synthesis", "GAS on Fashion-MNIST", synthesis),
    ("fashion", "fashion_purification", "GAP on Fashion-MNIST", purification),
    ("parameterizations", "families", "Training family and process", families),
    (
        "parameterizations",
        "parametrisations",
        "One denoiser as EDM, VP and VE; three x0-estimates",
        parametrisations,
    ),
    (
        "parameterizations",
        "parametrisations_cifar10",
        "One denoiser as EDM, VP and VE: CIFAR-10",
        parametrisations,
    ),
    ("fashion", "fashion_transformation_first", "GAT: first look", transformation),
    ("fashion", "fashion_transformation_0_1", "GAT by algorithm 1", transformation),
    ("fashion", "fashion_purification_0_1", "GAP by algorithm 1", purification),
    (
        "fashion",
        "fashion_synthesis_guided_curves",
        "GAS over guidance of the prior, by a third classifier",
        synthesis,
    ),
    ("fashion", "fashion_synthesis_0_1", "GAS without guidance of the prior (0.1)", synthesis),
    ("fashion", "fashion_synthesis_first", "GAS: first look, stopped early", synthesis),
    ("fashion", "fashion_transformation_curves", "GAT over its settings", transformation),
    ("fashion", "fashion_synthesis_curves", "GAS over its settings", synthesis),
    ("fashion", "fashion_synthesis_sampler", "GAS by ancestral sampling", synthesis),
    ("fashion", "fashion_purification_curves", "GAP over its settings", purification),
    ("cost", "guided_sampling", "Speed beside a reference implementation", sampling),
    ("results", "speed", "Speed beside other packages and version 0.1", speed),
    ("cost", "speed", "Speed: all parts", speed_parts),
    ("cost", "guided_sampling_default", "Speed: cost of the default's restarts", sampling),
    (
        "results",
        "reproducibility",
        "Results do not depend on how the work is split",
        reproducibility,
    ),
    ("cost", "killed", "Results do not depend on interruptions", killed),
    ("cost", "report_size", "Report of 10,000 images", report_size),
    ("cost", "million", "A run of a million images", million),
    ("cost", "cost_model", "Images a dollar: a cost model", cost_model),
    ("cost", "gradient_memory", "Memory of exact gradients", memory),
    ("assessments", "purifiers", "Purifiers: few-step chains", purifiers),
    ("cost", "purifier_gradient", "Gradients through a purifier, four ways", purifier_gradient),
    ("results", "purified", "Purifiers on CIFAR-10: blind and white-box attackers", assessed),
    ("assessments", "core", "Purifiers on CIFAR-10: exact, BPDA and blind attacks", assessed),
    ("assessments", "fixed", "Attacker and judge share one draw", assessed),
    ("assessments", "selective", "Gradients of draws averaged or weighted", assessed),
    ("assessments", "purifier_forecast", "Cost estimate of the plan `purifier`", forecast),
    (
        "assessments",
        "white_box",
        "GAP under an exact attack: longer chains, higher similarity, votes",
        white_box,
    ),
    ("results", "certificates", "Certificates, a line a classifier", certificates),
    ("certificates", "certified", "Certified accuracy: denoised smoothing, noise 0.25", certified),
    ("certificates", "certified_half", "Certified accuracy: noise 0.5", certified),
    (
        "certificates",
        "certified_denoised",
        "Certified accuracy of classifiers that learned to read denoised images",
        certified,
    ),
    ("certificates", "promised", "Upper bound on the failure rate of generated images", promised),
    ("certificates", "steered", "Upper bound for whoever steers the generator", steered),
    (
        "certificates",
        "steered_purified",
        "Upper bound for whoever steers the generator, behind a purifier",
        steered,
    ),
    ("certificates", "energy_pace", "Where an attack spends its energy", energy_pace),
    ("people", "semantic", "`semantic`: predicting what people see", semantic),
    ("people", "study_simulations", "Studies with simulated people", study_simulations),
    ("people", "study_mixed_model", "The mixed logistic model", mixed_model),
]


PAGES = {  # the title of each page
    "results": "Results",
    "models": "Results: models and their training",
    "defaults": "Results: how the defaults were chosen",
    "attacks": "Results: attacks",
    "assessments": "Results: assessments",
    "certificates": "Results: certificates",
    "cifar100": "Results: CIFAR-100 and Tiny ImageNet",
    "fashion": "Results: Fashion-MNIST",
    "parameterizations": "Results: parameterizations",
    "cost": "Results: cost and reproducibility",
    "people": "Results: people",
}


def place(name: str) -> Path:
    """The file of a page: the first is for readers, the others lie beside the recorded results."""
    return ROOT / "docs" / "results.md" if name == "results" else RESULTS / f"{name}.md"


def render_page(name: str) -> str:
    """A page: its sections that have a recorded result, and the remarks on them."""
    text = f"# {PAGES[name]}\n\n{INTRODUCTION}" + (LINKS if name == "results" else "")
    for on, file, title, render in SECTIONS:
        if on == name and (RESULTS / f"{file}.json").exists():
            text += section(name, file, title, render)
    return text + render_remarks(name, RESULTS)


def section(page_name: str, file: str, title: str, render: Callable[[Row], str]) -> str:
    data = json.loads((RESULTS / f"{file}.json").read_text())
    about = data["about"]
    text = f"\n## {title}\n\n`{about['command']}`, {about['finished']}, {about['machine']}, "
    text += f"torch {about['torch']}, algorithm {about['algorithm']}.\n"
    shown = picture(file)
    if page_name != "results":
        shown = shown.replace("](images/", "](../../docs/images/")
    return text + shown + render(data)


INTRODUCTION = (
    "Written by `python benchmarks/render.py` from the files in `benchmarks/results`. Each table "
    "names its command, date and machine.\n\n"
    "- Shares carry their count, denominator and 95 % Wilson interval.\n"
    "- The judge (reference classifier) never guides and is never attacked.\n"
    "- LPIPS: AlexNet, v0.1 heads. Fréchet distance: in the judge's last layer.\n"
    f"- `algorithm` is the version of what is computed. This version's is {ALGORITHM}; "
    "its noise differs from algorithm 1.\n"
    "- Commands are those of the version that ran them; `CHANGELOG.md` has the new words.\n"
)
LINKS = (
    "\nMore tables: "
    + " · ".join(
        f"[{title.removeprefix('Results: ')}](../benchmarks/results/{name}.md)"
        for name, title in PAGES.items()
        if name != "results"
    )
    + "\n"
)


def main() -> None:
    for name in PAGES:
        place(name).write_text(render_page(name))
    write_pictures(RESULTS, ROOT / "docs" / "images")
    models = ROOT / "docs" / "models.md"
    models.write_text(page(RESULTS, models.read_text()))
    readme = ROOT / "README.md"
    head, rest = readme.read_text().split(BEGIN)
    readme.write_text(f"{head}{BEGIN}\n{summary(RESULTS)}{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
