"""Programs of torch.export as files: of small networks, and with something done to them."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

SHAPE = (3, 16, 16)
ANY = ({0: torch.export.Dim("batch")},)


class Attentive(nn.Module):
    """Patches that look at one another: lists, constants, counted sizes, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.first, self.three = nn.Parameter(torch.randn(1, 1, 8)), nn.Linear(8, 24)
        self.last = nn.Linear(8, 5)
        self.register_buffer("scale", torch.tensor(2.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.first.expand(n, -1, -1), y], 1)
        parts = self.three(self.norm(y)).reshape(n, -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        y = y + scaled_dot_product_attention(*parts.unbind(0)).transpose(1, 2).reshape(n, -1, 8)
        one, other = y.chunk(2, 1)
        y = gelu(torch.cat([other, one], 1))
        y = y + torch.arange(y.shape[1], device=x.device)[None, :, None] / 100
        return self.last(y[:, 0]) * self.scale / torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])


def in_place() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip


def linear() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(768, 5))


def write(file: Path, module: nn.Module, shapes: object = ANY, count: int = 3) -> Path:
    """The program of ``module`` as it is, for ``count`` images or any number."""
    program = torch.export.export(module, (torch.rand(count, *SHAPE),), dynamic_shapes=shapes)
    torch.export.save(program, file)
    return file


def changed(file: Path, to: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The same archive with ``change(name, content)`` in place of each content."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            inside = name.partition("/")[2]
            new.writestr(f"{to.stem}/{inside}", change(inside, old.read(name)))
    return to
