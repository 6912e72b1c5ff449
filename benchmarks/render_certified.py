"""Certificates: of images, a line a noise level; of generators, a line each."""

from markdown_parts import Row, share, short, table


def certified(data: Row) -> str:
    first = data["rows"][0]
    radii = list(first["certified"])
    text = f"\n`{first['models']['classifier']}` behind `{first['models']['score-model']}`, "
    text += f"{first['data']}, {first['images']} images; L2, pixels in [0, 1]. The certificate of "
    text += f"an image is wrong with probability {first['alpha']:g} at most.\n\n"
    head = ["noise", "N0", "N", "networks", "accuracy, radius 0", "abstained",
            *(f"certified at {r}" for r in radii), "mean radius", "images a minute"]  # fmt: skip
    return text + table(head, map(_line, data["rows"]))


def _line(row: Row) -> list[str]:
    return [
        f"{row['noise']:g}", str(row["select"]), f"{row['samples']:,}",
        row["precision"] + ", compiled" * row.get("compiled", False),
        share(row["rates"]["accuracy"]), short(row["rates"]["abstained"]),
        *("beyond N" if entry is None else share(entry) for entry in row["certified"].values()),
        f"{row['mean_radius']:.3f}", f"{row['images'] / row['minutes']:.2f}",
    ]  # fmt: skip


def promised(data: Row) -> str:
    first = data["rows"][0]
    models = first["models"]
    text = f"\nSamples of `{models['score-model']}`, classified by `{models['classifier']}`, "
    text += f"{first['per_class']} of each class. With probability {1 - first['alpha']:g} all "
    text += "classes' bounds hold at once.\n\n"
    head = ["attack scale s_y", "purifier", "sampler", "steps", "misclassified",
            "at most, mean over classes", "at most, the worst class"]  # fmt: skip
    return text + table(head, map(_generator, data["rows"]))


def _generator(row: Row) -> list[str]:
    return [
        f"{row['strength']:g}", row["purifier"], row["sampler"], str(row["steps"]),
        share(row["misclassified"]),
        *(f"{100 * row[name]:.1f} %" for name in ("upper_mean", "upper_largest")),
    ]  # fmt: skip
