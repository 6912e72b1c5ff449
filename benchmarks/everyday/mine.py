"""The user's own networks, from normalized images to logits, as every script of a task gets them.

They lie in the working directory of the scripts, beside the files of their weights.
"""

import torch
from torch import nn

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # of ``network``


def network() -> nn.Module:
    """A small network of CIFAR-10 that was trained adversarially, of alpha-beta-CROWN."""
    net = nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(2048, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip
    net.load_state_dict(torch.load("weights/cifar_cnn_a_adv4.model", "cpu"))
    return net.eval()


def fashion_network() -> nn.Module:
    """A small network for Fashion-MNIST, without its weights: it takes images in [0, 1]."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip


def fashion() -> nn.Module:
    """The same, trained."""
    net = fashion_network()
    net.load_state_dict(torch.load("fashion.pt"))
    return net.eval()
