import os
from pathlib import Path

import numpy as np
import pytest
import torch

from scoreag.classifiers.networks.cifar_resnet import ResNet
from scoreag.classifiers.state_dict import load_checkpoint

SHARED = Path(os.environ.get("SCOREAG_SHARED", "/nowhere"))


@pytest.fixture
def network():
    return ResNet(8, width=4).eval()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"state_dict": {f"module.{n}": t for n, t in tensors.items()}, "epoch": 3},
        lambda tensors: {"model": {f"_orig_mod.{n}": t for n, t in tensors.items()}},
        lambda tensors: {"state_dict": {f"model.{n}": t for n, t in tensors.items()}},
        lambda tensors: (
            {"n_averaged": torch.tensor(5)} | {f"module.{n}": t for n, t in tensors.items()}
        ),
        lambda tensors: {f"_orig_mod.module.net.0.{n}": t for n, t in tensors.items()},
        lambda tensors: {
            f"model.{n}": t for n, t in tensors.items() if not n.endswith("num_batches_tracked")
        },
    ],
    ids=["bare", "data parallel", "compiled", "lightning", "averaged", "several", "before 2018"],
)
def test_a_checkpoint_comes_back_however_it_was_wrapped(network, tmp_path, wrap):
    torch.save(wrap(network.state_dict()), tmp_path / "net.th")
    x = torch.rand(2, 3, 16, 16)
    loaded = load_checkpoint(tmp_path / "net.th", "cifar_resnet", depth=8, width=4)
    assert torch.equal(loaded(x), network(x)) and not loaded.training


def test_a_prefix_that_was_given_takes_its_tensors_alone(network, tmp_path):
    """Beside others, or where there are two copies, nobody can tell which are meant."""
    own = network.state_dict()
    average = {f"ema.{n}": 2 * t for n, t in own.items()}
    model = {f"model.{n}": t for n, t in own.items()}
    x, built = torch.rand(2, 3, 16, 16), {"depth": 8, "width": 4}
    torch.save(model | {"loss.weight": torch.ones(10)}, tmp_path / "beside.pt")
    with pytest.raises(ValueError, match=r"have 'model\.' before .*beside others such as 'loss"):
        load_checkpoint(tmp_path / "beside.pt", "cifar_resnet", **built)
    torch.save(average | model, tmp_path / "two.pt")
    with pytest.raises(ValueError, match=r"have 'ema\.' or 'model\.' before their names; write st"):
        load_checkpoint(tmp_path / "two.pt", "cifar_resnet", **built)
    for file in ("beside.pt", "two.pt"):
        found = load_checkpoint(tmp_path / file, "cifar_resnet", "model.", **built)
        assert torch.equal(found(x), network(x))
    ema = load_checkpoint(tmp_path / "two.pt", "cifar_resnet", ["ema."], **built)
    assert torch.equal(ema.linear.weight, 2 * network.linear.weight)
    with pytest.raises(ValueError, match=r"no name begins with 'net\.'; names are ema\.bn1"):
        load_checkpoint(tmp_path / "two.pt", "cifar_resnet", "net.", **built)


def test_a_network_of_ones_own_is_filled(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "net.pt")
    mine = ResNet(8, width=4)
    assert load_checkpoint(tmp_path / "net.pt", mine) is mine
    assert torch.equal(mine.linear.weight, network.linear.weight)


class Code:
    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda f: None, "no file"),
        (lambda f: f.write_bytes(b"<html>not found</html>"), "not written by torch.save"),
        (lambda f: torch.save({"state_dict": Code()}, f), "not only tensors"),
        (lambda f: torch.save([1, 2], f), "holds no state_dict"),
        (lambda f: torch.save({"odd": torch.ones(1)}, f), "lack 'conv1.weight'"),
    ],
    ids=["missing", "html", "code", "list", "other names"],
)
def test_a_bad_file_is_refused_by_one_line(tmp_path, monkeypatch, write, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "net.th")
    with pytest.raises(ValueError, match=message) as caught:
        load_checkpoint(tmp_path / "net.th", "cifar_resnet", depth=8)
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()


def test_a_cut_file_is_refused(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "net.th")
    whole = (tmp_path / "net.th").read_bytes()
    (tmp_path / "net.th").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="it is damaged"):
        load_checkpoint(tmp_path / "net.th", "cifar_resnet", depth=8, width=4)


def test_an_option_that_the_network_lacks_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"resnet takes no option 'shortcuts'; did.*'shortcut'"):
        load_checkpoint(tmp_path / "net.th", "cifar_resnet", shortcuts="A")


@pytest.mark.weights
@pytest.mark.skipif(not SHARED.exists(), reason="needs SCOREAG_SHARED")
def test_a_well_known_checkpoint_has_its_published_accuracy():
    """91.73 % on the whole test set: within five standard errors on 500 images."""
    module = load_checkpoint(SHARED / "weights/resnet20-12fca82f.th", "cifar_resnet", depth=20)
    rows = np.fromfile(SHARED / "data/cifar-10-batches-bin/test_batch.bin", np.uint8)
    rows = torch.from_numpy(rows.reshape(-1, 3073)[:500].copy())
    x = rows[:, 1:].reshape(-1, 3, 32, 32) / 255
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    right = (module((x - mean) / std).argmax(1) == rows[:, 0]).float().mean().item()
    assert right == pytest.approx(0.9173, abs=5 * (0.92 * 0.08 / 500) ** 0.5)
