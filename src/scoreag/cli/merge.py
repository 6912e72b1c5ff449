"""merge: join the shards of a run in one folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from scoreag.cli import options as o
from scoreag.cli.runs import (
    command_line,
    find_main_table,
    format_summary,
    say_where,
    show_report,
    write_report,
)


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    out: Annotated[str, o.Opt("Folder of the whole run.", positional=True, check=o.not_empty)]
    shards: Annotated[list[str], o.Opt("Folders of all its shards.", positional=True)]
    overwrite: Annotated[bool, o.switch("Replace the run in the folder.")] = False
    output: o.RunOutputOptions


def merge(options: MergeOptions) -> None:
    """Join the shards of a run: the result is the run without --shard.

    scoreag merge runs/gat runs/gat-1 runs/gat-2
    """
    from scoreag.assess.merge_shards import merge_assessments
    from scoreag.methods.merge_runs import merge_tasks, read_shards

    out, output = Path(options.out), options.output
    shards = read_shards([Path(folder) for folder in options.shards])
    if str(shards[0].manifest.get("task")).startswith("assess "):
        merge_assessments(shards, out, command_line(), options.overwrite)
        write_report(out)
        show_report(output, out)
    else:
        summary = merge_tasks(shards, out, command_line(), options.overwrite)
        write_report(out)
        output.show(summary, format_summary(summary), find_main_table(out))
    say_where(output, out)
