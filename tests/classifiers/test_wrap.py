"""The front door: a classifier by any of its names, its normalization said once."""

import sys

import pytest
import torch
from torch import nn

import scoreag
import stand_in_packages
import tiny
from scoreag.classifiers.networks.cifar_resnet import ResNet

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
FACTORY = """
import scoreag
from torch import nn

def bare():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()

def made():
    return scoreag.wrap_classifier(bare(), (0.5,) * 3, (0.5,) * 3)

def sized(width, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(width, classes)).eval()
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with a module of one's own, and weights of a small network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCOREAG_CACHE", str(tmp_path / "cache"))
    (tmp_path / "nets_of_mine.py").write_text(FACTORY)
    torch.save(net().state_dict(), tmp_path / "net.pth")
    yield tmp_path
    for name in [n for n in sys.modules if n.split(".")[0] in ("timm", "robustbench")]:
        del sys.modules[name]
    for name in [n for n in sys.modules if n.split(".")[0] in ("torchvision", "nets_of_mine")]:
        del sys.modules[name]


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Stand-ins for RobustBench, timm and torchvision, as if they were installed."""
    monkeypatch.syspath_prepend(stand_in_packages.write(tmp_path / "site"))


def net():
    return tiny.filled(ResNet(8, width=4, classes=3), 5, 0.3)


def images():
    return torch.rand(2, *tiny.SHAPE, generator=torch.Generator().manual_seed(1))


def by_hand(module, x):
    """``module((x - mean) / std)``, a color at a time."""
    shown = torch.stack([(x[:, c] - MEAN[c]) / STD[c] for c in range(3)], 1)
    return module(shown)


def test_a_state_dict_sees_the_images_normalized_as_was_said():
    victim = scoreag.load_classifier(
        "net.pth", network="cifar_resnet", config={"depth": 8, "width": 4, "classes": 3},
        mean=MEAN, std=STD,
    )  # fmt: skip
    assert torch.allclose(victim(images()), by_hand(net(), images()), atol=1e-5)
    assert victim.metadata["name"] == "net.pth" and victim.metadata["network"] == "cifar_resnet"


def test_safetensors_are_a_state_dict_too(here):
    scoreag.models.safetensors.write_safetensors(here / "net.safetensors", net().state_dict())
    known = {"network": "cifar_resnet", "mean": MEAN, "std": STD}
    one, other = (
        scoreag.load_classifier(f, config={"depth": 8, "width": 4, "classes": 3}, **known)
        for f in ("net.pth", here / "net.safetensors")
    )
    assert torch.equal(one(images()), other(images()))


def test_a_model_of_robustbench_takes_the_images_as_they_are(packages, here, capsys):
    victim = scoreag.load_classifier("robustbench:Carmon2019Unlabeled")
    told = ("Carmon2019Unlabeled", "cifar10", "Linf", str(here / "cache" / "robustbench"))
    assert victim.module.told == told
    assert torch.equal(victim(images()), victim.module(images()))
    out = capsys.readouterr()
    assert out.out == "" and "Downloading" in out.err
    assert not victim.module.training


def test_weights_that_robustbench_has_in_its_own_folder_are_used(packages, here):
    (here / "models" / "cifar10" / "Linf").mkdir(parents=True)
    (here / "models" / "cifar10" / "Linf" / "Carmon2019Unlabeled.pt").touch()
    assert scoreag.load_classifier("robustbench:Carmon2019Unlabeled").module.told[3] == "models"


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_architectures_of_other_packages_take_a_state_dict(packages, here, package):
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    torch.save({"state_dict": module.state_dict()}, here / "other.pth")
    victim = scoreag.load_classifier(
        "other.pth",
        network=f"{package}:small_net",
        config={"num_classes": 3},
        mean=MEAN,
        std=STD,
    )
    assert torch.allclose(victim(images()), by_hand(module, images()), atol=1e-6)


def test_an_architecture_of_ones_own_takes_a_state_dict(here):
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    torch.save(module.state_dict(), here / "own.pth")
    known = {"network": "nets_of_mine:sized", "config": {"width": 192, "classes": 3}}
    victim = scoreag.load_classifier("own.pth", mean=MEAN, std=STD, **known)
    assert torch.allclose(victim(images()), by_hand(module, images()), atol=1e-6)


def test_what_a_factory_leaves_open_may_be_said():
    victim = scoreag.load_classifier("nets_of_mine:bare", mean=MEAN, std=STD)
    assert torch.allclose(victim(images()), by_hand(victim.module, images()), atol=1e-6)


@pytest.mark.parametrize(
    "name, options, told",
    [
        ("net.pth", {}, "net.pth may hold weights, but no network .* scoreag convert net.pth"),
        ("net.pth", {"network": "cifar_resnet"}, "lack|shape"),
        ("lost.pth", {}, "there is no file lost.pth"),
        (
            "nets_of_mine:made",
            {"mean": MEAN, "std": STD},
            "its factory says .*; leave out mean and",
        ),
        ("cifar10-resnet20", {"std": STD}, "its card says its normalization; leave out std"),
        (
            "cifar10-resnet20",
            {"network": "cifar_resnet"},
            "is no file of weights; leave out network",
        ),
        ("nets_of_mine:bare", {"std": STD}, "std came alone; mean and std belong together"),
        ("cifar10", {}, "cifar10 is a score-model, and a classifier is wanted here"),
        ("robustbench:Any", {}, "needs the package robustbench, which cannot be imported here"),
        ("timm:resnet18", {}, "an architecture without weights; make a card .* --network timm:res"),
    ],
)
def test_a_mistake_at_the_door_is_answered_by_what_to_write(name, options, told):
    with pytest.raises(ValueError, match=told) as caught:
        scoreag.load_classifier(name, **options)
    assert "\n" not in str(caught.value)


