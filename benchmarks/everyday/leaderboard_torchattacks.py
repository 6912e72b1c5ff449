"""A model of RobustBench by its name, from its local file: attacked, and written as an entry.

Loading and writing are RobustBench's, as in the README of torchattacks.
"""

import torchattacks
from robustbench.data import load_cifar10
from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel
from robustbench.utils import clean_accuracy, load_model, update_json

model = load_model("Wong2020Fast", dataset="cifar10", threat_model="Linf")
images, labels = load_cifar10(n_examples=16)
adversarial = torchattacks.AutoAttack(model, norm="Linf", eps=8 / 255)(images, labels)
clean, robust = (clean_accuracy(model, x, labels) for x in (images, adversarial))
place = BenchmarkDataset("cifar10"), ThreatModel("Linf")
update_json(*place, "Wong2020Fast", clean, robust, 8 / 255)
