"""docs/results.md and the table in README.md, from the files in benchmarks/results.

No figure is typed: a table that has no file is left out, and says which command would make it.
"""

import json
from collections.abc import Callable
from pathlib import Path

from drawn import picture, write_pictures
from markdown_parts import Row, share, table
from render_assessed import assessed
from render_attacks import attacks
from render_certified import certified, promised
from render_gradients import memory, purifier_gradient, purifiers
from render_models import page
from render_parametrisations import parametrisations
from render_readme import summary
from render_runs import forecast, killed, report_size, reproducibility
from render_tasks import purification, sampling, synthesis, transformation
from render_white_box import white_box
from render_world import cards, draws, families, world

from scoreag.core.algorithm import ALGORITHM

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
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


def recipes(data: Row) -> str:
    body = [
        [
            ", ".join(f"{name} {v}" for name, v in row["changes"].items()) or "the preset",
            f"{row['images']:,}",
            f"{row['weights'] / 1e6:.2f} M",
            f"{row['seconds']:.0f}",
            f"{row['loss']:.4f}",
        ]
        for row in data["rows"]
    ]
    head = ["change", "images seen", "weights", "seconds", "held-out loss"]
    return f"\nPreset `{data['preset']}`, {data['data']}:\n\n" + table(head, body)


SECTIONS: list[tuple[str, str, Callable[[Row], str]]] = [
    ("cifar10", "What the CIFAR-10 models' cards say", cards),
    ("transformation", "GAT: transforming given images", transformation),
    ("transformation_first", "GAT: by the score model of before", transformation),
    ("transformation_curves", "GAT: the curve behind the default", transformation),
    ("transformation_retries", "GAT: the strength of the first draw, with retries", transformation),
    ("synthesis", "GAS: synthesising from nothing", synthesis),
    ("synthesis_first", "GAS: by the score model of before", synthesis),
    ("synthesis_curves", "GAS: the curve behind the default", synthesis),
    ("purification", "GAP: against an attacker who does not see the purifier", purification),
    ("purification_first", "GAP: by the score model of before", purification),
    ("purification_curves", "GAP: the curve behind the default", purification),
    ("purification_samplers", "GAP: samplers and steps", purification),
    ("purification_few_steps", "GAP: few steps", purification),
    ("attacks", "Attacks: beside other libraries, and each at its own aim", attacks),
    ("draws", "Unguided draws: by which sampler?", draws),
    ("fashion_draws", "The same on Fashion-MNIST", draws),
    ("training_curve", "What more training of the score model brings", training_curve),
    ("training_recipes", "Which recipe learns most in the same time?", recipes),
    ("recipes_small_a", "The same for equal time: patches, and wider", recipes),
    ("recipes_small_b", "The same for equal time: deeper, and single pixels", recipes),
    ("training_recipes_fashion", "The same on Fashion-MNIST: depth", recipes),
    ("training_recipes_fashion_2", "The same on Fashion-MNIST: width and rate", recipes),
    ("paper_cifar10", "Assessed: the paper's questions on CIFAR-10", assessed),
    ("paper_forecast", "What the plan `paper` would take", forecast),
    ("theirs", "Assessed: two CIFAR-10 classifiers that others trained", assessed),
    ("tricks", "Assessed: a classifier with its gradients hidden", assessed),
    ("hardened", "Assessed: one trained on GAT and GAS images, and a detector", assessed),
    ("paper_fashion", "Assessed: the paper's questions on Fashion-MNIST", assessed),
    ("fashion", "The small world: Fashion-MNIST from nothing", world),
    ("fashion_transformation", "The small world: GAT", transformation),
    ("fashion_synthesis", "The small world: GAS", synthesis),
    ("fashion_purification", "The small world: GAP", purification),
    ("families", "The small world: do family and process matter?", families),
    ("parametrisations", "One denoiser as EDM, VP and VE; three x0-estimates", parametrisations),
    ("parametrisations_cifar10", "One denoiser as EDM, VP and VE: CIFAR-10", parametrisations),
    ("fashion_transformation_first", "The small world: GAT, a first look", transformation),
    ("fashion_synthesis_first", "The small world: GAS, a first look, cut short", synthesis),
    ("fashion_transformation_curves", "The small world: the curve behind GAT", transformation),
    ("fashion_synthesis_curves", "The small world: the curve behind GAS", synthesis),
    ("fashion_synthesis_sampler", "The small world: GAS by ancestral sampling", synthesis),
    ("fashion_purification_curves", "The small world: the curve behind GAP", purification),
    ("guided_sampling", "Speed: ours beside the reference", sampling),
    ("guided_sampling_default", "Speed: what the retries of the default cost", sampling),
    ("reproducibility", "Does a result depend on how the work was split?", reproducibility),
    ("killed", "Does it depend on how often it was killed?", killed),
    ("report_size", "What a report of 10,000 images costs", report_size),
    ("gradient_memory", "Memory of exact gradients", memory),
    ("purifiers", "Purifiers: few-step chains", purifiers),
    ("purifier_gradient", "Gradients through a purifier, four ways", purifier_gradient),
    ("core", "Assessed: exact, BPDA and blind attacks on purifiers", assessed),
    ("fixed", "Assessed: attacker and judge share one draw", assessed),
    ("selective", "Assessed: gradients of draws weighed, not averaged", assessed),
    ("purifier_forecast", "What the whole plan `purifier` would take", forecast),
    ("white_box", "GAP under an exact attack: longer chains, higher precision, votes", white_box),
    ("certified", "Certified: randomised smoothing with one-shot denoising", certified),
    ("certified_half", "Certified: the same at noise 0.5", certified),
    ("promised", "Certified: what a stated generator can draw", promised),
]


def results() -> str:
    text = (
        "# Results\n\nWritten by `python benchmarks/render.py` from `benchmarks/results/*.json`, "
        "which the commands below wrote. Shares carry their count, their denominator and a 95 % "
        "Wilson interval. The judge never guides and is never attacked. LPIPS: AlexNet, v0.1 "
        "heads. Fréchet: in the judge's last layer. Each table names the algorithm that made it; "
        f"that of this version is {ALGORITHM}, whose noise differs from algorithm 1.\n"
    )
    for name, title, render in SECTIONS:
        file = RESULTS / f"{name}.json"
        text += f"\n## {title}\n"
        if not file.exists():
            text += "\nNot measured yet.\n"
            continue
        data = json.loads(file.read_text())
        about = data["about"]
        text += f"\n`{about['command']}`, {about['finished']}, {about['machine']}, "
        text += f"torch {about['torch']}, algorithm {about['algorithm']}.\n"
        text += picture(name)
        text += render(data)
    return text + (ROOT / "benchmarks" / "remarks.md").read_text()


def main() -> None:
    (ROOT / "docs" / "results.md").write_text(results())
    write_pictures(RESULTS, ROOT / "docs" / "images")
    models = ROOT / "docs" / "models.md"
    models.write_text(page(RESULTS, models.read_text()))
    readme = ROOT / "README.md"
    head, rest = readme.read_text().split(BEGIN)
    readme.write_text(f"{head}{BEGIN}\n{summary(RESULTS)}{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
