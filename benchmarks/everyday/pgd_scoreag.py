"""PGD-40 on my own network: robust accuracy, and the adversarial images as PNG."""

from mine import MEAN, STD, network

import scoreag
from scoreag.attacks import PGD

classifier = scoreag.wrap_classifier(network(), MEAN, STD)
result = scoreag.attack(PGD(eps=8 / 255, steps=40), classifier, "cifar10:test[0:64]")
print(result)
result.save("out")
