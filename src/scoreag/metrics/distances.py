"""How far an image moved: l0, l1, l2 and linf, per image, pixels in [0, 1]."""

from scoreag.core.types import Images, Labels, PerImage


def l0(clean: Images, adversarial: Images, labels: Labels | None = None) -> PerImage:
    """The number of pixels of which at least one channel changed, of height x width."""
    changed = (adversarial != clean).any(dim=1)
    return changed.flatten(1).sum(1).to(clean.dtype)


def l1(clean: Images, adversarial: Images, labels: Labels | None = None) -> PerImage:
    """The sum of absolute changes over pixels and channels."""
    return (adversarial - clean).abs().flatten(1).sum(1)


def l2(clean: Images, adversarial: Images, labels: Labels | None = None) -> PerImage:
    """The Euclidean length of the change, over pixels and channels."""
    return (adversarial - clean).flatten(1).norm(dim=1)


def linf(clean: Images, adversarial: Images, labels: Labels | None = None) -> PerImage:
    """The largest change of any channel of any pixel; 8/255 is the usual ball."""
    return (adversarial - clean).abs().flatten(1).amax(1)


def distances(clean: Images, adversarial: Images) -> dict[str, PerImage]:
    """All four by name: l0, l1, l2, linf."""
    return {norm.__name__: norm(clean, adversarial) for norm in (l0, l1, l2, linf)}
