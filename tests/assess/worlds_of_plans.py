"""Plans over models and images small enough for a test."""

import tiny
from scoreag.classifiers.networks.small_cnn import build as plain_cnn
from scoreag.models.model_cards import Card, write_card

PLAN = """\
about = "a test"
images = 6
micro_batch = 4
answers = 2

[sets.tiny]
data = "folder:images"
prior = "prior"
judge = "judge"
victims = ["net", "other"]

[purifiers.gap]
steps = 1
victims = "net"

[attacks.pgd]
epsilon = ["8/255", "64/255"]
steps = 2
victims = "net"

[attacks.gat]
steps = 2
purifiers = "none"
victims = "net"

[attacks.gas]
strength = [0.0, 30.0]
steps = 2
purifiers = "none"
victims = "net"
"""


def write_world(folder):
    """A score model, two victims, a judge, and 6 images in class folders."""
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
        name=folder.name, kind="classifier", network="plain_cnn", file="model.safetensors",
        license="MIT", image_shape=tiny.SHAPE, classes=classes, options=options, folder=folder,
    )  # fmt: skip
    write_card(card, tiny.filled(plain_cnn(**options), seed, 0.4).state_dict())
