"""Shards of a run: whole batches in turn, each shard in a folder of its own.

Batches are cut in the whole run, so that an image is bit-identical to that of a run without shards.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

SHARD = "shard"  # the entry of a manifest
T = TypeVar("T")


@dataclass(frozen=True)
class RunShard:
    """The shard ``number`` of 1..``count``."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def select(self, batches: Sequence[T]) -> Sequence[T]:
        """The batches of this shard: every ``count``-th, beginning with the ``number``-th.

        Raises:
            ValueError: there are fewer batches than shards, so that one would be empty.
        """
        if self.count > len(batches):
            count = len(batches)
            there = "is 1 batch" if count == 1 else f"are {count} batches"
            raise ValueError(
                f"--shard {self}, but there {there} in all, which {'is' if count == 1 else 'are'} "
                f"not split; write at most {count} shards, or a smaller --batch-size"
            )
        return batches[self.number - 1 :: self.count]


def parse_shard(text: str) -> RunShard:
    """``2/4``: the second of four."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--shard {text!r:.40}: write NUMBER/COUNT, from 1/4 to 4/4")
    return RunShard(int(match[1]), int(match[2]))


def shard_entry(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entry of a shard's manifest; empty for a run without shards."""
    entry = manifest.get(SHARD)
    return entry if isinstance(entry, Mapping) else {}
