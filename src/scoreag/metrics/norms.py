"""How far an image moved: l0, l1, l2 and linf, per image, pixels in [0, 1]."""

from scoreag.core.types import BatchScalar, Images, Labels


def l0(clean: Images, adversarial: Images, labels: Labels | None = None) -> BatchScalar:
    """The number of pixels of which at least one channel changed, of height x width."""
    changed = (adversarial != clean).any(dim=1)
    return changed.flatten(1).sum(1).to(clean.dtype)


def l1(clean: Images, adversarial: Images, labels: Labels | None = None) -> BatchScalar:
    """The sum of absolute changes over pixels and channels."""
    return (adversarial - clean).abs().flatten(1).sum(1)


def l2(clean: Images, adversarial: Images, labels: Labels | None = None) -> BatchScalar:
    """The Euclidean length of the change, over pixels and channels."""
    return (adversarial - clean).flatten(1).norm(dim=1)


def linf(clean: Images, adversarial: Images, labels: Labels | None = None) -> BatchScalar:
    """The largest change of any channel of any pixel; 8/255 is the usual ball."""
    return (adversarial - clean).abs().flatten(1).amax(1)


def compute_norms(clean: Images, adversarial: Images) -> dict[str, BatchScalar]:
    """All four by name: l0, l1, l2, linf."""
    return {norm.__name__: norm(clean, adversarial) for norm in (l0, l1, l2, linf)}


def psnr(clean: Images, adversarial: Images, labels: Labels | None = None) -> BatchScalar:
    """``-10 log10(mean squared change)``; infinite for equal images."""
    return -10 * (adversarial - clean).square().flatten(1).mean(1).log10()
