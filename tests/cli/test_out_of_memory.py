"""Memory that runs out is told with the option that decides it, and its value."""

import subprocess
import sys

import pytest
import torch

import tiny
from scoreag.cli.app import main
from scoreag.core.memory_errors import describe_request, is_out_of_memory, suggest_option

CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 3221225472 bytes. Error code 12 (Cannot allocate memory)"
)
CUDA = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.1 GiB"


def caused(error):
    """As ``check_classifier`` hands on what a network raises."""
    try:
        raise ValueError("the classifier cannot take images of (3, 8, 8)") from error
    except ValueError as found:
        return found


@pytest.mark.parametrize(
    "error, told",
    [
        (RuntimeError(CPU), ", when 3 GiB more were wanted"),
        (torch.OutOfMemoryError(CUDA), ", when 20.00 GiB more were wanted"),
        (MemoryError(), ""),
        (MemoryError("Unable to allocate 3.1 GiB for an array"), ""),
        (RuntimeError("std::bad_alloc"), ""),
        (RuntimeError("could not create a primitive"), ""),
        (caused(RuntimeError(CPU)), ""),
    ],
)
def test_a_want_of_memory_is_seen(error, told):
    assert is_out_of_memory(error) and describe_request(error) == told


@pytest.mark.parametrize(
    "error", [ValueError(CPU), RuntimeError("shape '[2]' is invalid"), KeyError("memory"), None]
)
def test_other_errors_are_not(error):
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(
    "values, told",
    [
        ({"batch_size": 16, "write_every": 64, "seed": 0}, "a smaller --batch-size (now 16)"),
        ({"batch_size": 0, "write_every": 64}, "smaller --write-every (now 64); --batch-size 0"),
        ({"batch_size": 16, "feature_batch_size": 250}, "or --feature-batch-size (now 250)"),
        ({"batch_size": None, "n": 3}, "write a smaller --batch-size (now the default)"),
        (
            {"batch_size": 512, "grad_accum_steps": 1},
            "--batch-size (now 512), or a larger --grad-accum-steps",
        ),
        ({"batch_size": None}, "write a smaller --batch-size (now the default)"),
        ({"plan": "quick", "write_every": 64}, "batch_size in the plan, or fewer --workers"),
        ({"kind": None}, "more memory"),
    ],
)
def test_the_option_that_decides_it_is_named_with_its_value(values, told):
    assert told in suggest_option(values)


@pytest.fixture
def here(tmp_path, monkeypatch):
    tiny.write_score_model(tmp_path / "prior")
    tiny.write_classifier(tmp_path / "net")
    tiny.write_images(tmp_path / "images", 4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


WORDS = ["transform", "--model", "prior", "--classifier", "net", "--data", "image-folder:images",
         "--out", "out", "--quiet"]  # fmt: skip


@pytest.mark.parametrize("error", [RuntimeError(CPU), torch.OutOfMemoryError(CUDA), MemoryError()])
def test_a_verb_tells_it_in_one_line_and_leaves_nothing(here, capsys, monkeypatch, error):
    def none_left(*given, **more):
        raise error

    monkeypatch.setattr("scoreag.methods.run_task.run_batch", none_left)
    assert main([*WORDS, "--batch-size", "8"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("scoreag: memory ran out") and err.count("\n") == 1
    assert "write a smaller --batch-size (now 8)" in err and "unexpected" not in err
    assert not (here / "out").exists()


LIMITED = """
import resource, sys, torch
import scoreag.methods.run_task, scoreag.cli.tasks
from scoreag.cli.app import main
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_the_allocators_own_error_is_told_so(here):
    """A batch of 4096 padded images, in 100 MiB more than Python and torch take."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *WORDS, "--batch-size", "4096", "--write-every", "4096"],
        env=tiny.ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("scoreag: memory ran out")
    assert "write a smaller --batch-size (now 4096)" in done.stderr


def test_a_cell_of_an_assessment_names_the_plans_batch_size(monkeypatch):
    from assess.made_rows import cell
    from scoreag.assess import executors, run_attack
    from scoreag.assess.experiments import ModelCache

    def none_left(*given):
        raise RuntimeError(CPU)

    monkeypatch.setattr(run_attack, "compute_rows", none_left)
    told = executors.compute_shard(
        executors.Shard(cell(batch_size=32), (range(4),)), ModelCache()
    ).message
    assert told.startswith("memory ran out, when 3 GiB more were wanted; write a smaller batch_si")
    assert "(now 32)" in told
