"""Programs of torch.export against the modules that they were made from, and hostile ones."""

import io
import json
import logging
import os
from contextlib import nullcontext, suppress

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import exported_files as files
from scoreag.classifiers.exported import load
from scoreag.core.frozen import Frozen
from scoreag.networks.resnet import ResNet
from scoreag.networks.wide_resnet import WideResNet
from tiny import filled

pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporter

NETS = {
    "resnet": lambda: ResNet(8, width=4, classes=5),
    "wide resnet": lambda: WideResNet(depth=10, width=1, classes=5, activation="silu"),
    "attentive": files.Attentive,
    "in place": files.in_place,
}


@pytest.fixture(scope="module", params=list(NETS))
def pair(request, tmp_path_factory):
    """A network, and the program that was read of it."""
    network = filled(NETS[request.param](), 3, 0.3)
    file = files.write(tmp_path_factory.mktemp("programs") / "net.pt2", network)
    return network, load(file)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return files.write(tmp_path_factory.mktemp("programs") / "net.pt2", files.linear().eval())


def images(count=4, dtype=torch.float32):
    source = torch.Generator().manual_seed(0)
    return torch.rand(count, *files.SHAPE, generator=source, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("count", [1, 4])
def test_a_program_says_what_its_module_says_for_any_number_of_images(pair, count):
    network, read = pair
    x = images(count)
    assert torch.allclose(read(x), network(x), atol=1e-5, rtol=1e-5)


def test_first_and_second_gradients_are_those_of_the_module_in_double_precision(pair):
    network, read = pair
    found = []
    for victim in (Frozen(network), Frozen(read)):
        x = images(dtype=torch.float64)
        # the module's fused attention has no second derivative; the program's is written out
        with sdpa_kernel(SDPBackend.MATH) if victim.module is network else nullcontext():
            value = victim(x).logsumexp(1).sum()
        (first,) = torch.autograd.grad(value, x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
        found.append((first, second))
    (a, aa), (b, bb) = found
    assert b.dtype == torch.float64 and aa.abs().max() > 0
    assert torch.allclose(a, b, rtol=1e-9, atol=1e-12) and torch.allclose(aa, bb, rtol=1e-9)


def test_asking_changes_neither_the_images_nor_the_program(pair):
    _, read = pair
    x, before = images().detach(), {n: t.clone() for n, t in read.state_dict().items()}
    kept = x.clone()
    first = read(x)
    assert torch.equal(read(x), first) and torch.equal(x, kept)
    assert all(torch.equal(t, before[n]) for n, t in read.state_dict().items())


class Code:
    def __reduce__(self):
        return os.system, ("touch ran",)


def pickled():
    file = io.BytesIO()
    torch.save(Code(), file)
    return file.getvalue()


def with_code_in_the_inputs(name, content):
    return pickled() if name == "data/sample_inputs/model.pt" else content


def with_code_in_a_size(name, content):
    call = b"\"expr_str\": \"__import__('os').system('touch ran') + "
    return content.replace(b'"expr_str": "', call) if name == "models/model.json" else content


@pytest.mark.parametrize("change", [with_code_in_the_inputs, with_code_in_a_size])
def test_code_in_a_program_is_not_run_where_torch_would_run_it(
    program, tmp_path, monkeypatch, change
):
    monkeypatch.chdir(tmp_path)
    hostile = files.changed(program, tmp_path / "hostile.pt2", change)
    x = images()
    assert torch.equal(load(hostile)(x), load(program)(x))
    assert not (tmp_path / "ran").exists()
    logging.disable()  # torch tells at length of what it does next
    with suppress(Exception):  # afterwards it may stumble
        torch.export.load(hostile)
    logging.disable(logging.NOTSET)
    assert (tmp_path / "ran").exists()


def with_a_pickled_weight(name, content):
    if name == "data/weights/weight_0":
        return pickled()
    told = b'"use_pickle": true' if name.endswith("weights_config.json") else b'"use_pickle": false'
    return content.replace(b'"use_pickle": false', told)


def asking_for(target):
    def change(name, content):
        return content.replace(b"torch.ops.aten.linear.default", target.encode())

    return change


def with_another_format(name, content):
    if name != "models/model.json":
        return content
    return json.dumps({**json.loads(content), "schema_version": {"major": 7}}).encode()


def beyond_its_numbers(name, content):
    return content[:40] if name == "data/weights/weight_0" else content


@pytest.mark.parametrize(
    "change, told",
    [
        (with_a_pickled_weight, r"its tensor '1.weight' is stored as a pickle, which can run code"),
        (asking_for("torch.ops.aten.from_file.default"), "aten.from_file.* not among the operat"),
        (asking_for("torch.os.system"), "asks for 'torch.os.system', which is not among"),
        (asking_for("os.system"), "asks for 'os.system', which is not among"),
        (asking_for("_operator.methodcaller"), "which is not among the operations"),
        (asking_for("torch.ops.aten.linear.strange"), "which this torch does not have"),
        (with_another_format, "its format is 7, and 8 is read; save it with torch >= 2.8"),
        (beyond_its_numbers, "is a damaged program"),
        (lambda name, content: b"{" if name.endswith(".json") else content, "no whole program"),
        (lambda name, content: b"[]" if name.endswith(".json") else content, "damaged program"),
    ],
)
def test_what_is_not_run_is_refused_by_its_name(program, tmp_path, change, told):
    with pytest.raises(ValueError, match=told) as caught:
        load(files.changed(program, tmp_path / "other.pt2", change))
    assert "\n" not in str(caught.value)


def test_half_a_file_is_refused(program, tmp_path):
    (tmp_path / "half.pt2").write_bytes(program.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"no whole program of torch.export"):
        load(tmp_path / "half.pt2")


def test_one_number_of_images_is_too_few(tmp_path):
    file = files.write(tmp_path / "net.pt2", files.linear().eval(), shapes=None)
    with pytest.raises(
        ValueError, match=r"takes 3 images at a time .* export it with .*dynamic_sh"
    ):
        load(file)


def test_train_mode_is_refused(tmp_path):
    network = nn.Sequential(nn.Dropout(0.5), files.linear()).train()
    with pytest.raises(ValueError, match=r"exported in train mode .* call .eval()"):
        load(files.write(tmp_path / "net.pt2", network))


def test_statistics_that_move_are_refused(tmp_path):
    network = nn.Sequential(nn.BatchNorm2d(3), files.linear()).train()
    with pytest.raises(ValueError, match=r"train mode|changes as it runs"):
        load(files.write(tmp_path / "net.pt2", network))


class Cast(nn.Module):
    """Whose own cast would round every image."""

    def __init__(self):
        super().__init__()
        self.inner = filled(files.linear(), 3)

    def forward(self, x):
        return self.inner(x.float())


def test_a_cast_to_the_dtype_of_the_export_follows_the_images(tmp_path):
    read = load(files.write(tmp_path / "net.pt2", Cast().eval()))
    x = images(dtype=torch.float64)
    expected = Frozen(Cast().inner)(x)
    assert expected.dtype == torch.float64
    assert torch.allclose(Frozen(read)(x), expected, rtol=1e-12)


class Two(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)), x.sum((2, 3))


def test_two_results_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"returns 2 values"):
        load(files.write(tmp_path / "net.pt2", Two().eval()))


def test_images_of_another_size_are_refused(program):
    with pytest.raises(ValueError, match=r"takes images of 3 x 16 x 16"):
        load(program)(torch.rand(2, 3, 8, 8))
