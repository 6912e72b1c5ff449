"""Stand-ins with the functions of RobustBench, timm and torchvision that are called."""

from pathlib import Path

ZOO = """
import enum
from torch import nn

class Data(enum.Enum):
    cifar_10 = "cifar10"

class Threat(enum.Enum):
    Linf = "Linf"

model_dicts = {Data.cifar_10: {Threat.Linf: {"Carmon2019Unlabeled": {}, "Broken": {}}}}
"""
LOAD = """
from torch import nn

def load_model(model_name, model_dir, dataset, threat_model):
    print("Downloading", model_name)
    if model_name == "Broken":
        raise OSError("no network\\nhere")
    made = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    made.told = (model_name, dataset, threat_model, model_dir)
    return made
"""
TIMM = """
from torch import nn

def is_model(name):
    return name == "small_net"

def list_models():
    return ["small_net"]

def create_model(name, pretrained, num_classes=1000):
    assert not pretrained
    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))
"""
VISION = """
from torch import nn

def list_models():
    return ["small_net"]

def get_model(name, weights, num_classes=1000):
    assert weights is None
    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))
"""


def write(folder: Path) -> Path:
    """A folder for ``sys.path`` in which the three are found."""
    for name, text in (
        ("robustbench/__init__", ""), ("robustbench/utils", LOAD), ("robustbench/model_zoo", ZOO),
        ("timm/__init__", TIMM), ("torchvision/__init__", ""), ("torchvision/models", VISION),
    ):  # fmt: skip
        file = folder / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder
