"""A purification defense under an attacker who does not know of it, and one who does."""

from mine import fashion

import scoreag
from scoreag.attacks import PGD

classifier, prior = scoreag.wrap_classifier(fashion()), scoreag.load_prior("ddpm")
for backward in ("none", "exact"):
    defense = scoreag.defend(
        classifier, prior, "diffpure", backward=backward, sigma_start=0.5, steps=10
    )
    print(scoreag.attack(PGD(eps=0.1, steps=10), defense, "fashion-mnist:test[0:16]"))
