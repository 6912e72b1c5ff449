"""The command line: every command with its options, and how errors end it."""

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer
from typer.completion import get_completion_inspect_parameters

from scoreag.cli import (
    assess,
    certify,
    convert,
    demo,
    doctor,
    evaluate,
    purify,
    report,
    synthesize,
    train,
    transform,
)
from scoreag.cli.list import list_components
from scoreag.cli.options import add_command, one_of
from scoreag.cli.parsing import UsageError
from scoreag.core.signals import CommandInterrupted, format_interrupt
from scoreag.registry import UnknownNameError, truncate_text

MAX_MESSAGE = 500  # characters
INTERRUPTED = 130  # as shells say it: 128 and the number of the signal
RENAMED = {  # options of version 0.1; the first that the command has is told
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
COMPLETE_VAR = "_SCOREAG_COMPLETE"  # by which a shell asks for completions
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

for name, command in (
    ("demo", demo.demo),
    ("synthesize", synthesize.synthesize),
    ("transform", transform.transform),
    ("purify", purify.purify),
    ("assess", assess.assess),
    ("certify", certify.certify),
    ("report", report.report),
    ("doctor", doctor.doctor),
    ("list", list_components),
    ("convert", convert.convert),
    ("evaluate", evaluate.evaluate),
):
    add_command(app, name, command)
add_command(train_app, "score-model", train.score_model)
add_command(train_app, "classifier", train.classifier)
app.add_typer(train_app, name="train")


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show:
        print(importlib.import_module("scoreag").__version__)
        raise typer.Exit()


def check_shell(shell: str) -> str:
    one_of(*SHELLS)("the shell", shell)
    return shell


@app.command(epilog="\b\nExample:\n  scoreag completion bash >> ~/.bashrc")
def completion(
    shell: Annotated[
        str,
        typer.Argument(help=", ".join(SHELLS) + ".", show_default=False, callback=check_shell),
    ],
) -> None:
    """Print the script that completes commands and options in a shell."""
    from typer._completion_shared import get_completion_script

    print(get_completion_script(prog_name="scoreag", complete_var=COMPLETE_VAR, shell=shell))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code: 0 done, 1 a failure, 2 wrong usage.

    128 and the number of the signal that ended it: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if COMPLETE_VAR in os.environ:
        get_completion_inspect_parameters()  # makes typer's answers known to the shells
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
    """Exit code and message; what no user can have caused says how to see more."""
    if hasattr(error, "format_message"):  # of the parser of the command line
        return 2, _new_name(error) or f"{error.format_message().rstrip('.')}; see --help"
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


def _new_name(error: Exception) -> str:
    """What an option or a command of version 0.1 is called now; "" where it is none."""
    context, old = getattr(error, "ctx", None), getattr(error, "option_name", None)
    if context is None or not isinstance(old, str):
        verb = "'evaluate-model'" in str(error)
        return "evaluate-model is now evaluate; write that" if verb else ""
    known = {word for one in context.command.params for word in (*one.opts, *one.secondary_opts)}
    names = [f"--{name}" for name in RENAMED.get(old.lstrip("-"), ())]
    here = [name for name in names if name.split()[0] in known]
    return f"{old} is now {here[0]}; write that" if here else ""


def _exit(code: int, message: str) -> int:
    print_line(message)
    return code


def print_line(text: str) -> None:
    """One line on stderr, cut where it is too long."""
    with suppress(OSError):  # the terminal is gone, after SIGHUP
        print(truncate_text(f"scoreag: {text}", MAX_MESSAGE), file=sys.stderr)
