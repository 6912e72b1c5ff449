"""Answers of people: a JSON or CSV file each, checked against the manifest of their study."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from scoreag.io.bounded import parse_json, read_text
from scoreag.io.manifest import MANIFEST
from scoreag.registry import truncate_text
from scoreag.study.manifest import FORMAT, answers_digest

Manifest: TypeAlias = Mapping[str, Any]
RawFields: TypeAlias = dict[str, Any]

UNSURE = "unsure"
WORDS = {"name": (), "choose": ("left", "right"), "real": ("real", "fake")}  # beside "unsure"
KINDS = ("practice", "main", "check", "repeat")
FIELDS = ("study", "participant", "list", "consent", "complete", "digest", "trials")
COLUMNS = ("trial", "item", "kind", "answer", "ms")
CODE = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a participant
DAMAGED = "take the file as the page wrote it"


class Trial(NamedTuple):
    """One answer: a class, or a word."""

    trial: int
    item: int
    kind: str
    answer: int | str
    ms: float


@dataclass(frozen=True)
class Participant:
    """What one person answered, in the order of the trials."""

    name: str
    file: str
    list_number: int
    consent: bool
    complete: bool
    trials: tuple[Trial, ...]

    def of_kind(self, kind: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.kind == kind]


def read_answers(manifest: Manifest, paths: Sequence[Path]) -> list[Participant]:
    """All people in the files, and in the files of the folders, sorted by name.

    Raises:
        ValueError: a file is damaged, edited, of another study, or of a person of another file.
    """
    found: dict[str, Participant] = {}
    for file in list_files(paths):
        for fields in read_file(file):
            person = check_participant(manifest, file, fields)
            if person.name in found:
                raise ValueError(
                    f"{file}: participant {person.name} is also in {found[person.name].file}; "
                    "give each person once"
                )
            found[person.name] = person
    if not found:
        raise ValueError("there are no answers in what was given; give .json or .csv files")
    return [found[name] for name in sorted(found)]


def list_files(paths: Sequence[Path]) -> list[Path]:
    """The files, and those in the folders."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [one for one in sorted(path.iterdir()) if one.suffix in (".json", ".csv")]
            found += [one for one in inside if not _is_manifest(one)]
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"there is no file {path}; give the answers as files or as a folder")
    return found


def _is_manifest(file: Path) -> bool:
    """Whether a file is a manifest, and not the answers of someone with the code ``manifest``."""
    if file.name != MANIFEST:
        return False
    try:
        value = parse_json(read_text(file))
    except ValueError:
        return False  # reading it as answers says what is wrong
    return isinstance(value, dict) and "task" in value


def read_file(file: Path) -> list[RawFields]:
    """The fields of each person in a file."""
    try:
        if file.suffix == ".csv":
            return _read_csv(read_text(file))
        value = parse_json(read_text(file))
    except (ValueError, csv.Error) as error:
        message = truncate_text(str(error), 150).removeprefix(f"{file} ")
        raise ValueError(f"{file} cannot be read: {message}; {DAMAGED}") from error
    people = value if isinstance(value, list) else [value]
    if not all(isinstance(one, dict) for one in people):
        raise ValueError(f"{file} holds no answers; {DAMAGED}")
    return people


def _read_csv(text: str) -> list[RawFields]:
    """A row is a trial; the fields of the participant are repeated.

    A header alone is what the page writes for someone who stopped before the first answer.
    """
    reader = csv.DictReader(io.StringIO(text))
    known, rows = set(reader.fieldnames or ()), list(reader)
    wanted = {*FIELDS, *COLUMNS} - {"trials"}
    if missing := sorted(wanted - known):
        raise ValueError(f"it has no column {missing[0]!r}")
    people = []
    for _, group in groupby(rows, key=lambda row: row["participant"]):
        trials = [*group]
        first: RawFields = {name: _parse_field(trials[0][name]) for name in FIELDS[:-1]}
        first |= {"format": FORMAT, "participant": trials[0]["participant"]}
        first |= {name: trials[0][name] for name in ("study", "digest")}
        first["trials"] = [{name: _parse_field(row[name]) for name in COLUMNS} for row in trials]
        people.append(first)
    return people


def _parse_field(text: str | None) -> Any:
    """A field of a CSV file: a whole number, true or false, or text."""
    word = text or ""
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if re.fullmatch(r"-?\d{1,15}", word):
        return int(word)
    return float(word) if re.fullmatch(r"\d{1,15}\.\d{1,15}", word) else word


