"""Classifiers as users bring them: akamaster's ResNet-20, and a ResNet-14 of CIFAR-100.

AKAMASTER_RESNET20=resnet20-12fca82f.th scoreag doctor --classifier bring_your_own:resnet20 ...
CIFAR100_RESNET14=FILE.pth scoreag doctor --classifier bring_your_own:cifar100_resnet14 ...
"""

import os

import torch
from torch import nn

import scoreag
from scoreag.classifiers.networks import cifar_resnet
from scoreag.classifiers.state_dict import load_checkpoint
from scoreag.data.cifar import FINE_CLASSES


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
