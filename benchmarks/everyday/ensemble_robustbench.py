"""The accuracy of my network under AutoAttack, on its own budget: benchmark() has no other."""

from mine import MEAN, STD, network
from robustbench.eval import benchmark
from torch import nn
from torchvision.transforms import Normalize

model = nn.Sequential(Normalize(MEAN, STD), network()).eval()
print(benchmark(model, n_examples=16, dataset="cifar10", threat_model="Linf", eps=8 / 255))