def check_participant(manifest: Manifest, file: Path | str, fields: RawFields) -> Participant:
    """The participant, whose answers are those of this study, as the page wrote them.

    Args:
        file: where they are, for messages.

    Raises:
        ValueError: they are not.
    """
    _check_fields(file, fields)
    if fields["study"] != manifest["study"]:
        raise ValueError(
            f"{file} is of another study: {str(fields['study'])[:12]}, not "
            f"{manifest['study'][:12]}; leave the file out"
        )
    name, number = fields["participant"], fields["list"]
    trials = tuple(_read_trial(file, one) for one in fields["trials"])
    if fields["digest"] != answers_digest(fields):
        raise ValueError(f"{file} was edited: the answers of {name} have another digest; {DAMAGED}")
    if not 0 <= number < len(manifest["lists"]):
        raise ValueError(
            f"{file}: {name} has list {number}, and the study has lists 0 to "
            f"{len(manifest['lists']) - 1}; leave the file out"
        )
    _check_trials(manifest, file, number, trials)
    return Participant(name, str(file), number, fields["consent"], fields["complete"], trials)


def _check_fields(file: Path | str, fields: RawFields) -> None:
    if missing := [name for name in FIELDS if name not in fields]:
        raise ValueError(f"{file} has no {missing[0]!r}; {DAMAGED}")
    if fields.get("format", FORMAT) != FORMAT:
        raise ValueError(f"{file} has format {fields['format']}; this version reads {FORMAT}")
    name = fields["participant"]
    if not isinstance(name, str) or not CODE.fullmatch(name):
        raise ValueError(
            f"{file}: the participant is {truncate_text(repr(name), 80)}; expected 1 to 64 "
            "letters, digits, _ or -"
        )
    for field, kind in (("list", int), ("consent", bool), ("complete", bool), ("trials", list)):
        if type(fields[field]) is not kind:
            value = truncate_text(repr(fields[field]), 80)
            raise ValueError(f"{file}: {field!r} is {value}; {DAMAGED}")


def _read_trial(file: Path | str, fields: Any) -> Trial:
    if not isinstance(fields, dict) or not set(COLUMNS) <= fields.keys():
        raise ValueError(f"{file}: a trial is {truncate_text(repr(fields), 80)}; {DAMAGED}")
    trial = Trial(*(fields[name] for name in COLUMNS))
    numbers = type(trial.trial) is int and type(trial.item) is int
    if not numbers or type(trial.ms) not in (int, float) or not 0 <= trial.ms < 1e12:
        raise ValueError(f"{file}: trial {truncate_text(repr(fields), 80)} is damaged; {DAMAGED}")
    if trial.kind not in KINDS:
        kind = truncate_text(repr(trial.kind), 40)
        raise ValueError(f"{file}, trial {trial.trial}: the kind is {kind}; {DAMAGED}")
    return trial


def _check_trials(
    manifest: Manifest, file: Path | str, number: int, trials: Sequence[Trial]
) -> None:
    """Refuse repeated trials, items of another list or of none, and answers that are none."""
    steps = [trial.trial for trial in trials]
    if any(one >= other for one, other in pairwise(steps)):
        raise ValueError(f"{file}: the trials are not in order, or repeated; {DAMAGED}")
    allowed = allowed_items(manifest, number)
    for trial in trials:
        where = f"{file}, trial {trial.trial}"
        if trial.item not in allowed[trial.kind]:
            raise ValueError(
                f"{where}: item {trial.item} is no {trial.kind} trial of list {number}; leave the "
                "file out"
            )
        if not is_answer(manifest, trial.answer):
            raise ValueError(
                f"{where}: the answer is {truncate_text(repr(trial.answer), 60)}; expected "
                f"{describe_answers(manifest)}"
            )
    for kind in ("main", "check"):
        items = [trial.item for trial in trials if trial.kind == kind]
        if len(items) != len(set(items)):
            raise ValueError(f"{file}: an image of the {kind} trials is there twice; {DAMAGED}")


def allowed_items(manifest: Manifest, number: int) -> dict[str, set[int]]:
    """The items that a person of a list may have seen, by the kind of the trial."""
    checks = {one["item"] for one in manifest["items"] if one["purpose"] == "check"}
    main = set(manifest["lists"][number])
    return {"main": main, "repeat": main, "check": checks, "practice": set(manifest["practice"])}


def list_answers(manifest: Manifest) -> list[int | str]:
    """The answers that the page of this study can give; "cannot tell" is the last one."""
    return [*(WORDS[manifest["design"]] or range(len(manifest["classes"]))), UNSURE]


def is_answer(manifest: Manifest, answer: Any) -> bool:
    """Whether the page of this study can give the answer; 1.0 and true are no class."""
    return type(answer) in (int, str) and answer in list_answers(manifest)


def describe_answers(manifest: Manifest) -> str:
    """The answers that a page can give, in words."""
    words = WORDS[manifest["design"]] or (f"a class from 0 to {len(manifest['classes']) - 1}",)
    return f"{', '.join(words)} or {UNSURE}"
