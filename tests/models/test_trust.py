"""Nothing that goes from hand to hand runs code: attacks by cards, plans and programs in files."""

import ast
import json
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import scoreag
import tiny
from assess.worlds_of_plans import PLAN, write_world
from scoreag.assess import executors
from scoreag.assess.experiments import ModelCache
from scoreag.assess.plan import load_plan
from scoreag.classifiers import build, loading
from scoreag.cli.app import main
from scoreag.io.images import write_png
from scoreag.models import trust
from scoreag.models.model_cards import load_card, update_card
from scoreag.registry import load_component

SOURCE = Path(scoreag.__file__).parent
HOSTILE = """
from pathlib import Path
Path("ran").touch()

import tiny
from scoreag.classifiers.networks.small_cnn import build as plain_cnn

def network(**options):
    return plain_cnn(**options)

def build(**options):
    raise ValueError("it was run")

def victim():
    return tiny.victim()

def nothing():
    return None

def leave():
    raise SystemExit("bye")

def load(card):
    return tiny.prior().model
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a module that leaves a trace when it is run, and a small world of models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "__init__.py").touch()
    (tmp_path / "evil" / "code.py").write_text(HOSTILE)
    write_world(tmp_path)
    for number, name in enumerate(tiny.CLASSES):  # an image of each
        (tmp_path / "images" / name).mkdir(exist_ok=True)
        write_png(tmp_path / "images" / name / "more.png", tiny.images(3)[number])
    yield tmp_path
    for name in [n for n in sys.modules if n.split(".")[0] == "evil"]:
        del sys.modules[name]


def ran(here):
    return (here / "ran").exists()


def told(capsys, words, code=1):
    """The only line on stderr."""
    assert main(words) == code
    err = capsys.readouterr().err
    assert err.startswith("scoreag: ") and err.count("\n") == 1 and len(err) < 500, err
    return err


# programs in files

ROUTES = [  # each led from a name in the graph to the interpreter of Python
    "torch.ops.aten.relu.__setattr__",
    "torch.ops.aten.relu.__getattr__",
    "torch.ops.aten.relu.__globals__",
    "torch.ops.aten.relu.__call__",
    "_operator.getitem",
]


def program(file, target):
    """A program of torch.export, of one operation."""
    node = {"target": target, "inputs": [], "outputs": [], "metadata": {}}
    graph = {"graph_module": {"graph": {"nodes": [node]}}, "schema_version": {"major": 8}}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/archive_format", "pt2")
        archive.writestr("net/models/model.json", json.dumps(graph))
        archive.writestr("net/data/weights/model_weights_config.json", '{"config": {}}')
    return file


@pytest.mark.parametrize("target", ROUTES)
def test_a_program_of_torch_export_is_refused_whatever_it_asks_for(here, capsys, target):
    program(here / "net.pt2", target)
    with pytest.raises(ValueError, match=r"no program in a file is run: save .* state_dict\(\)"):
        scoreag.load_classifier("net.pt2", mean=(0.0,), std=(1.0,))
    err = told(capsys, ["convert", "net.pt2", "new", "--mean", "0", "--std", "1"])
    assert "no program in a file is run" in err and "package.module:factory" in err
    assert not (here / "new").exists()


@pytest.mark.filterwarnings("ignore")
def test_what_torch_writes_is_known_for_a_program(here):
    module = torch.nn.Flatten().eval()
    torch.export.save(torch.export.export(module, (torch.rand(2, 3, 8, 8),)), here / "net.pt2")
    with pytest.raises(ValueError, match="no program in a file is run"):
        scoreag.load_classifier("net.pt2", mean=(0.0,), std=(1.0,))


def test_the_card_of_a_program_is_refused(here):
    update_card(load_card("net"), network="torch.export")
    program(here / "net" / "model.safetensors", ROUTES[0])
    with pytest.raises(ValueError, match="no program in a file is run: make a card again"):
        scoreag.load_classifier("net", trust_code=True)


# cards

OF_CLASSIFIER = {
    "a function": {"network": "evil.code:network"},
    "a module": {"network": "evil.code"},
    "a call of the system": {"network": "os:system", "options": {"command": "touch ran"}},
    "a file": {"network": "evil/code.py:network"},
    "a script": {"network": "runpy:run_path", "options": {"path_name": "evil/code.py"}},
}
OF_PRIOR = {
    "its network": {"network": "evil.code"},
    "its family": {"family": "evil.code"},
    "a tuned sampler": {"defaults": {"transform": {"sampler": "evil.code"}}},
}


@pytest.mark.parametrize("changes", OF_CLASSIFIER.values(), ids=OF_CLASSIFIER)
@pytest.mark.parametrize(
    "name", ["net", "obfuscated:net", "with-detector:other,net", "net/card.toml"]
)
def test_code_in_the_card_of_a_classifier_is_not_run(here, changes, name):
    update_card(load_card("net"), **changes)
    with pytest.raises(ValueError, match=r"names code, '.*--trust-code"):
        scoreag.load_classifier(name)
    assert not ran(here)


@pytest.mark.parametrize("changes", OF_PRIOR.values(), ids=OF_PRIOR)
def test_code_in_the_card_of_a_score_model_is_not_run(here, changes):
    update_card(load_card("prior"), **changes)
    with pytest.raises(ValueError, match=r"names code, 'evil.code'.*--trust-code"):
        scoreag.load_prior("prior")
    assert not ran(here)


def test_a_judge_whose_folder_is_called_like_a_function_is_none(here, monkeypatch):
    """From within the folder of the card, the path of the judge is the name of the function."""
    update_card(load_card("prior"), judge="evil.code:victim")
    shutil.copytree(here / "net", here / "prior" / "evil.code:victim")
    shutil.copytree(here / "evil", here / "prior" / "evil")
    monkeypatch.chdir(here / "prior")
    words = ["synthesize", "--model", ".", "--classifier", "cifar10-resnet20", "--out", "o"]
    assert main([*words, "--quiet"]) == 1
    assert not (here / "prior" / "ran").exists()


DATA = ["--data", "image-folder:images"]
MODEL, VICTIM = ["--model", "prior"], ["--classifier", "net"]
VERBS = {
    "synthesize": ["synthesize", *MODEL, *VICTIM, "--out", "o"],
    "transform": ["transform", *MODEL, *VICTIM, *DATA, "--out", "o"],
    "purify": ["purify", *MODEL, *VICTIM, *DATA, "--out", "o"],
    "certify": ["certify", *MODEL, *VICTIM, *DATA, "--out", "o"],
    "doctor": ["doctor", *VICTIM, *DATA],
    "assess": ["assess", "plan.toml", "--out", "o"],
    "evaluate": ["evaluate", "net", *DATA, "--out", "o"],
    "judge": ["evaluate", "prior", "--reference-classifier", "net", *DATA,
              "--train-data", "image-folder:images", "--out", "o"],
    "train": ["train", "classifier", "--preset", "cifar10-resnet20", "--init", "net", *DATA,
              "--batch-size", "2", "--train-images", "2", "--out", "o"],
}  # fmt: skip


@pytest.mark.parametrize("words", VERBS.values(), ids=VERBS)
def test_no_verb_runs_the_code_of_a_card_unless_it_is_told_to(here, words):
    update_card(load_card("net"), network="evil.code")
    assert main([*words, "--quiet"]) == 1
    assert not ran(here) and not (here / "o").exists()
    assert main([*words, "--quiet", "--trust-code"]) == 1
    assert ran(here)


def test_code_of_a_trusted_card_is_the_classifier(here):
    plain, x = scoreag.load_classifier("net"), torch.rand(2, *tiny.SHAPE)
    update_card(load_card("net"), network="evil.code:network")
    assert torch.equal(scoreag.load_classifier("net", trust_code=True)(x), plain(x))


def test_a_family_of_a_trusted_card_is_used(here):
    update_card(load_card("prior"), family="evil.code")
    prior, x = scoreag.load_prior("prior", trust_code=True), torch.rand(1, *tiny.SHAPE)
    sigma = torch.ones(1)
    assert torch.equal(prior.model(x, sigma), tiny.prior().model(x, sigma))


@pytest.mark.parametrize("data", ["evil.code:all", "evil.code"])
def test_the_data_that_a_card_names_are_no_code(here, capsys, data):
    update_card(load_card("net"), training_config={"data": data})
    err = told(capsys, ["evaluate", "net", *DATA, "--out", "o", "--quiet"])
    assert "training_config.data names code" in err and not ran(here)


def test_a_word_at_the_prompt_is_trusted(here):
    x = torch.rand(2, *tiny.SHAPE)
    assert torch.equal(scoreag.load_classifier("evil.code:victim")(x), tiny.victim()(x))


def test_a_card_made_with_a_function_says_that_it_wants_trust(here, capsys):
    net = {"--network": "evil.code:network", "--config": json.dumps(tiny.CNN), "--mean": "0",
           "--std": "1", "--shape": "3x8x8"}  # fmt: skip
    words = ["net/model.safetensors", "new", *[w for pair in net.items() for w in pair]]
    assert main(["convert", *words]) == 0
    assert "give --trust-code to each command that uses it" in capsys.readouterr().err
    with pytest.raises(ValueError, match="--trust-code"):
        scoreag.load_classifier("new")


@pytest.mark.parametrize("name", ["nothing", "leave"])
def test_a_factory_returns_a_module(here, capsys, name):
    err = told(capsys, ["doctor", "--classifier", f"evil.code:{name}", *DATA, "--quiet"])
    assert "something is wrong with its loading" in err
    with pytest.raises(ValueError, match=r"returned NoneType; expected a torch.nn|SystemExit: bye"):
        scoreag.load_classifier(f"evil.code:{name}")


# plans

BOTH = 'classifiers = ["net", "other"]'
IN_PLANS = {
    "data": ('data = "image-folder:images"', 'data = "evil.code:all"'),
    "a program as data": ('data = "image-folder:images"', 'data = "torch.export:evil.pt2"'),
    "second data": ('data = "image-folder:images"', 'data = ["image-folder:no", "evil.code:all"]'),
    "a classifier of a file": (BOTH, 'classifiers = ["net", "x/code.py:victim"]'),
    "a classifier": (BOTH, 'classifiers = ["net", "os:abort"]'),
    "an obfuscated classifier": (BOTH, 'classifiers = ["net", "obfuscated:os:abort"]'),
    "a detector": (BOTH, 'classifiers = ["net", "with-detector:net, os:abort"]'),
    "a judge": ('reference_classifier = "judge"', 'reference_classifier = "evil.code:victim"'),
    "a feature extractor": ('description = "a test"', 'feature_extractor = "evil.code:victim"'),
    "an attack": ("[attacks.pgd]\n", '[attacks.pgd]\nattack = "evil.code"\n'),
    "an attack by its name": ("[attacks.gas]", '[attacks."evil.code"]'),
    "out-of-distribution data": ("[attacks.gat]\n", '[attacks.gat]\nood_data = "evil.code:all"\n'),
    "a sampler": ("[attacks.gat]\n", '[attacks.gat]\nsampler = "evil.code"\n'),
    "a swept sampler": ("[attacks.gat]\n", '[attacks.gat]\nsampler = ["heun", "evil.code"]\n'),
    "a purifier": ("[purifiers.gap]\n", '[purifiers.gap]\npurifier = "evil.code"\n'),
    "a purifier's sampler": ("[purifiers.gap]\n", '[purifiers.gap]\nsampler = "evil.code"\n'),
    "the attacker's copy": (
        "[purifiers.gap]\n", '[purifiers.gap]\nattacker_options = { sampler = "evil.code" }\n'
    ),
}  # fmt: skip


@pytest.mark.parametrize("before, after", IN_PLANS.values(), ids=IN_PLANS)
def test_code_in_a_plan_is_not_run(here, capsys, before, after):
    assert PLAN.count(before) == 1
    (here / "plan.toml").write_text(PLAN.replace(before, after))
    words = ["assess", "plan.toml", "--quiet", "--out", "o"]
    err = told(capsys, words)
    assert "plan.toml, line" in err and "names code" in err and "--trust-code" in err
    assert not ran(here) and not (here / "o").exists()
    assert load_plan("plan.toml", trust_code=True).datasets  # what it says is refused only for that


def test_what_is_sent_to_other_processes_says_what_is_trusted(here):
    """A kit is all that a worker of either kind is told."""
    plain, x = scoreag.load_classifier("net"), torch.rand(2, *tiny.SHAPE)
    update_card(load_card("net"), network="evil.code:network")
    sent = [
        executors.fresh_cache(ModelCache(device="cpu", trust_code=trusted))
        for trusted in (False, True)
    ]
    wary, trusting = pickle.loads(pickle.dumps(sent))
    with pytest.raises(ValueError, match="--trust-code"):
        wary.classifier("net")
    assert torch.equal(trusting.classifier("net")(x), plain(x))


# the rules, held against what is there


@pytest.mark.parametrize("kind", ["attacks", "purifiers", "samplers", "networks"])
def test_what_comes_with_the_package_is_no_code_of_a_file(kind):
    from scoreag.registry import component_names

    assert not any(
        trust.is_custom_component(name) or trust.is_custom_network(name)
        for name in component_names(kind)
    )


def test_the_rules_know_every_prefix():
    assert {*loading.PREFIXES} == {*trust.CLASSIFIER_PREFIXES, "robustbench:"}
    assert {*build.MODEL_LIBRARIES} == {*trust.LIBRARY_PREFIXES}


def test_the_plans_and_cards_of_the_package_need_no_trust():
    from scoreag.assess.plan import list_plans
    from scoreag.models.model_cards import list_cards

    assert all(load_plan(name).datasets for name in list_plans())
    assert all(load_card(name).name == name for name in list_cards())


@pytest.mark.parametrize("name", ["../evil", "evil/code.x", ".evil", "a..b", "evil.code-x"])
def test_a_module_is_named_as_python_names_it(here, name):
    with pytest.raises(ValueError, match=r"no module in attacks|no .* in attacks"):
        load_component("attacks", name)


IMPORTERS = {  # where a module is imported whose name is not written there; each has its reason
    "__init__.py",  # the public names of this package
    "registry.py",  # a component: ``is_custom_component`` guards the files that name one
    "classifiers/build.py",  # factories, guarded by ``is_custom_classifier``; timm, torchvision
    "attacks/external/__init__.py",  # foolbox, art, torchattacks, autoattack: those names alone
}


def calls(file):
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_names_of_modules_come_from_known_places_only():
    found = {
        file.relative_to(SOURCE).as_posix()
        for file in SOURCE.rglob("*.py")
        for name, node in calls(file)
        if name.endswith(("import_module", "__import__"))
        and not isinstance(node.args[0], ast.Constant)
    }
    assert found == IMPORTERS


def test_a_file_of_python_is_run_in_one_place_only():
    """As ``path/to/file.py:function``, which is a word at the prompt."""
    found = {
        file.relative_to(SOURCE).as_posix()
        for file in SOURCE.rglob("*.py")
        for name, _ in calls(file)
        if name.endswith(("exec_module", "spec_from_file_location"))
    }
    assert found == {"classifiers/build.py"}


RUN_FILES = (
    "eval", "exec", "compile", "pickle.load", "pickle.loads", "torch.load", "torch.jit.load",
    "torch.export.load", "runpy.run_path", "runpy.run_module", "marshal.loads",
    "os.system", "joblib.load",
)  # fmt: skip


def test_nothing_in_the_source_runs_what_a_file_holds():
    for file in SOURCE.rglob("*.py"):
        for name, node in calls(file):
            options = {one.arg: ast.unparse(one.value) for one in node.keywords}
            told_by_parent = name == "pickle.loads" and file.name == "executors.py"  # in memory
            assert name not in RUN_FILES or told_by_parent, (file, name)
            if name == "np.load":
                assert options["allow_pickle"] == "False", file
