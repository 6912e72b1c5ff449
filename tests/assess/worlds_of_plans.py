"""Plans over models and images small enough for a test."""

import tiny
from scoreag.classifiers.networks.small_cnn import build as small_cnn
from scoreag.models.model_cards import Card, write_card

PLAN = """\
description = "a test"
images = 6
batch_size = 4
eval_draws = 2

[datasets.tiny]
data = "image-folder:images"
prior = "prior"
reference_classifier = "judge"
classifiers = ["net", "other"]

[purifiers.gap]
steps = 1
classifiers = "net"

[attacks.pgd]
eps = ["8/255", "64/255"]
steps = 2
classifiers = "net"

[attacks.gat]
steps = 2
purifiers = []
classifiers = "net"

[attacks.gas]
attack_scale = [0.0, 30.0]
steps = 2
purifiers = []
classifiers = "net"
"""


def write_world(folder):
    """A score model, two classifiers, a judge, and 6 images in class folders."""
    tiny.write_score_model(folder / "prior")
    tiny.write_classifier(folder / "net")
    for name, seed in (("other", 11), ("judge", 12)):
        write_net(folder / name, seed)
    tiny.write_images(folder / "images", 6)
    (folder / "plan.toml").write_text(PLAN)
    return folder


def write_net(folder, seed, classes=tiny.CLASSES):
    """A classifier whose weights come from ``seed``, under the name of its folder."""
    options = {**tiny.CNN, "classes": len(classes)}
    card = Card(
        name=folder.name, kind="classifier", network="small_cnn", file="model.safetensors",
        license="MIT", image_shape=tiny.SHAPE, classes=classes, options=options, folder=folder,
    )  # fmt: skip
    write_card(card, tiny.filled(small_cnn(**options), seed, 0.4).state_dict())
