"""The accuracy of my network under an ensemble like AutoAttack, on a small budget."""

import torchattacks
from mine import MEAN, STD, network
from robustbench.data import load_cifar10
from robustbench.utils import clean_accuracy
from torch import nn
from torchvision.transforms import Normalize

model = nn.Sequential(Normalize(MEAN, STD), network()).eval()
images, labels = load_cifar10(n_examples=16)
attack = torchattacks.MultiAttack(
    [
        torchattacks.APGD(model, eps=8 / 255, steps=20),
        torchattacks.APGDT(model, eps=8 / 255, steps=20),
        torchattacks.Square(model, eps=8 / 255, n_queries=200),
    ]
)
print(clean_accuracy(model, attack(images, labels), labels))
