"""What a command reads before it computes: images and the reference classifier, checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.cli.options import DeviceOptions, ImageOptions

if TYPE_CHECKING:
    from scoreag.classifiers.normalized import NormalizedClassifier
    from scoreag.data.loading import Dataset
    from scoreag.diffusion.prior import Prior

NONE = "none"
LABEL_HINTS = {  # how each kind of data comes by labels
    "single-image": "write --class",
    "image-folder": "use class folders or a labels.csv",
    "npz": "put an array 'labels' into it",
}


def load_images(
    source: ImageOptions, prior: "Prior", classifier: str | None, out: str, progress: bool
) -> "Dataset":
    """The images that --data names; their classes and their shape must be the model's."""
    check_not_overwritten(source.data, out)
    data = load_source(source, label_names(prior, classifier), progress)
    check_classes(data, prior.classes)
    check_shape(data, prior.image_shape)
    return data


def load_source(source: ImageOptions, classes: tuple[str, ...], progress: bool) -> "Dataset":
    """The images that --data names, their labels numbered by ``classes``."""
    from scoreag.data.loading import load_dataset

    return load_dataset(
        source.data, source.data_dir, source.class_, source.height_width, progress, classes
    )


def label_names(prior: "Prior", classifier: str | None) -> tuple[str, ...]:
    """The names by which labels are numbered: the score model's, else the classifier's."""
    from scoreag.classifiers.loading import class_names
    from scoreag.data.source import lacks_class_names

    if lacks_class_names(prior.classes) and classifier:
        return class_names(classifier) or prior.classes
    return prior.classes


def check_not_overwritten(data: str, out: str) -> None:
    """Refuse to write where the data is read: to start afresh would delete it."""
    from scoreag.data.loading import source_path

    path = source_path(data)
    if path is not None and path.resolve().is_relative_to(Path(out).resolve()):
        raise ValueError(
            f"--data {data} is read from --out {out} itself, where the new images would replace "
            "it; give another --out"
        )


def check_classes(data: "Dataset", classes: tuple[str, ...]) -> None:
    """Refuse labels that count other classes than the model's; numbers are no names."""
    from scoreag.data.source import format_classes

    nameless = ((), tuple(map(str, range(len(classes)))), tuple(map(str, range(len(data.classes)))))
    if data.labels is None or data.classes == classes:
        return
    if data.classes not in nameless and classes not in nameless:
        raise ValueError(
            f"the classes of {data.name} are {format_classes(data.classes)}, those of the model "
            f"{format_classes(classes)}; give data of its classes, or a model of theirs"
        )


def check_shape(data: "Dataset", shape: tuple[int, int, int]) -> None:
    """Refuse images of another shape than the model's; they are resized only if that is asked."""
    actual = tuple(data.images.shape[1:])
    if actual == shape:
        return
    has, takes = (" x ".join(map(str, sizes)) for sizes in (actual, shape))
    fix = "give images of that shape"
    if data.name.startswith(("single-image:", "image-folder:")) and actual[0] == shape[0]:
        fix = f"write --size {shape[1]}" + (f"x{shape[2]}" if shape[1] != shape[2] else "")
    raise ValueError(f"the images of {data.name} are {has}, and the model takes {takes}; {fix}")


def check_labeled(data: "Dataset") -> None:
    """Refuse images without labels, which tell success from failure."""
    if data.labels is None:
        fix = LABEL_HINTS.get(data.name.partition(":")[0], "give data that has labels")
        raise ValueError(f"{data.name} has no labels, and success is judged by them; {fix}")


def describe_data(data: "Dataset") -> dict[str, Any]:
    """What the manifest and the rows say of the data."""
    sources = dict(zip(data.image_ids, data.files, strict=True)) if data.files else {}
    return {"data": {"name": data.name, "sha256": data.sha256}, "sources": sources}


def load_reference(
    word: str | None, prior: "Prior", compute: DeviceOptions
) -> "tuple[NormalizedClassifier | None, dict[str, Any]]":
    """The reference classifier of a run, and what the manifest says of its accuracy.

    It is the one given, else the one that the card names, else the bundled one of the classes.

    Raises:
        ValueError: it knows other classes than the score model.
    """
    name = word or prior.judge or find_judge(prior.image_shape, prior.classes) or NONE
    if name == NONE:
        return None, {}
    judge = compute.load_classifier(name)
    if ":" in name or Path(name).is_file():  # a function or a file of weights has no card
        return judge, {}
    card = compute.load_card(name)
    if prior.classes and card.classes and card.classes != prior.classes:
        raise ValueError(
            f"the judge {name} knows other classes than the score model; give a classifier of its "
            f"classes, or --reference-classifier {NONE}"
        )
    return judge, _accuracy_entry(card.metrics)


def _accuracy_entry(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    entry = metrics.get("test", {}).get("accuracy", {})
    known = {name: entry[name] for name in ("count", "total", "of") if name in entry}
    return {"judge": {"accuracy": known}} if len(known) == 3 else {}


def find_judge(
    shape: tuple[int, int, int], classes: Sequence[str], any_classes: bool = False
) -> str:
    """The bundled judge, ``NAME-judge``, of these images and classes; "" where there is none."""
    from scoreag.models.model_cards import list_cards, load_card

    for name in (name for name in list_cards("classifier") if name.endswith("-judge")):
        card = load_card(name)
        same = any_classes or (classes and card.classes == tuple(classes))
        if card.image_shape == shape and same:
            return name
    return ""
