"""certify: randomized smoothing of given images, or a bound on the errors on a generator.

Smoothing is by noise of the pixels, behind a denoiser, or over the parameters of a transform.
"""

from typing import Any

from scoreag.cli import options as o
from scoreag.cli.certify_generator import certify_generator
from scoreag.cli.certify_options import CertifyOptions
from scoreag.cli.certify_smoothing import certify_l2, certify_transform
from scoreag.cli.options import UsageError


def certify(options: CertifyOptions) -> None:
    r"""Certify L2 radii or transforms, or bound errors on generated images.

    scoreag certify --model cifar10 --classifier cifar10-resnet20 \
        --data cifar10:test[0:100] --out runs/certify
    """
    other: Any = options.smoothing if options.generative else options.generator
    for name, value in o.flatten(other).items():
        if value is not None and value is not False:  # 0 is a value, too
            flag = "--" + name.strip("_").replace("_", "-")
            form = "with --generative there is" if options.generative else "without --generative is"
            raise UsageError(f"{form} no {flag}; leave it out")
    _check_transform_options(options)
    if options.generative:
        certify_generator(options)
    elif options.smoothing.transform is not None:
        certify_transform(options)
    else:
        certify_l2(options)


def _check_transform_options(options: CertifyOptions) -> None:
    """Refuse a transform with options of L2 smoothing, and anything else without its model."""
    chosen = options.smoothing
    if chosen.transform is None:
        if chosen.transform_sigma is not None:
            raise UsageError(
                f"--transform-sigma {chosen.transform_sigma} is without --transform; name it, e.g. "
                "--transform blur, or write --sigma for L2 noise"
            )
        if options.model is None:
            raise UsageError("--model is missing; name a score model, e.g. cifar10")
        return
    fixes = {
        "model": "the classifier is smoothed without one: leave it out",
        "sigma": "write --transform-sigma",
        "dtype": "leave it out",
        "compile": "leave it out",
    }
    values = {"model": options.model, **o.flatten(chosen)}
    for name, fix in fixes.items():
        if values[name] is not None and values[name] is not False:
            raise UsageError(f"with --transform there is no --{name}; {fix}")
