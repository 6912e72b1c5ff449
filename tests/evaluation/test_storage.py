"""What is computed once: pieces on disk, the same however often the work was stopped."""

import os
import signal
import subprocess
import sys

import pytest
import torch

import tiny
from scoreag.evaluation.storage import load_or_compute


def squares(asked=None):
    """Rows that say where they are from; ``asked`` takes note of the pieces."""

    def make(piece):
        if asked is not None:
            asked.append(piece)
        return torch.tensor([[i, i * i] for i in piece])

    return make


def test_rows_are_cut_by_position_and_computed_once(tmp_path):
    asked = []
    rows = load_or_compute(tmp_path, "squares", 7, 3, squares(asked))
    assert rows[:, 1].tolist() == [0, 1, 4, 9, 16, 25, 36]
    assert asked == [range(0, 3), range(3, 6), range(6, 7)]
    assert (
        torch.equal(load_or_compute(tmp_path, "squares", 7, 3, squares(asked)), rows)
        and len(asked) == 3
    )


@pytest.mark.parametrize("harm", [lambda data: data[:-4], lambda data: b"", lambda data: b"x" * 99])
def test_a_damaged_piece_is_computed_again(tmp_path, harm):
    whole = load_or_compute(tmp_path, "squares", 7, 3, squares())
    file = tmp_path / "parts" / "squares-000003.safetensors"
    file.write_bytes(harm(file.read_bytes()))
    asked = []
    assert torch.equal(load_or_compute(tmp_path, "squares", 7, 3, squares(asked)), whole)
    assert asked == [range(3, 6)]


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from scoreag.evaluation.storage import load_or_compute

def make(piece):
    if piece.start == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.tensor([[i, i * i] for i in piece])

load_or_compute(Path(sys.argv[1]), "squares", 10, 3, make)
"""


def test_a_killed_process_loses_only_the_piece_at_hand(tmp_path):
    words = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(words, env=tiny.ENVIRONMENT).returncode == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path / "parts")) == [
        "squares-000000.safetensors", "squares-000003.safetensors"
    ]  # fmt: skip
    asked = []
    rows = load_or_compute(tmp_path, "squares", 10, 3, squares(asked))
    assert asked == [range(6, 9), range(9, 10)] and rows[:, 0].tolist() == list(range(10))
