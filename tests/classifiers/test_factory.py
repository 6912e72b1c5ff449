import pickle

import pytest
from torch import nn

from scoreag.classifiers.build import call_factory, call_factory_file, is_factory_file
from scoreag.classifiers.loading import load_classifier

SOURCE = """
from torch import nn

def make():
    return nn.Linear(2, 3)

def broken():
    raise KeyError("weights")

def number():
    return 3

constant = 5
"""


@pytest.fixture(autouse=True)
def a_module_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "my_nets_for_test.py").write_text(SOURCE)
    (tmp_path / "needs_a_thing.py").write_text("import a_thing_that_is_not_there")
    (tmp_path / "has_a_typo.py").write_text("def f(:")
    monkeypatch.chdir(tmp_path)


def test_the_module_is_what_the_factory_returns():
    made = call_factory("my_nets_for_test:make")
    assert isinstance(made, nn.Linear) and made.out_features == 3


@pytest.mark.parametrize(
    "name, message",
    [
        ("my_nets_for_test", "names no factory; write package.module:factory"),
        ("my_nets_for_tset:make", "no module 'my_nets_for_tset'; did you mean 'my_nets_for_test'"),
        (
            "scoreag.classifiers.networks.cifar_resnt:ResNet",
            "no module 'scoreag.classifiers.networks.cifar_resnt'; did you.*'cifar_resnet'",
        ),
        ("./my_nets_for_test.py:make", "names a file; write my_nets_for_test:make"),
        ("my_nets_for_test:mke", "my_nets_for_test:mke does not exist; did you mean 'make'"),
        ("my_nets_for_test:constant", "is not callable"),
        ("my_nets_for_test:broken", "failed when called without arguments: KeyError: 'weights'"),
        ("my_nets_for_test:number", "returned int; expected a torch.nn.Module"),
        ("needs_a_thing:make", "needs a_thing_that_is_not_there, which is not installed"),
        ("has_a_typo:make", "cannot be imported: SyntaxError"),
    ],
)
def test_a_mistake_is_answered_by_one_line_with_the_way_out(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        call_factory(name)
    assert "\n" not in str(caught.value)


BESIDE = """
from torch import nn
import a_helper_beside_it

class Mine(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :3] * a_helper_beside_it.TWO

def make():
    return Mine().eval()
"""


@pytest.fixture
def elsewhere(tmp_path):
    folder = tmp_path / "some where" / "odd-name"
    folder.mkdir(parents=True)
    (folder / "my-nets.v2.py").write_text(BESIDE)
    (folder / "a_helper_beside_it.py").write_text("TWO = 2")
    (folder / "broken.py").write_text("1 / 0")
    return folder


def test_a_function_is_found_in_a_file_by_its_path(elsewhere, tmp_path):
    """Whatever the file is called; what it imports may lie beside it."""
    for name in (f"{elsewhere}/my-nets.v2.py:make", "some where/odd-name/my-nets.v2.py:make"):
        assert is_factory_file(name)
        victim = load_classifier(name, "cpu")
        assert type(pickle.loads(pickle.dumps(victim)).module).__name__ == "Mine"
        assert victim.metadata == {"name": name}
    assert call_factory_file("my_nets_for_test.py:make").out_features == 3
    assert not is_factory_file("my_nets_for_test:make")


@pytest.mark.parametrize(
    "name, message",
    [
        ("lost.py:make", "there is no file lost.py"),
        ("my_nets_for_test.py:", "names no function; write my_nets_for_test.py:function"),
        ("my_nets_for_test.py:mke", "does not exist; did you mean 'make'"),
        ("my_nets_for_test.py:number", "returned int; expected a torch.nn.Module"),
        ("my_nets_for_test.py:broken", "failed when called without arguments: KeyError"),
        ("some where/odd-name/broken.py:make", "broken.py cannot be run: ZeroDivisionError"),
    ],
)
def test_a_mistake_about_a_file_is_answered_by_one_line(elsewhere, name, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_classifier(name, "cpu")
    assert "\n" not in str(caught.value)
