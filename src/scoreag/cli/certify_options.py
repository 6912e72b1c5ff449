"""The options of certify: of smoothing, of a bound on a generator, and of both."""

from dataclasses import dataclass
from typing import Annotated

from scoreag.cli import options as o

_TRANSFORM_HELP = "Smoothing: over blur, translation or brightness-contrast, without a score model."
_TRANSFORM_SIGMA_HELP = (
    "Std. deviation of its noise: of the blur's variance in pixels^2, of the shift in pixels, or "
    "of log contrast and brightness: K,B."
)


@dataclass(frozen=True, kw_only=True)
class SmoothingOptions:
    """Options for smoothing only; None: the default of its config."""

    data: Annotated[str | None, o.Opt("Smoothing: images with labels.")] = None
    class_: o.ClassName = None
    reading: o.ReadOptions
    sigma: Annotated[float | None, o.Opt("Smoothing: std. deviation of the noise.", "0.25")] = None
    transform: Annotated[str | None, o.Opt(_TRANSFORM_HELP, "L2 noise", metavar="NAME")] = None
    transform_sigma: Annotated[
        str | None, o.Opt(_TRANSFORM_SIGMA_HELP, "1; 2; 0.2,0.2", metavar="NUMBERS")
    ] = None
    n0: Annotated[int | None, o.Opt("Smoothing: copies that choose the class.", "100")] = None
    n: Annotated[int | None, o.Opt("Smoothing: copies that bound its rate.", "10000")] = None
    dtype: Annotated[str | None, o.Opt("Smoothing: float32 or bf16.", "float32")] = None
    compile: Annotated[bool, o.switch("Smoothing: compile by torch.compile.")] = False


@dataclass(frozen=True, kw_only=True)
class GeneratorSampling:
    """How the generator samples."""

    attack_scale: Annotated[
        float | None, o.Opt("Generator: s_y; of the attack under --energy.", "0; of the attack 100")
    ] = None
    guidance_scale: o.GuidanceScale = None
    guide: o.Guide = None
    guidance_interval: o.GuidanceInterval = None
    steps: o.Steps = None
    sampler: o.Sampler = None
    sampler_option: o.SamplerOption = None


@dataclass(frozen=True, kw_only=True)
class PurifierOptions:
    """The purifier before the classifier."""

    purifier: Annotated[str | None, o.Opt("Generator: purify before classifying.", "none")] = None
    purifier_draws: Annotated[
        int | None, o.Opt("Purified images per prediction.", "1", o.at_least(1))
    ] = None
    aggregate: Annotated[str | None, o.Opt("Over these: mean or majority.", "mean")] = None
    max_memory: o.MaxMemory = None


@dataclass(frozen=True, kw_only=True)
class SteeringOptions:
    """Who steers the generator, and how our own attack does."""

    energy: Annotated[
        str | None,
        o.Opt("Bounds for everyone who steers by at most R, e.g. 0.5,1,2.", "none", metavar="R,R"),
    ] = None
    attack_per_class: Annotated[
        int | None, o.Opt("Images of each class by our attack, at each R.", "20", o.at_least(0))
    ] = None
    energy_pace: Annotated[
        str | None, o.Opt("Of our attack: greedy, uniform or proportional.", "uniform")
    ] = None
    attack_interval: Annotated[
        str | None, o.Opt("Noise levels of our attack.", "1,30", metavar="LOW,HIGH")
    ] = None
    reference_classifier: Annotated[
        list[str] | None, o.Opt("Also bounds errors on images that all of these see.", "none")
    ] = None


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions:
    """Options for the bound on a generator only."""

    classes: Annotated[str | None, o.Opt("Generator: as for synthesize.", "all")] = None
    per_class: Annotated[int | None, o.Opt("Images of each class.", "1000", o.at_least(1))] = None
    target: Annotated[str | None, o.Opt("Generator: as for synthesize.", "none")] = None
    sampling: GeneratorSampling
    steering: SteeringOptions
    purification: PurifierOptions


@dataclass(frozen=True, kw_only=True)
class CertifyOptions:
    model: Annotated[
        str | None, o.Opt("Score model: a card's name or folder; needed unless --transform.", False)
    ] = None
    classifier: o.ClassifierName
    generative: Annotated[bool, o.switch("Bound the error rate on generated images.")] = False
    alpha: Annotated[float, o.Opt("Probability that a certificate is wrong.")] = 0.001
    smoothing: SmoothingOptions
    generator: GeneratorOptions
    seed: o.Seed = 0
    out: o.Out
    overwrite: o.Overwrite = False
    dry_run: o.DryRun = False
    batch_size: Annotated[
        int | None, o.Opt("Images per forward pass.", "100; generator: 50", o.at_least(1))
    ] = None
    cluster: o.ClusterOptions
    output: o.TableOutputOptions
    compute: o.DeviceOptions
