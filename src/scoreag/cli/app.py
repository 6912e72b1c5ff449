"""The command line: every verb with its options, and how errors end it."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress

import typer

from scoreag.cli import assess, certify, components, convert, demo_report, evaluate, tasks, train
from scoreag.cli import options as o
from scoreag.cli.certify_options import CERTIFIED
from scoreag.cli.options import verb
from scoreag.cli.parsing import UsageError
from scoreag.core.signals import CommandInterrupted, format_interrupt
from scoreag.registry import UnknownNameError, truncate_text

LONGEST = 500  # characters of a message
INTERRUPTED = 130  # as shells say it: 128 and the number of the signal

app = typer.Typer(
    name="scoreag",
    help="How an image classifier fails on natural images, and what can protect it.",
    epilog="\b\nExample:\n  scoreag demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
train_app = typer.Typer(
    help="Train a model, and export it as a card.", no_args_is_help=True, rich_markup_mode=None,
    epilog="\b\nExample:\n  scoreag train score-model --preset cifar10-small --out models/mine",
)  # fmt: skip

verb(app, "demo", *o.TOUR, example="scoreag demo --out runs/demo")(demo_report.demo)
verb(
    app, "synthesize", o.MODEL, o.CLASSIFIER, o.CLASSES, o.PER_CLASS, o.TARGET, o.JUDGE,
    *o.COMMON,
    *o.SETTINGS,
    example="scoreag synthesize --model cifar10 --classifier cifar10-resnet20 --classes cat,dog "
    "--per-class 8 --out runs/gas",
)(tasks.synthesize)  # fmt: skip
verb(
    app, "transform", o.MODEL, o.CLASSIFIER, o.DATA, o.DATA_DIR, o.CLASS, o.SIZE, o.TARGET, o.JUDGE,
    *o.COMMON,
    *o.SETTINGS,
    example="scoreag transform --model cifar10 --classifier cifar10-resnet20 --data foolbox-samples "
    "--out runs/gat",
)(tasks.transform)  # fmt: skip
verb(
    app, "purify", o.MODEL, o.JUDGED_BY, o.DATA, o.DATA_DIR, o.CLASS, o.SIZE, *o.COMMON,
    *o.UNGUIDED,
    example="scoreag purify --model cifar10 --classifier cifar10-resnet20 --data runs/gat "
    "--out runs/gap",
)(tasks.purify)  # fmt: skip
verb(app, "assess", *o.ASSESSED, example="scoreag assess quick --out runs/quick")(assess.assess)
verb(
    app, "certify", o.MODEL, o.CLASSIFIER, *CERTIFIED,
    example="scoreag certify --model cifar10 --classifier cifar10-resnet20 "
    "--data cifar10:test[0:100] --sigma 0.25 --out runs/certify",
)(certify.certify)  # fmt: skip
verb(app, "report", *o.REPORTED, example="scoreag report runs/gat")(demo_report.report)
verb(
    app, "doctor", o.CLASSIFIER, o.DATA, o.DATA_DIR, o.CLASS, o.SIZE, *o.EXAMINED,
    example="scoreag doctor --classifier cifar10-resnet20 --data foolbox-samples",
)(components.doctor)  # fmt: skip
verb(app, "list", *o.LISTED, example="scoreag list samplers")(components.listed)
verb(
    train_app, "score-model", *o.TRAINED, *o.SCORE_MODEL,
    example="scoreag train score-model --preset cifar10-small --data cifar10:train[0:45000] "
    "--out models/mine",
)(train.score_model)  # fmt: skip
verb(
    train_app, "classifier", *o.TRAINED, *o.CLASSIFIER_TRAINED,
    example="scoreag train classifier --preset cifar10-resnet20 --data cifar10:train[0:45000] "
    "--out models/resnet",
)(train.classifier)  # fmt: skip
app.add_typer(train_app, name="train")
verb(
    app, "convert", *o.CONVERTED,
    example="scoreag convert edm-cifar10-32x32-cond-vp.pkl models/edm --class-names cifar10\n"
    "  scoreag convert resnet20.th models/mine --network cifar_resnet --config '{\"depth\": 20}' "
    "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --class-names cifar10",
)(convert.convert)  # fmt: skip
verb(app, "evaluate", *o.EVALUATED, example="scoreag evaluate cifar10 --images 100")(
    evaluate.evaluate
)


@app.callback(invoke_without_command=True)
def top(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        print(importlib.import_module("scoreag").__version__)
        raise typer.Exit()


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; its exit code: 0 done, 1 a failure, 2 wrong usage.

    128 and the number of the signal that ended it: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
    """
    given = list(sys.argv[1:] if words is None else words)
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        return _run(given)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    _say(f"warning: {message}")


