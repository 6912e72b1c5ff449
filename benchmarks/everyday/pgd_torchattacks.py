"""PGD-40 on my own network: robust accuracy, and the adversarial images as PNG."""

from pathlib import Path

import torchattacks
from mine import MEAN, STD, network
from robustbench.data import load_cifar10
from robustbench.utils import clean_accuracy
from torch import nn
from torchvision.transforms import Normalize
from torchvision.utils import save_image

model = nn.Sequential(Normalize(MEAN, STD), network()).eval()
images, labels = load_cifar10(n_examples=64)
adversarial = torchattacks.PGD(model, eps=8 / 255, steps=40)(images, labels)
print(clean_accuracy(model, adversarial, labels))
Path("out").mkdir()
for number, image in enumerate(adversarial):
    save_image(image, f"out/{number}.png")
