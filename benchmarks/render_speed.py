"""Tables of speed: ours and others, side by side in turns; also where ours is slower."""

from collections.abc import Iterable
from statistics import median

from markdown_parts import Row, table


def speed(data: Row) -> str:
    """The short table: a line for each pair, the others' seconds over ours."""
    return f"\n{NOTE}\n\n" + table(
        ["what", "ours", "other", "times faster"], [*_short_rows(data["parts"])]
    )


def speed_parts(data: Row) -> str:
    """All parts that were measured, each with its own table."""
    text = f"\n{NOTE}\n"
    for name, render in PARTS.items():
        if name in data["parts"]:
            part = data["parts"][name]
            text += f"\n{TITLES[name]} ({part['repeats']} rounds, {part['finished']}, "
            text += f"{part['machine']}):\n\n" + render(part)
    return text


NOTE = (
    "Medians of rounds in turns, smallest to largest in brackets; seconds of one core's processor "
    "time. All sides of a part have the same weights and number of calls. The GEMM rate is that of "
    "a product of two matrices of 1,024 x 1,024 on the same machine."
)
TITLES = {
    "denoiser": "Denoiser calls in whole sampling loops",
    "tasks": "GAS and GAT at the same settings",
    "gradient": "Exact gradient through DiffPure's chain",
    "attacks": "PGD and APGD, same steps and radius",
    "certificates": "Noisy copies of randomized smoothing",
    "samplers": "Samples of equal quality",
}


def _spread(found: Iterable[float], form: str) -> str:
    some = [*found]
    return f"{median(some):{form}} ({min(some):{form}} to {max(some):{form}})"


def _ratio(ours: Row, theirs: Row, name: str = "seconds") -> float:
    """How many times faster ours is: the median over rounds."""
    return median([b / a for a, b in zip(ours[name], theirs[name], strict=True)])


def denoiser(part: Row) -> str:
    rows = [
        [
            row["side"],
            str(row["batch"]),
            _spread((row["batch"] / s for s in row["seconds_a_call"]), ".1f"),
            f"{100 * row['gemm_share']:.0f} %",
        ]
        for row in part["rows"]
    ]
    rates = ", ".join(f"{kind} {rate:.0f}" for kind, rate in part["gemm_gflops"].items())
    head = ["loop", "batch", "network evaluations of an image, a second", "of the GEMM rate"]
    return table(head, rows) + (
        f"\nA network of Ho et al. (2020) of {part['mflops_an_image']:.0f} MFLOPs an image; "
        f"GEMM: {rates} GFLOPs a second.\n"
    )


def tasks(part: Row) -> str:
    rows = [
        [
            row["side"],
            f"{row['success']} of {row['images']}",
            _spread((row["images"] / s for s in row["seconds"]), ".2f"),
            f"{median(row['success'] / s for s in row['seconds']):.2f}",
        ]
        for row in part["rows"]
    ]
    head = ["side", "fool the classifier", "images a second", "fooling images a second"]
    return table(head, rows) + f"\nModel `{part['model']}`, classifier `{part['classifier']}`.\n"


def gradient(part: Row) -> str:
    rows = [
        [
            row["side"],
            str(row["steps"]),
            _spread(row["seconds"], ".2f"),
            f"{row['evaluations'] / row['steps']:.1f}",
            _further(row, part),
            f"{median(row['mib']):.0f}",
        ]
        for row in part["rows"]
    ]
    head = ["gradient by", "steps", "seconds", "network evaluations a step",
            "forward passes' time, a further step", "MiB above the start"]  # fmt: skip
    return table(head, rows) + (
        f"\nModel `{part['model']}`, batch of {part['batch']}. Each measurement is a process of "
        "its own, so that its seconds have what torch loads on first use. A further step has not: "
        "it is the slope from the fewest steps.\n"
    )


def _further(row: Row, part: Row) -> str:
    """Seconds of one more step, in forward passes; empty at the fewest steps."""
    slope = _slope([one for one in part["rows"] if one["side"] == row["side"]], row["steps"])
    return f"{slope / part['forward']:.1f}" if slope is not None else ""


def _slope(rows: list[Row], steps: int) -> float | None:
    """Seconds a step between the fewest steps and ``steps``."""
    times = {row["steps"]: median(row["seconds"]) for row in rows}
    fewest = min(times)
    return None if steps == fewest else (times[steps] - times[fewest]) / (steps - fewest)


def attacks(part: Row) -> str:
    rows = [
        [
            row["side"],
            _spread((row["images"] / s for s in row["seconds"]), ".1f"),
            f"{100 * row['gemm_share']:.0f} %",
        ]
        for row in part["rows"]
    ]
    return table(["attack", f"images a second, {part['steps']} steps", "of the GEMM rate"], rows)


def certificates(part: Row) -> str:
    rows = [
        [row["side"], _spread((row["copies"] / s for s in row["seconds"]), ".0f")]
        for row in part["rows"]
    ]
    return table(["side", "copies a second"], rows)


def samplers(part: Row) -> str:
    pace = [(part["batch"] / median(row["seconds"]), row) for row in part["rows"]]
    rows = [
        [
            row["side"],
            str(row["steps"]),
            f"{row['calls']:.0f}",
            f"{row['frechet']:.2f}" + ("" if row["reached"] else ", not reached"),
            f"{rate:.2f}",
        ]
        for rate, row in sorted(pace, key=lambda pair: (not pair[1]["reached"], -pair[0]))
    ]
    head = ["sampler", "steps", "calls an image", "Fréchet", "images a second"]
    return table(head, rows) + (
        f"\nThe fewest steps tried whose Fréchet distance is at most {part['limit']:.2f}; "
        f"`{part['model']}`, {part['images']} samples, so that distances are biased upward alike.\n"
    )


PARTS = {
    "denoiser": denoiser,
    "tasks": tasks,
    "gradient": gradient,
    "attacks": attacks,
    "certificates": certificates,
    "samplers": samplers,
}
PAIRS = (  # part, ours, the other
    ("denoiser", "ours, Euler", "diffusers, DDIM"),
    ("denoiser", "ours, Heun", "EDM's loop, Heun"),
    ("tasks", "GAS: ours", "GAS: version 0.1.0"),
    ("tasks", "GAS: ours, bfloat16 maps", "GAS: version 0.1.0"),
    ("tasks", "GAT: ours", "GAT: version 0.1.0"),
    ("tasks", "GAT: ours, bfloat16 maps", "GAT: version 0.1.0"),
    ("gradient", "ours", "plain autograd"),
    ("gradient", "ours", "checkpointing"),
    ("gradient", "ours", "torchsde's adjoint"),
    ("attacks", "PGD: ours", "PGD: Foolbox"),
    ("attacks", "PGD: ours", "PGD: torchattacks"),
    ("attacks", "APGD: ours", "APGD: torchattacks"),
    ("certificates", "ours", "loop of Cohen et al."),
)


def _short_rows(parts: Row) -> Iterable[list[str]]:
    """A line for each pair and size that was measured."""
    for part, ours, other in PAIRS:
        rows = parts.get(part, {}).get("rows", [])
        if part == "gradient":
            yield from _gradient_row(rows, ours, other)
            continue
        sizes = {
            key: [r for r in rows if _size(r) == key] for key in dict.fromkeys(map(_size, rows))
        }
        for size, some in sizes.items():
            by_side = {row["side"]: row for row in some}
            if ours in by_side and other in by_side:
                name = "seconds_a_call" if part == "denoiser" else "seconds"
                ratio = _ratio(by_side[ours], by_side[other], name)
                what = f"{TITLES[part]}{size}"
                yield [what, ours, other, f"{ratio:.2f}"]


def _gradient_row(rows: list[Row], ours: str, other: str) -> Iterable[list[str]]:
    """The ratio of the seconds of a further step, which have nothing of the start."""
    sides = [[row for row in rows if row["side"] == side] for side in (ours, other)]
    most = max((row["steps"] for row in rows), default=0)
    if all(len(side) > 1 for side in sides):
        fast, slow = (_slope(side, most) for side in sides)
        assert fast is not None and slow is not None
        yield [f"{TITLES['gradient']}, a further step", ours, other, f"{slow / fast:.2f}"]


def _size(row: Row) -> str:
    for name in ("batch", "steps"):
        if name in row and "frechet" not in row:
            return f", {name} {row[name]}"
    return ""
