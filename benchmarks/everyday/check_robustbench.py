"""What RobustBench itself makes of an entry of ours, and of a classifier that we load by its name.

Prints JSON: the row of its table, the row of its LaTeX table, and the largest difference of logits.
"""

import contextlib
import io
import json

import torch
from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel
from robustbench.utils import (
    get_leaderboard_latex,
    list_available_models,
    load_model,
    update_json,
)

import scoreag

NAME, PLACE = "Wong2020Fast", (BenchmarkDataset("cifar10"), ThreatModel("Linf"))


def main() -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        list_available_models(*PLACE)
        latex = get_leaderboard_latex(*PLACE)
        update_json(*PLACE, NAME, 0.5, 0.25, 8 / 255)
        theirs = load_model(NAME, dataset="cifar10", threat_model="Linf")
    with open(f"model_info/cifar10/Linf/{NAME}.json") as file:
        updated = json.load(file)
    images, _ = scoreag.load_data("cifar10:test[0:8]")
    ours = scoreag.load_classifier(f"robustbench:{NAME}")
    with torch.no_grad():
        difference = (ours(images) - theirs(images)).abs().max().item()
    found = {
        "table": [line for line in printed.getvalue().splitlines() if line[:1] == "|"][-1],
        "latex": latex,
        "updated": {name: updated[name] for name in ("clean_acc", "autoattack_acc", "dataset")},
        "logits_differ_by": difference,
        "normalization": [list(ours.mean), list(ours.std)],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
