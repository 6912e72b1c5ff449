"""Types with shapes, for the signatures of this library."""

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

Images: TypeAlias = Float[Tensor, "batch channel height width"]  # pixels in [0, 1]
Labels: TypeAlias = Int[Tensor, " batch"]
Targets: TypeAlias = Labels | Float[Tensor, "batch classes"]  # or shares of people, of each class
BatchScalar: TypeAlias = Float[Tensor, " batch"]
State: TypeAlias = Float[Tensor, " batch *dims"]  # x = x0 + sigma n, data scaled to [-1, 1]
Sigma: TypeAlias = Float[Tensor, ""]  # one noise level, in units of the state
Sigmas: TypeAlias = Float[Tensor, ""] | Float[Tensor, " batch"]  # one for all, or one per image
Logits: TypeAlias = Float[Tensor, "batch classes"]

Denoise: TypeAlias = Callable[[State, Sigma], State]  # (x, sigma) -> E[x0 | x]
LogLikelihood: TypeAlias = Callable[[State, Sigma], BatchScalar]  # (x0, sigma) -> log p(c | x0)
Classifier: TypeAlias = Callable[[Images], Logits]  # images -> logits
