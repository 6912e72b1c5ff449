"""A score model whose network torch.compile compiles, for sampling and for guidance.

The first call of each batch size takes a minute or more; torch keeps what it compiled on the disk.
Results equal those of the network itself to rounding.  Second derivatives, which gradients through
an exactly guided chain need, are beyond torch.compile: there the network itself is called.
"""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch import config as functorch_config

Compile = Callable[[nn.Module], Callable[..., Tensor]]
_IS_OFF: ContextVar[bool] = ContextVar("without_compiled", default=False)


def by_inductor(network: nn.Module) -> Callable[..., Tensor]:
    """``network`` by torch.compile, compiled for each shape of its inputs."""
    compiled: Callable[..., Tensor] = torch.compile(network, dynamic=False)
    return compiled


class CompiledNetwork:
    """Calls a network compiled; where that fails, the network itself, after one warning."""

    def __init__(self, network: nn.Module, compile: Compile = by_inductor) -> None:
        self.network, self.compile = network, compile
        self.compiled: Callable[..., Tensor] | None = None
        self.failed = False

    def __call__(self, *inputs: Any, **options: Any) -> Tensor:
        if self.failed or _IS_OFF.get():
            return self.network(*inputs, **options)
        try:
            return self._call_compiled(*inputs, **options)
        except RuntimeError as error:  # includes the errors of torch's compiler
            self.failed = True
            output = self.network(*inputs, **options)  # what fails here, too, is no fault of it
            reason = " ".join(str(error).split())[:200]
            warnings.warn(
                f"torch.compile cannot compile the score model here, which runs as it is: {reason}",
                stacklevel=2,
            )
            return output

    def _call_compiled(self, *inputs: Any, **options: Any) -> Tensor:
        # guidance may differentiate one graph several times, which donated buffers forbid
        with functorch_config.patch(donated_buffer=False), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch's own modules
            warnings.filterwarnings("ignore", message="The .grad attribute")
            if self.compiled is None:
                self.compiled = self.compile(self.network)
            return self.compiled(*inputs, **options)

    def __deepcopy__(self, memo: dict[int, Any]) -> "CompiledNetwork":
        return CompiledNetwork(copy.deepcopy(self.network, memo), self.compile)

    def __reduce__(self) -> Any:
        return CompiledNetwork, (self.network, self.compile)


@contextmanager
def without_compiled(is_off: bool) -> Iterator[None]:
    """Call the networks themselves, if ``is_off``: for second derivatives."""
    token = _IS_OFF.set(is_off or _IS_OFF.get())
    try:
        yield
    finally:
        _IS_OFF.reset(token)
