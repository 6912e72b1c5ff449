"""The options of certify: some of smoothing, some of the bound on a generator, some of both."""

from scoreag.cli.options import (
    CLASS,
    DATA_DIR,
    DEVICE,
    JSON,
    OUT,
    OVERWRITE,
    QUIET,
    SEED,
    SIZE,
    TRUST_CODE,
    option,
)

CERTIFIED = (
    option("--generative", bool, "Bound how often draws of the model fool, per class.", False),
    option("--alpha", float, "Probability that a certificate is wrong; default: 0.001."),
    option("--data", str, "Smoothing: images with labels, e.g. cifar10:test[0:100]."),
    DATA_DIR,
    CLASS,
    SIZE,
    option("--sigma", float, "Smoothing: deviation of the noise, in [0, 1]; default: 0.25."),
    option("--n0", int, "Smoothing: N0, copies that choose the class; default: 100."),
    option("--n", int, "Smoothing: N, copies that bound its probability; default: 10000."),
    option("--dtype", str, "Smoothing: float32, or bf16, faster on some; default: float32."),
    option("--compile", bool, "Smoothing: a program of the networks, by torch.compile.", False),
    option("--classes", str, "Draws: classes, as for synthesize; default: all."),
    option("--per-class", int, "Draws of each class; default: 1000."),
    option("--target", str, "Guided draws: what the classifier shall say; default: none."),
    *(
        option(f"--{flag}", kind, f"Draws: {text}; default: {default}.", metavar=metavar)
        for flag, kind, text, default, metavar in (
            ("attack-scale", float, "s_y of the generator", "0, no guidance", None),
            ("steps", int, "noise levels before 0", "the model card's", None),
            ("sampler", str, "how a level leads to the next", "the model card's", None),
            ("sampler-option", list[str], "an option of the sampler", "none", "NAME=VALUE"),
        )
    ),
    option("--purifier", str, "Draws: judge the classifier behind this; default: none."),
    option("--purifier-draws", int, "Purified images for each answer; default: 1."),
    option("--aggregate", str, "Over these: mean (of logits) or majority; default: mean."),
    option("--max-memory", str, "For purified images taken at once, e.g. 4GiB; default: 2GiB."),
    SEED,
    OUT,
    OVERWRITE,
    QUIET,
    JSON,
    DEVICE,
    option("--batch-size", int, "Images that the networks see at once; default: 100, draws 50."),
    TRUST_CODE,
)