def _run(given: list[str]) -> int:
    try:
        code = int(app(args=given, prog_name="scoreag", standalone_mode=False) or 0)
        return _end(code, format_interrupt(given)) if code == INTERRUPTED else code
    except (KeyboardInterrupt, typer.Abort):
        return _end(INTERRUPTED, format_interrupt(given))
    except CommandInterrupted as error:
        return _end(error.code, format_interrupt(given, error.signum, error.outcome))
    except Exception as error:
        if "--debug" in given:
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # typer's own; its message is the help
            print(error, file=sys.stderr)
            return 2
        return _end(*_told(error))


RENAMED = {  # of version 0.1; those that a verb has
    "strength": ["attack-scale"], "precision": ["similarity", "dtype"], "start": ["sigma-start"],
    "gradient": ["jacobian"], "estimate": ["x0-estimate"], "interval": ["attack-interval"],
    "variance": ["likelihood-variance"], "guidance": ["attack-loss"], "stop": ["stop-margin"],
    "retries": ["max-restarts"], "normalized": ["normalize-gradient"],
    "no-normalized": ["no-normalize-gradient"], "wrong": ["target"], "label": ["class"],
    "labels": ["classes"], "root": ["data-dir"], "judge": ["reference-classifier"],
    "micro-batch": ["batch-size"], "batch": ["batch-size"], "batch-size": ["write-every"],
    "lpips": ["lpips-weights FEATURES.npz,HEADS.npz or --download-lpips"],
    "noise": ["sigma"], "select": ["n0"], "samples": ["n"], "draws": ["purifier-draws"],
    "vote": ["aggregate"], "images": ["train-images"], "rate": ["lr"],
    "save-every": ["checkpoint-seconds"], "samples-every": ["sample-every-images"],
    "accumulate": ["grad-accum-steps"], "ema": ["ema-width"], "finer": ["grow-resolution"],
    "extra": ["extra-data"], "extra-share": ["extra-fraction"], "classes": ["class-names"],
    "arguments": ["config"], "licence": ["license"], "half": ["fp16"], "calls": ["nfe"],
    "features": ["feature-extractor"], "beside": ["compare-with"], "write": ["update-card"],
    "under": ["attack pgd --attack-steps 40 --eps 8/255"],
}  # fmt: skip


def _renamed(error: Exception) -> str:
    """What an option or a verb of version 0.1 is called now; "" where it is none."""
    context = getattr(error, "ctx", None)
    if isinstance(old := getattr(error, "option_name", None), str) and context is not None:
        known = {opt for option in context.command.params for opt in option.opts}
        known |= {opt for option in context.command.params for opt in option.secondary_opts}
        new = [f"--{word}" for word in RENAMED.get(old.lstrip("-"), ())]
        here = [word for word in new if word.split()[0] in known]
        return f"{old} is now {here[0]}; write that" if here else ""
    verb = "evaluate-model"
    return f"{verb} is now evaluate; write that" if f"'{verb}'" in str(error) else ""


def _told(error: Exception) -> tuple[int, str]:
    """Exit code and message; what no user can have caused says how to see more."""
    if told := _renamed(error):
        return 2, told
    if hasattr(error, "format_message"):  # of the parser of the command line
        return 2, f"{error.format_message().rstrip('.')}; see --help"
    if isinstance(error, UsageError | UnknownNameError):
        return 2, str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        return 1, f"{error.filename}: {error.strerror}; mend that and give the same command again"
    if isinstance(error, ValueError | OSError):
        return 1, str(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return 1, f"there is not enough memory for that ({error}); give something smaller"
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
        return 1, str(error)
    if isinstance(error, RecursionError):
        return 1, "what was read nests too deeply; give a whole file"
    return 1, f"{type(error).__name__}: {error} (not foreseen: --debug shows where)"


def _end(code: int, message: str) -> int:
    _say(message)
    return code


def _say(text: str) -> None:
    """One line on stderr, cut where it is too long."""
    with suppress(OSError):  # the terminal is gone, after SIGHUP
        print(truncate_text(f"scoreag: {text}", LONGEST), file=sys.stderr)
