"""A model of RobustBench by its name, from its local file: attacked, and written as an entry."""

import scoreag
from scoreag.attacks import AutoEnsemble

classifier = scoreag.load_classifier("robustbench:Wong2020Fast")
result = scoreag.attack(AutoEnsemble(eps=8 / 255), classifier, "cifar10:test[0:16]")
print(scoreag.write_robustbench(result, "Wong2020Fast"))
