"""The manifest of a study from chosen images: items, pairs, lists, checks and practice."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scoreag.core.class_names import lacks_class_names
from scoreag.io.images import decode_png, encode_png
from scoreag.study.lists import Version, count_lists, is_asked, make_lists, shuffle_key
from scoreag.study.manifest import (
    CLEAN,
    DESIGNS,
    FORMAT,
    MINIMAL_MS,
    TASK,
    canonical_json,
    compute_study_id,
    fix_exclusions,
)
from scoreag.study.pictures import PROXIES, Picture, Pool, pixel_digest
from scoreag.study.selection import Confidence, select_easy, select_main, shuffle_blocks

MAX_CLASSES = 10  # that have a key each, 1 to 0
N_CHECKS, N_REPEATS, N_PRACTICE = 10, 20, 5
SHOWN_PIXELS = {"name": 256, "choose": 160, "real": 256}  # width of an enlarged image, at most
SHUFFLED = "shuffled"  # the condition of checks that are plainly no photographs
QUESTIONS = {
    "name": "What is in this picture?",
    "choose": "Which picture shows this more clearly: {}?",
    "real": "Is this a photograph, or was it made or changed by a computer?",
}


@dataclass(frozen=True)
class Settings:
    """How a study is built.

    Args:
        images: of each condition.
        raters: people planned.
        trials: images in a list at most, without checks and repeats.
        enlarge: nearest or lanczos.
        completion_code: shown at the end; "" makes one.
    """

    design: str
    title: str = "What do you see?"
    images: int = 60
    raters: int = 25
    trials: int = 200
    seed: int = 0
    enlarge: str = "nearest"
    completion_code: str = ""


@dataclass(frozen=True, eq=False)
class Study:
    """A manifest, and the PNG of each item."""

    manifest: Mapping[str, Any]
    pngs: Sequence[bytes]


@dataclass(frozen=True, eq=False)
class _Entry:
    """An item before it has a number; ``pair`` is another entry."""

    picture: Picture
    purpose: str
    right: int | str | None = None
    side: str | None = None
    pair: "_Entry | None" = None


def design_study(
    pool: Pool, easy: Sequence[Picture], settings: Settings, confidence: Confidence | None = None
) -> Study:
    """The study of the images of a pool; the same settings and images give the same study.

    Args:
        easy: labeled real images, of which checks and practice are chosen.
        confidence: of a judge, in each picture's label; it becomes the proxy "judge".

    Raises:
        ValueError: the design does not fit the images, or the lists do not fit the people.
    """
    _check_fit(pool, settings)
    design, seed = settings.design, settings.seed
    main = _pair_up(pool, settings) if design == "choose" else _plain_entries(pool, settings)
    shown = {one.picture.source_pixels for one in main} | {one.picture.pixels for one in main}
    others = [one for one in easy if one.pixels not in shown]
    needed = N_CHECKS + N_PRACTICE
    extra = _MAKERS[design](select_easy(others, needed, seed, confidence), seed)
    entries = [*main, *extra]
    shape = _common_shape(entries)
    numbers = {id(one): i for i, one in enumerate(entries)}
    lists = _make_lists(main, settings)
    proxies = _proxies(entries, confidence)
    items = [_to_item(i, one, numbers, proxies[i]) for i, one in enumerate(entries)]
    repeats = min(N_REPEATS, min(map(len, lists)) // 2)
    rights = [[_right_answer(design, items[i]) for i in some] for some in lists]
    manifest = {
        "format": FORMAT, "task": TASK, "title": settings.title, "design": design,
        "classes": list(pool.classes), "seed": seed, "raters": settings.raters,
        "conditions": list(pool.pictures), "items": items, "lists": lists,
        "repeats": repeats, "checks": N_CHECKS,
        "practice": [i["item"] for i in items if i["purpose"] == "practice" and is_asked(i)],
        "minimal_ms": MINIMAL_MS,
        "exclusions": fix_exclusions(design, rights, N_CHECKS + repeats),
        "enlargement": _enlargement(settings, shape), "runs": [dict(run) for run in pool.runs],
        "data": {use: dict(one) for use, one in pool.data.items()},
    }  # fmt: skip
    code = hashlib.sha256(f"completion\n{canonical_json(manifest)}".encode()).hexdigest()[:8]
    manifest["completion_code"] = settings.completion_code or code.upper()
    manifest = {"study": compute_study_id(manifest), **manifest}
    return Study(manifest, [one.picture.png for one in entries])


def _check_fit(pool: Pool, settings: Settings) -> None:
    """Refuse classes and conditions that the design has no question for."""
    count = len(pool.classes)
    if settings.design not in DESIGNS:
        raise ValueError(f"no design {settings.design!r}; there are {', '.join(DESIGNS)}")
    if lacks_class_names(pool.classes):
        raise ValueError("the classes of the runs are numbers, which people cannot name")
    if settings.design == "name" and not 2 <= count <= MAX_CLASSES:
        raise ValueError(
            f"--design name has the keys 1 to 0 for at most {MAX_CLASSES} classes, and these runs "
            f"have {count}; write --design choose, or real"
        )
    if settings.design != "name" and (CLEAN not in pool.pictures or len(pool.pictures) < 2):
        raise ValueError(
            f"--design {settings.design} compares untouched images with others, and the runs have "
            f"only {', '.join(pool.pictures)}; add a run of transform, or --clean cifar10:test"
        )
    if settings.raters < 1:
        raise ValueError(f"--raters is {settings.raters}; expected 1 or more")


def _plain_entries(pool: Pool, settings: Settings) -> list[_Entry]:
    chosen = select_main(pool.pictures, settings.images, settings.seed)
    return [_Entry(one, "main") for some in chosen.values() for one in some]


def _pair_up(pool: Pool, settings: Settings) -> list[_Entry]:
    """An entry for each chosen image beside an untouched one: its own, or another of its class."""
    attacked = {name: some for name, some in pool.pictures.items() if name != CLEAN}
    chosen = select_main(attacked, settings.images, settings.seed)
    clean = {one.source_pixels: one for one in pool.pictures[CLEAN]}
    free = sorted(clean.values(), key=lambda one: shuffle_key(settings.seed, "pair", one.pixels))
    partners: dict[str, _Entry] = {}
    entries = []
    taken = {one.source_pixels for some in chosen.values() for one in some}
    for one in (one for some in chosen.values() for one in some):
        match = clean.get(one.source_pixels) or _find_partner(one, free, taken)
        taken.add(match.source_pixels)
        partner = partners.setdefault(match.source_pixels, _Entry(match, "main"))
        side = _side(settings.seed, one)
        entries.append(_Entry(one, "main", side=side, pair=partner))
    return [*partners.values(), *entries]


def _find_partner(one: Picture, free: Sequence[Picture], taken: set[str]) -> Picture:
    """An untouched image of the same class, if possible one that has no partner yet."""
    same = [other for other in free if other.label == one.label]
    if not same:
        raise ValueError(
            f"condition {one.condition} has no untouched images of its class {one.label} to be "
            "compared with; give a run of transform with that class, or --clean cifar10:test"
        )
    return next((other for other in same if other.source_pixels not in taken), same[0])


def _side(seed: int, one: Picture) -> str:
    return ("left", "right")[int(shuffle_key(seed, "side", one.condition, one.pixels), 16) % 2]


def _name_extras(easy: Sequence[Picture], seed: int) -> list[_Entry]:
    """Checks, then practice, whose right answer is the label."""
    return [_Entry(one, purpose, right=one.label) for purpose, one in _purposes(easy)]


def _choose_extras(easy: Sequence[Picture], seed: int) -> list[_Entry]:
    """Each image beside one of another class, which does not show the class asked for."""
    entries = []
    for number, (purpose, one) in enumerate(_purposes(easy)):
        others = [*easy[number + 1 :], *easy[:number]]
        other = next((o for o in others if o.label != one.label), None)
        if other is None:
            raise ValueError("checks of --design choose need images of two classes; give --checks")
        partner, side = _Entry(other, purpose), _side(seed, one)
        entries += [_Entry(one, purpose, right=side, side=side, pair=partner), partner]
    return entries


def _real_extras(easy: Sequence[Picture], seed: int) -> list[_Entry]:
    """Whole photographs, and shuffled ones, which nobody takes for one; half of the checks each."""
    order = sorted(range(N_CHECKS), key=lambda k: shuffle_key(seed, "whole", k))
    whole = {*order[: N_CHECKS // 2], *range(N_CHECKS, N_CHECKS + N_PRACTICE, 2)}
    entries = []
    for number, (purpose, one) in enumerate(_purposes(easy)):
        if number in whole:
            entries.append(_Entry(one, purpose, right="real"))
            continue
        image = shuffle_blocks(decode_png(one.png), seed + number)
        shuffled = replace(
            one, condition=SHUFFLED, png=encode_png(image), pixels=pixel_digest(image)
        )
        entries.append(_Entry(shuffled, purpose, right="fake"))
    return entries


_MAKERS = {"name": _name_extras, "choose": _choose_extras, "real": _real_extras}


def _purposes(easy: Sequence[Picture]) -> Iterator[tuple[str, Picture]]:
    for i, one in enumerate(easy):
        yield ("check" if i < N_CHECKS else "practice"), one


def _make_lists(main: Sequence[_Entry], settings: Settings) -> list[list[int]]:
    """The item numbers of each list; in pairs, the untouched image is no trial of its own."""
    asked = [i for i, one in enumerate(main) if settings.design != "choose" or one.pair is not None]
    versions: list[Version] = []
    for i in asked:
        one = main[i]
        shown = one.pair.picture if one.pair else one.picture
        versions.append((shown.source_pixels, one.picture.condition))
    n_lists = count_lists(versions, settings.trials)
    if settings.raters < n_lists:
        raise ValueError(
            f"--raters {settings.raters} people cannot fill {n_lists} lists, which these images "
            f"need so that nobody sees two versions of one; give --raters {n_lists} or more"
        )
    return [[asked[k] for k in one] for one in make_lists(versions, n_lists)]


def _proxies(
    entries: Sequence[_Entry], confidence: Confidence | None
) -> list[dict[str, float | None]]:
    """The proxies of each entry, rounded, as machines compute them a little differently."""
    found: list[dict[str, Any]] = [
        {name: one.picture.proxies.get(name) for name in PROXIES} for one in entries
    ]
    if confidence is not None:
        values = confidence([one.picture for one in entries])
        found = [{**table, "judge": value} for table, value in zip(found, values, strict=True)]
    return [
        {name: None if value is None else round(float(value), 4) for name, value in table.items()}
        for table in found
    ]


def _to_item(
    number: int, one: _Entry, numbers: Mapping[int, int], proxies: Mapping[str, float | None]
) -> dict[str, Any]:
    picture = one.picture
    return {
        "item": number,
        "condition": picture.condition,
        "source": picture.source,
        "label": picture.label,
        "fooled": picture.fooled,
        "sha256": hashlib.sha256(picture.png).hexdigest(),
        "proxies": dict(proxies),
        "purpose": one.purpose,
        "pair": None if one.pair is None else numbers[id(one.pair)],
        "side": one.side,
        "right": one.right,
    }


def _right_answer(design: str, item: Mapping[str, Any]) -> int | str:
    """The answer of somebody who sees all that there is; "left" for the left one of two."""
    answers = {
        "name": item["label"],
        "choose": item["side"],
        "real": "real" if item["condition"] == CLEAN else "fake",
    }
    found: int | str = answers[design]
    return found


def _common_shape(entries: Sequence[_Entry]) -> tuple[int, ...]:
    """The shape of all images; people would see through others which is which."""
    found: dict[tuple[int, ...], str] = {}
    for one in entries:
        what = one.picture.condition if one.purpose == "main" else f"{one.purpose} images"
        found.setdefault(tuple(decode_png(one.picture.png).shape), what)
    if len(found) > 1:
        (a, first), (b, second) = [("x".join(map(str, s)), w) for s, w in found.items()][:2]
        raise ValueError(
            f"images differ in shape: {first} {a}, {second} {b}; give runs and data of one shape"
        )
    return next(iter(found))


def _enlargement(settings: Settings, shape: tuple[int, ...]) -> dict[str, Any]:
    """How the page enlarges: every pixel becomes ``factor`` x ``factor`` CSS pixels."""
    factor = SHOWN_PIXELS[settings.design] // max(shape[1:])
    return {"method": settings.enlarge, "factor": max(1, factor)}
