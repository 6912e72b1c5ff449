import os
import subprocess
import sys

import pytest

import tiny
from scoreag.core import allocator

FAULTS = """
import resource
import sys
from scoreag.core.allocator import VARIABLES, keep_freed_memory
import torch
keeps = sys.argv[1] == "keep" and keep_freed_memory()
faults = []
for _ in range(16):
    torch.ones(2**24)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(keeps, faults[-1] - faults[-9])
"""


def page_faults(mode: str, **variables: str) -> tuple[bool, int]:
    env = {k: v for k, v in tiny.ENVIRONMENT.items() if k not in allocator.VARIABLES}
    run = subprocess.run(
        [sys.executable, "-c", FAULTS, mode], env=env | variables, check=True, text=True,
        capture_output=True,
    )  # fmt: skip
    keeps, faults = run.stdout.split()
    return keeps == "True", int(faults)


HAS_GLIBC = "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", {})


@pytest.mark.skipif(not HAS_GLIBC, reason="the C library is not glibc")
def test_freed_memory_is_used_again_without_page_faults():
    """Eight arrays of 64 MiB, one after another, have 16,384 pages of 4 KiB each."""
    keeps, faults = page_faults("keep")
    assert keeps and faults < 4 * 16384
    assert page_faults("leave")[1] > 7 * 16384


def test_the_environment_decides(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert not allocator.keep_freed_memory()


@pytest.mark.parametrize("library", [None, object()])
def test_another_c_library_is_left_alone(monkeypatch, library):
    monkeypatch.setattr(allocator, "_c_library", lambda: library)
    assert not allocator.keep_freed_memory()
