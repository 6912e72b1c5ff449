"""ADM (Dhariwal and Nichol 2021), under the parameter names of Karras et al. (2022)."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu

from scoreag.networks.released import Block, Maps, Resampling, Vector, named, normalisation, waves

Level: TypeAlias = tuple[str, int, bool]  # place, width, whether positions look at each other


class AdmUNet(nn.Module):
    """Args:
    channels: width of the first level; level ``l`` has ``channels * multipliers[l]``.
    classes: number of labels; 0 knows none.
    blocks: residual blocks a level on the way down; one more on the way up.
    attention_at: sides of the maps after whose blocks positions look at each other.
    head: channels of one head of attention.
    augment: number of augmentations that it was told in training; here none is told.
    variance: it predicts a variance, too, which is left out.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (3, 64, 64),
        classes: int = 0,
        channels: int = 192,
        multipliers: Sequence[int] = (1, 2, 3, 4),
        blocks: int = 3,
        attention_at: Sequence[int] = (32, 16, 8),
        head: int = 64,
        augment: int = 0,
        variance: bool = False,
        widening: int = 4,
    ) -> None:
        super().__init__()
        colours, side, _ = image_shape
        self.image_shape, self.classes, self.width = tuple(image_shape), classes, channels
        told = channels * widening
        if augment:
            self.map_augment = nn.Linear(augment, channels, bias=False)
        self.map_layer0, self.map_layer1 = nn.Linear(channels, told), nn.Linear(told, told)
        if classes:
            self.map_label = nn.Linear(classes, told, bias=False)

        self.told, self.head, self.blocks = told, head, blocks
        levels = [
            (f"{side >> level}x{side >> level}", channels * m, side >> level in attention_at)
            for level, m in enumerate(multipliers)
        ]
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        kept = self._add_down(colours, levels)
        width = self._add_up(levels, kept)
        self.out_norm = normalisation(width)
        self.out_conv = Resampling(width, colours * (2 if variance else 1), 3)

    def _add_down(self, colours: int, levels: Sequence[Level]) -> list[int]:
        """The way down; the widths of what it leaves for the way up."""
        (first, width, _), *_ = levels
        self.enc[f"{first}_conv"] = Resampling(colours, width, 3)
        kept = [width]
        for at, wide, looks in levels:
            if at != first:
                self.enc[f"{at}_down"] = self._block(width, width, "down")
                kept.append(width)
            for i in range(self.blocks):
                self.enc[f"{at}_block{i}"] = self._block(width, wide, looks=looks)
                kept.append(width := wide)
        return kept

    def _add_up(self, levels: Sequence[Level], kept: list[int]) -> int:
        """The way up; its width at the end."""
        *_, (last, width, _) = levels
        self.dec[f"{last}_in0"] = self._block(width, width, looks=True)
        self.dec[f"{last}_in1"] = self._block(width, width)
        for at, wide, looks in reversed(levels):
            if at != last:
                self.dec[f"{at}_up"] = self._block(width, width, "up")
            for i in range(self.blocks + 1):
                self.dec[f"{at}_block{i}"] = self._block(width + kept.pop(), wide, looks=looks)
                width = wide
        return width

    def _block(self, width: int, wide: int, resample: str = "", looks: bool = False) -> Block:
        return Block(width, wide, self.told, resample, heads=wide // self.head if looks else 0)

    def forward(
        self, x: Maps, time: Float[Tensor, " batch"], labels: Int[Tensor, " batch"] | None = None
    ) -> Maps:
        told, colours = self._told(time, labels), x.shape[1]
        kept = list[Tensor]()
        for layer in self.enc.values():
            x = layer(x, told) if kept else layer(x)
            kept.append(x)
        for name, layer in self.dec.items():
            x = layer(torch.cat([x, kept.pop()], 1) if "block" in name else x, told)
        return self.out_conv(silu(self.out_norm(x)))[:, :colours]

    def _told(self, time: Float[Tensor, " batch"], labels: Tensor | None) -> Vector:
        told = self.map_layer1(silu(self.map_layer0(waves(time, self.width))))
        if self.classes:
            told = told + self.map_label(named(labels, self.classes, told))
        return silu(told)


build = AdmUNet
