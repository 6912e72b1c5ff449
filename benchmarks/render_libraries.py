"""Models and attacks of other libraries: what was compared, by installed version."""

from markdown_parts import Row, table


def libraries(data: Row) -> str:
    models = table(
        ["model", "package", "input differs by, of 255", "logits differ by, of their spread"],
        [
            [row["name"], f"{row['package']} {row['version']}", f"{row['input_levels']:.2f}",
             f"{row['logits']:.4f}"]
            for row in data["models"]
        ],
    )  # fmt: skip
    attacks = table(
        ["attack", "package", "fooled, of those right before", "images", "largest change, of 255"],
        [
            [row["name"], f"{row['package']} {row['version']}",
             f"{row['fooled']} of {row['right_before']}", str(row["images"]),
             f"{row['linf_255']:.2f}"]
            for row in data["attacks"]
        ],
    )  # fmt: skip
    return (
        "\nNetworks with random weights and their libraries' own preprocessing of 8-bit pictures, "
        "beside `wrap_classifier(module, preprocessing=...)`, which resizes floats.\n\n"
        + models
        + "\nAttacks on `fashion-cnn` behind GAP (one draw, exact gradients), judged by a fresh "
        "draw. AutoAttack attacks one-step denoising, which costs less; GAT attacks the bare "
        "classifier.\n\n" + attacks
    )
