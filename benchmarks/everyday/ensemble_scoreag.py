"""The accuracy of my network under an ensemble like AutoAttack, on a small budget."""

from mine import MEAN, STD, network

import scoreag
from scoreag.attacks import AutoEnsemble

classifier = scoreag.wrap_classifier(network(), MEAN, STD)
print(
    scoreag.attack(
        AutoEnsemble(eps=8 / 255, steps=20, n_queries=200), classifier, "cifar10:test[0:16]"
    )
)
