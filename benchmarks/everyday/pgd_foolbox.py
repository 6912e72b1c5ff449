"""PGD-40 on my own network: robust accuracy, and the adversarial images as PNG."""

from pathlib import Path

from foolbox import PyTorchModel
from foolbox.attacks import LinfPGD
from mine import MEAN, STD, network
from robustbench.data import load_cifar10
from torchvision.utils import save_image

model = PyTorchModel(network(), bounds=(0, 1), preprocessing=dict(mean=MEAN, std=STD, axis=-3))
images, labels = load_cifar10(n_examples=64)
_, adversarial, success = LinfPGD(steps=40)(model, images, labels, epsilons=8 / 255)
print(1 - success.float().mean().item())
Path("out").mkdir()
for number, image in enumerate(adversarial):
    save_image(image, f"out/{number}.png")
