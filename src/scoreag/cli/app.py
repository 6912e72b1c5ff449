"""The command line: every command with its options, and how errors end it."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.completion import get_completion_inspect_parameters

from scoreag.cli import (
    assess,
    attack,
    certify,
    convert,
    demo,
    evaluate,
    info,
    merge,
    push,
    study,
    study_analysis,
    tasks,
    train,
    train_semantic,
    world,
)
from scoreag.cli.options import UsageError, add_command, one_of
from scoreag.cli.torchrun import refuse_ranks, split_by_ranks
from scoreag.core.signals import CommandInterrupted, format_interrupt
from scoreag.registry import UnknownNameError, truncate_text

MAX_MESSAGE = 500  # characters
INTERRUPTED = 130  # as in shells: 128 plus the number of the signal
RENAMED = {  # options of version 0.1; the message names the first one that the command has
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
SYNONYMS = {  # words that people write for an option that has another name here
    "class": ["classes"], "labels": ["classes"], "label": ["classes"],
    "images": ["per-class", "data"], "n-images": ["per-class", "images"], "num": ["per-class"],
    "epsilon": ["eps"], "dataset": ["data"], "output": ["out"], "output-dir": ["out"],
    "prior": ["model"], "score-model": ["model"], "victim": ["classifier"],
    "attack-classifier": ["classifier"], "learning-rate": ["lr"], "epochs": ["train-images"],
    "num-steps": ["steps"], "n-steps": ["steps"], "gpu": ["device cuda"],
    "force": ["overwrite"],
}  # fmt: skip
LISTED = {  # required options whose values a command lists
    "--preset": "presets", "--model": "models", "--classifier": "classifiers",
}  # fmt: skip
COMPLETE_VAR = "_SCOREAG_COMPLETE"  # set by a shell that requests completions
SHELLS = ("bash", "zsh", "fish", "powershell")

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
study_app = typer.Typer(
    help="Ask people what they see in the images of runs.", no_args_is_help=True,
    rich_markup_mode=None,
    epilog="\b\nExample:\n  scoreag study build runs/gat --design name --checks cifar10:test "
    "--out studies/gat",
)  # fmt: skip

COMMANDS: dict[str, Callable[[Any], None]] = {
    "demo": demo.demo,
    "synthesize": tasks.synthesize,
    "transform": tasks.transform,
    "purify": tasks.purify,
    "attack": attack.attack,
    "assess": assess.assess,
    "certify": certify.certify,
    "merge": merge.merge,
    "report": info.report,
    "doctor": info.doctor,
    "list": info.list_components,
    "show": info.show,
    "convert": convert.convert,
    "push": push.push,
    "evaluate": evaluate.evaluate,
    "world": world.world,
}
SPLIT_BY_TORCHRUN = ("synthesize", "transform", "purify", "attack", "assess")
for name, command in COMMANDS.items():
    by_ranks = split_by_ranks if name in SPLIT_BY_TORCHRUN else refuse_ranks
    add_command(app, name, by_ranks(command))
add_command(train_app, "score-model", train.score_model)
add_command(train_app, "classifier", train.classifier)
add_command(train_app, "semantic", train_semantic.semantic)
app.add_typer(train_app, name="train")
add_command(study_app, "build", study.build)
add_command(study_app, "serve", study.serve)
add_command(study_app, "analyze", study_analysis.analyze)
add_command(study_app, "power", study_analysis.power)
app.add_typer(study_app, name="study")


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show:
        print(importlib.import_module("scoreag").__version__)
        raise typer.Exit()


@app.command(epilog="\b\nExample:\n  scoreag completion bash >> ~/.bashrc")
def completion(
    shell: Annotated[str, typer.Argument(help=", ".join(SHELLS) + ".", show_default=False)],
) -> None:
    """Print the completion script of a shell."""
    from typer._completion_shared import get_completion_script

    one_of(*SHELLS)("the shell", shell)
    print(get_completion_script(prog_name="scoreag", complete_var=COMPLETE_VAR, shell=shell))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 success, 1 failure, 2 wrong usage.

    A signal gives 128 plus its number: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if COMPLETE_VAR in os.environ:
        get_completion_inspect_parameters()  # registers typer's completion classes
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return _run(words)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print_line(f"warning: {message}")


def _run(words: list[str]) -> int:
    try:
        code = int(app(args=words, prog_name="scoreag", standalone_mode=False) or 0)
        return _exit(code, format_interrupt(words)) if code == INTERRUPTED else code
    except (KeyboardInterrupt, typer.Abort):
        return _exit(INTERRUPTED, format_interrupt(words))
    except CommandInterrupted as error:
        return _exit(error.code, format_interrupt(words, error.signum, error.outcome))
    except Exception as error:
        if "--debug" in words:
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # typer's own; its message is the help
            print(error, file=sys.stderr)
            return 2
        return _exit(*explain_error(error))


def explain_error(error: Exception) -> tuple[int, str]:
    """Exit code and message of an error; unexpected ones point to --debug."""
    if hasattr(error, "format_message"):  # of typer's parser
        return 2, _renamed_message(error) or _usage_message(error)
    if isinstance(error, UsageError | UnknownNameError):
        return 2, str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        return 1, f"{error.filename}: {error.strerror}; fix that and run the same command again"
    if isinstance(error, ValueError | OSError):
        return 1, str(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return 1, f"there is not enough memory for that ({error}); give something smaller"
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
        return 1, str(error)
    if isinstance(error, RecursionError):
        return 1, "the input is nested too deeply; give a valid file"
    return 1, f"{type(error).__name__}: {error} (unexpected: --debug shows where)"


def _usage_message(error: Any) -> str:
    """The parser's message, with the command that lists the values of a missing option."""
    flags = getattr(getattr(error, "param", None), "opts", ())
    listed = next((LISTED[flag] for flag in flags if flag in LISTED), "")
    is_missing = type(error).__name__ == "MissingParameter" and listed
    hint = f"scoreag list {listed} names some" if is_missing else "see --help"
    return f"{error.format_message().rstrip('.')}; {hint}"


def _renamed_message(error: Exception) -> str:
    """The name here of an option that has another one elsewhere, or had one in 0.1; or ""."""
    context, old = getattr(error, "ctx", None), getattr(error, "option_name", None)
    if context is None or not isinstance(old, str):
        renamed = "'evaluate-model'" in str(error)
        return "evaluate-model is now evaluate; write that" if renamed else ""
    known = {flag for p in context.command.params for flag in (*p.opts, *p.secondary_opts)}
    word = old.lstrip("-").replace("_", "-")
    for table, text in (
        (RENAMED, "{} is now {}; write that"),
        (SYNONYMS, "no option {}; write {}"),
    ):
        names = [f"--{name}" for name in table.get(word, ())]
        if new := next((name for name in names if name.split()[0] in known), None):
            return text.format(old, new)
    return f"no option {old}; write --{word}" if f"--{word}" in known else ""


def _exit(code: int, message: str) -> int:
    print_line(message)
    return code


def print_line(text: str) -> None:
    """Print one line on stderr, shortened to ``MAX_MESSAGE``."""
    with suppress(OSError):  # no terminal after SIGHUP
        print(truncate_text(f"scoreag: {text}", MAX_MESSAGE), file=sys.stderr)
