"""A model of RobustBench by its name, from its local file: attacked, and written as an entry."""

from robustbench.eval import benchmark
from robustbench.utils import load_model

model = load_model("Wong2020Fast", dataset="cifar10", threat_model="Linf")
benchmark(
    model, n_examples=16, dataset="cifar10", threat_model="Linf", eps=8 / 255, to_disk=True,
    model_name="Wong2020Fast",
)  # fmt: skip