FULL = {"network": "cifar_resnet", "config": {"depth": 8, "width": 4, "classes": 3}}


@pytest.mark.parametrize(
    "changes, told",
    [
        ({}, "net.pth: normalization is explicit, and no file tells it; .* --mean"),
        ({"mean": MEAN}, "normalization is explicit"),
        ({"mean": MEAN, "std": (0.2, 0.0, 0.2)}, "std above 0"),
        ({"network": "cifar_resnt"}, "no 'cifar_resnt' in networks; did you mean 'cifar_resnet'"),
        ({"network": "no_such.module"}, "the network no_such.module cannot be imported"),
        ({"config": {"dept": 8}}, "cifar_resnet takes no option 'dept'; did you mean 'depth'"),
        ({"config": {"depth": "8"}}, "the network cifar_resnet cannot be built of"),
        ({"config": {"depth": 14, "width": 4, "classes": 3}}, "lack 'layer1.1.conv1.weight'"),
        ({"config": {"depth": 8, "width": 8, "classes": 3}}, "'conv1.weight' has shape"),
        ({"network": "timm:resnet18"}, "needs the package timm, which cannot be imported here"),
        ({"network": "torchvision:resnet18"}, "needs the package torchvision, which cannot"),
        ({"network": "nets_of_mine:sizd"}, "does not exist; did you mean 'sized'"),
    ],
)
def test_a_mistake_about_a_state_dict_is_answered_by_what_to_write(monkeypatch, changes, told):
    for name in ("timm", "torchvision"):
        monkeypatch.setitem(sys.modules, name, None)  # as where they are not installed
    with pytest.raises(ValueError, match=told) as caught:
        scoreag.load_classifier("net.pth", **{**FULL, **changes})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, told",
    [
        ("robustbench:Carmon2019Unlabelled", "did you mean 'Carmon2019Unlabeled'"),
        ("robustbench:cifar10/Linff/X", "RobustBench has no 'Linff'; did you mean 'Linf'"),
        (
            "robustbench:cifar10/X",
            "write robustbench:MODEL, .* or robustbench:DATASET/THREAT/MODEL",
        ),
        ("robustbench:Broken", "RobustBench cannot load robustbench:Broken: OSError: no network h"),
    ],
)
def test_a_wrong_name_of_robustbench_is_answered_by_the_right_one(packages, name, told):
    with pytest.raises(ValueError, match=told):
        scoreag.load_classifier(name)


@pytest.mark.parametrize(
    "network, arguments, told",
    [
        ("timm:smal_net", {}, "timm has no 'smal_net'; did you mean 'small_net'"),
        ("timm:small_net", {"pretrained": True}, "leave out 'pretrained'; the weights are those"),
        ("torchvision:big", {}, "torchvision has no 'big'; there are: small_net"),
        ("torchvision:small_net", {"wide": 2}, "cannot be built of .*unexpected keyword.* 'wide'"),
    ],
)
def test_a_wrong_architecture_of_a_package_is_named(packages, network, arguments, told):
    with pytest.raises(ValueError, match=told):
        scoreag.load_classifier("net.pth", network=network, config=arguments, mean=MEAN, std=STD)


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


@pytest.mark.filterwarnings("ignore")
def test_a_program_of_torch_jit_is_not_run_and_told_what_to_do(here):
    torch.jit.save(torch.jit.script(Doubled()), here / "scripted.pt")
    with pytest.raises(ValueError, match=r"a program of torch.jit, .*state_dict\(\) .*jit.load"):
        scoreag.load_classifier("scripted.pt", **FULL, mean=MEAN, std=STD)


def test_an_onnx_file_is_told_what_to_do(here):
    (here / "net.onnx").write_bytes(b"\x08\x07\x12\x07pytorch\x1a\x052.1.0")
    with pytest.raises(ValueError, match=r"an ONNX file: .*state_dict\(\).*onnx2torch"):
        scoreag.load_classifier("net.onnx", mean=MEAN, std=STD)


def test_a_whole_module_is_refused_with_what_to_save(here):
    torch.save(net(), here / "whole.pth")
    with pytest.raises(ValueError, match=r"ResNet, not only tensors; save its state_dict\(\)"):
        scoreag.load_classifier("whole.pth", **FULL, mean=MEAN, std=STD)


def test_the_weights_of_a_card_are_given_by_its_folder(here):
    tiny.write_classifier(here / "card")
    with pytest.raises(ValueError, match=r"is the weights of a card; give its folder, card"):
        scoreag.load_classifier("card/model.safetensors", mean=MEAN, std=STD)


def test_a_normalization_of_images_up_to_255_is_refused():
    net = tiny.victim().module
    with pytest.raises(ValueError, match=r"mean is .*images are in \[0, 1\]; divide mean and std"):
        scoreag.wrap_classifier(net, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
