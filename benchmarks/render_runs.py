"""What is said of runs as such: how they were split, how often killed, how large they are."""

from markdown_parts import Row, share, table


def reproducibility(data: Row) -> str:
    body = [[name, "yes" if same else "NO"] for name, same in data["equal"].items()]
    off = data["micro_batch_off"]
    text = f"\n`scoreag transform` on {data['images']} images, {data['files']} files:\n\n"
    text += table(["against the first run", "all files equal, byte for byte"], body)
    return text + (
        f"\nWith the micro-batch off, images within 1 of 255: {share(off['within_one'])}; largest "
        f"difference {off['largest_255']}; answers that flipped: {off['flips']}.\n"
    )


def killed(data: Row) -> str:
    kills = data["kills"]
    hit = sum(kill["hit"] for kill in kills)
    same = data["equal"]["rows"] and data["equal"]["pictures"] and not data["left_aside"]
    body = [
        [
            str(number),
            str(kill["shard"]),
            f"{kill['moment']:.2f}" + ("" if kill["hit"] else ", it had ended"),
            kill["after"],
            f"{kill['rows']} of {data['rows']}",
            str(kill["aside"]),
        ]
        for number, kill in enumerate(kills, start=1)
    ]
    head = ["kill", "images a shard", "seconds", "after", "rows there", "half-written"]
    told = (
        f"\n`scoreag assess` of {data['cells']} cells, which takes {data['seconds']:.0f} s without "
        f"its start; {len(kills)} times SIGKILL, {hit} of them to a process at work. Finished "
        f"then, all {data['rows']} rows and {data['pictures']} pictures equal to those of a run "
        f"that nothing interrupted, and nothing else left: {'yes' if same else 'NO'}.\n\n"
    )
    return told + table(head, body)


def report_size(data: Row) -> str:
    body = [
        [
            row["folder"],
            f"{row['rows']:,}",
            row.get("distances", "none"),
            *(" / ".join(f"{x:{form}}" for x in row[name]) for name, form in FIGURES.items()),
            f"{row['page_mib']:.1f}",
        ]
        for row in data["rows"]
    ]
    head = ["folder", "rows", "distances in features", "seconds", "of the processor", "peak MiB",
            "load of the machine", "page, MiB"]  # fmt: skip
    text = f"\n{data['images']:,} images of 32 x 32 in each cell, one thread, each report made "
    return text + f"{len(data['rows'][0]['seconds'])} times:\n\n" + table(head, body)


def forecast(data: Row) -> str:
    """A line a cell, and all together; names are SET/CLASSIFIER/PURIFIER/ATTACK."""
    rows = data["rows"]
    body = [
        [*_members(row["cell"]), *_costs(row), "yes" if row["measured_on"] else ""] for row in rows
    ]
    total = {name: sum(row[name] for row in rows) for name in ("images", *COUNTS, "seconds")}
    kinds = sum(row["measured_on"] > 0 for row in rows)
    few = max(row["measured_on"] for row in rows)
    text = f"\nOne core, no image left alone early; {kinds} kind(s) of cell were measured on {few} "
    text += "images each, the others are scaled from them; good to a factor of two, but an attack "
    text += "that leaves images alone early takes less, down to a tenth.\n\n"
    head = ["classifier", "purifier", "attack", "n", "score-model calls", "gradients", "hours",
            "measured"]  # fmt: skip
    return text + table(head, [*body, ["all", "", "", *_costs(total), ""]])


def _members(cell: str) -> list[str]:
    """Classifier, purifier and attack; the images as they are have neither."""
    _, *members = cell.split("/", 3)
    return members if len(members) == 3 else [*members, "", ""]


def _costs(row: Row) -> list[str]:
    counts = (f"{row[name]:,}" for name in ("images", *COUNTS))
    hours = row["seconds"] / 3600
    return [*counts, f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"]


COUNTS = ("score_model_calls", "gradients")
FIGURES = {"seconds": ".1f", "processor": ".1f", "mib": ".0f", "load": ".1f"}
