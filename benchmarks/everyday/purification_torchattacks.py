"""A purification defense under an attacker who does not know of it, and one who does.

Neither torchattacks nor diffusers has a purifier: the user writes the module.
"""

import torch
import torchattacks
from diffusers import DDPMPipeline
from mine import fashion
from robustbench.utils import clean_accuracy
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor

NULL, START = 10, 150


class Purified(nn.Module):
    def __init__(self, model, pipe):
        super().__init__()
        self.model, self.unet, self.scheduler = model, pipe.unet, pipe.scheduler
        self.scheduler.set_timesteps(timesteps=list(range(START, 0, -15)))

    def forward(self, images):
        null = torch.full((len(images),), NULL)
        noise = torch.randn_like(images)
        x = self.scheduler.add_noise(2 * images - 1, noise, torch.tensor([START]))
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(self.unet(x, t, null).sample, t, x).prev_sample
        return self.model((x + 1) / 2)


model, pipe = fashion(), DDPMPipeline.from_pretrained("ddpm")
defense = Purified(model, pipe).eval()
data = FashionMNIST("data", train=False, transform=ToTensor())
images, labels = next(iter(DataLoader(data, batch_size=16)))
for victim in (model, defense):
    adversarial = torchattacks.PGD(victim, eps=0.1, alpha=0.025, steps=10)(images, labels)
    print(clean_accuracy(defense, adversarial, labels))
