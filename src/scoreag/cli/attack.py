"""attack: one attack on one classifier, as an assessment of a plan that the command writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from scoreag.cli import options as o
from scoreag.cli.assess import AssessOptions, Workers, assess_plan
from scoreag.cli.options import UsageError

ALL_IMAGES = 1_000_000  # of the data, which may have fewer
TASKS = {"gas": "synthesize", "gap": "purify"}  # of the names in a plan, no attack on images
NEEDS_MODEL = ("gat",)  # which draws from a score model


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    attack: Annotated[str, o.Opt("An attack; see: scoreag list attacks.", positional=True)]
    classifier: o.ClassifierName
    data: Annotated[str, o.Opt("Images with labels, e.g. cifar10:test[0:256].")]
    eps: Annotated[str | None, o.Opt("Size, in pixels of [0, 1]: 8/255.", "the attack's")] = None
    steps: Annotated[int | None, o.Opt("Steps.", "the attack's", o.at_least(1))] = None
    option: Annotated[
        list[str] | None,
        o.Opt("Any option of the attack; repeatable.", "none", metavar="NAME=VALUE"),
    ] = None
    model: Annotated[str | None, o.Opt("Score model, of gat and of --purifier.", "none")] = None
    purifier: Annotated[str | None, o.Opt("Attack the classifier behind it.", "none")] = None
    eval_draws: Annotated[
        int, o.Opt("Draws by which random classifiers are judged.", check=o.at_least(1))
    ] = 10
    reference_classifier: Annotated[
        list[str] | None, o.Opt("Says whether images still show their class; repeatable.", "none")
    ] = None
    transfer: Annotated[
        list[str] | None, o.Opt("Another classifier that reads the images; repeatable.", "none")
    ] = None
    seed: o.Seed = 0
    out: Annotated[str | None, o.Opt("Folder of the run; resumed by the same command.")] = None
    workers: Workers = None
    ray: o.RayAddress = None
    dry_run: o.DryRun = False
    batch_size: Annotated[int, o.Opt("Images per forward pass.", check=o.at_least(1))] = 16
    write_every: Annotated[int, o.Opt("Images between two writes.", check=o.at_least(1))] = 64
    lpips_weights: Annotated[str | None, o.Opt("FEATURES.npz,HEADS.npz of LPIPS.", "none")] = None
    download_lpips: Annotated[bool, o.switch("Download the weights of LPIPS if missing.")] = False
    max_memory: o.MaxMemory = None
    data_dir: o.DataDir = None
    overwrite: o.Overwrite = False
    shard: o.Shard = None
    output: o.RunOutputOptions
    compute: o.DeviceOptions


def attack(options: AttackOptions) -> None:
    """Attack a classifier by PGD, APGD, AutoAttack's ensemble, or any other.

    scoreag attack pgd --classifier fashion-cnn --data fashion-mnist:sample --out runs/pgd
    """
    from scoreag.assess.plan import build_plan, set_max_memory
    from scoreag.io.bounded import TomlLocations

    if not options.out and not options.dry_run:
        raise UsageError("--out is missing: the folder of the run")
    if verb := TASKS.get(options.attack):
        raise UsageError(f"{options.attack} is no attack on given images; write: scoreag {verb}")

    class Command(TomlLocations):
        """Where the keys of the plan stand: in the command."""

        def at(self, *path: str) -> str:
            return self.file

    place = Command(f"attack {options.attack}", {})
    plan = build_plan("attack", _plan(options), place, trust_code=True)  # the user typed its names
    assess_plan(
        set_max_memory(plan, options.max_memory),
        AssessOptions(
            plan="attack", out=options.out, dry_run=options.dry_run,
            workers=options.workers, ray=options.ray,
            lpips_weights=options.lpips_weights, download_lpips=options.download_lpips,
            data_dir=options.data_dir, write_every=options.write_every,
            overwrite=options.overwrite, shard=options.shard, output=options.output,
            compute=options.compute,
        ),
    )  # fmt: skip


def _read_eps(text: str) -> float:
    """A number, or a fraction: 0.03, 8/255."""
    from scoreag.assess.plan import parse_fraction

    try:
        return float(parse_fraction(text))
    except ValueError:
        raise UsageError(f"--eps {text!r:.40}: write a number or a fraction: 8/255") from None


def _plan(options: AttackOptions) -> dict[str, Any]:
    """The plan of one attack on one classifier."""
    from scoreag.assess.plan import AttackSpec
    from scoreag.models.trust import is_custom_classifier

    dataset: dict[str, Any] = {
        "data": options.data,
        "classifiers": _words(options.classifier, options.transfer),
        "reference_classifier": _words(*options.reference_classifier or ()),
    }
    if options.model is not None:
        dataset["prior"] = options.model
    if options.attack in NEEDS_MODEL and options.model is None:
        raise UsageError(f"attack {options.attack} draws from a score model; name --model")
    if options.purifier is not None and options.model is None:
        raise UsageError(f"--purifier {options.purifier} needs a score model; name --model")
    given = o.parse_pairs("--option", options.option or ())
    named: dict[str, Any] = {} if options.eps is None else {"eps": _read_eps(options.eps)}
    named |= {} if options.steps is None else {"steps": options.steps}
    if twice := given.keys() & named.keys():
        name = min(twice)
        raise UsageError(f"--{name} and --option {name}= say the same; write one of them")
    if taken := given.keys() & AttackSpec.model_fields.keys():
        raise UsageError(
            f"--option {min(taken)}= is no option of an attack; it belongs to the plan of an "
            "assessment: see docs/assess.md"
        )
    attack: dict[str, Any] = {
        **given,
        **named,
        "classifiers": options.classifier,
        "purifiers": [options.purifier or "none"],
    }
    purifiers: dict[str, Any] = {options.purifier: {}} if options.purifier else {}
    judges = options.reference_classifier or ()
    return {
        # a user's function need not have features, and has them for an assessment's plan to name
        "feature_extractor": "none" if any(map(is_custom_classifier, judges)) else "judge",
        "images": ALL_IMAGES,
        "seeds": [options.seed],
        "eval_draws": options.eval_draws,
        "batch_size": options.batch_size,
        "datasets": {"data": dataset},
        "purifiers": purifiers,
        "attacks": {options.attack: attack},
    }


def _words(*words: str | Sequence[str] | None) -> list[str]:
    """One list of all words."""
    return [w for word in words if word for w in ([word] if isinstance(word, str) else word)]
