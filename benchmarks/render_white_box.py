"""What an exact attack leaves of a purifier's blind robustness: a table for each axis."""

from markdown_parts import Row, share, short, table

AXES = {  # the axis, what its numbers are, and by how many draws its rows are judged
    "votes": "draws that vote, on the images of one attack",
    "steps": "steps of the chain",
    "similarity": "similarity s_x",
    "precision": "precision s_x",
}


def white_box(data: Row) -> str:
    text = (
        f"\nClassifier `{data['classifier']}` behind GAP, {data['data']}, {data['images']} images, "
    )
    text += f"{255 * data['epsilon']:g}/255; APGD, {data['iterations']} iterations, EOT "
    text += f"{data['draws']}, an image left alone once it is misread in {data['stop']} fresh "
    text += f"draws. By the majority of {data['answers']} draws that no attack saw, or as said.\n"
    for axis, what in AXES.items():
        rows = [row for row in data["rows"] if row["axis"] == axis]
        if rows:
            head = [what, "clean", "blind", "exact", "exact, worst draw", "left of the blind"]
            text += f"\nOver {what}:\n\n" + table(head, map(_line, rows))
    return text


def _line(row: Row) -> list[str]:
    shares = [share(row[name]) for name in ("clean", "blind", "exact")]
    left = share(row["survives"]) if row["survives"]["total"] else "none was right"
    return [f"{row['at']:g}", *shares, short(row["exact_worst"]), left]
