import re
import shutil
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest

import scoreag
import tiny
from assess.worlds_of_plans import PLAN, write_net
from scoreag.assess import experiments, resolve
from scoreag.assess.cost_estimate import shorten_cell
from scoreag.assess.experiments import ModelCache
from scoreag.assess.plan import list_plans, load_plan
from scoreag.assess.resolve import build_cells, skipped_attacks
from scoreag.attacks import pgd
from scoreag.classifiers import efficientnet
from scoreag.core import ALGORITHM
from scoreag.defenses.purifiers import gap
from scoreag.io.bounded import find_line, key_lines
from scoreag.models.model_cards import list_cards
from scoreag.registry import UnknownNameError

pytestmark = pytest.mark.usefixtures("one_thread")


def resolved(text, folder):
    (folder / "p.toml").write_text(text)
    return resolve.resolve_plan(load_plan(folder / "p.toml"), ModelCache())


def line(text):
    """The line of the plan on which ``text`` stands, counted from 1."""
    return 1 + PLAN[: PLAN.index(text)].count("\n")


def test_lines_of_keys_and_tables_are_found_in_every_form():
    found = key_lines('a = 1\n[b."c.d"]\n\ne.f = [\n  1,\n]\n"g h" = 2\n')
    assert found == {("a",): 1, ("b", "c.d"): 2, ("b", "c.d", "e", "f"): 4, ("b", "c.d", "g h"): 7}
    assert find_line(found, "b", "c.d", "unheard") == 2


def test_a_plan_is_crossed_in_order_and_a_list_is_a_sweep(planned):
    names = [cell.name for cell in resolved(PLAN, planned)]
    assert names == [
        "tiny/clean",
        "tiny/net/none/pgd,eps=8/255",
        "tiny/net/none/pgd,eps=64/255",
        "tiny/net/gap/pgd,eps=8/255",
        "tiny/net/gap/pgd,eps=64/255",
        "tiny/net/none/gat",
        "tiny/net/none/gas,attack_scale=0.0",
        "tiny/net/none/gas,attack_scale=30.0",
    ]


def test_options_are_resolved_with_their_defaults_before_any_work(planned):
    cells = {cell.name: cell for cell in resolved(PLAN, planned)}
    pgd = cells["tiny/net/none/pgd,eps=8/255"].options
    assert pgd == {
        "eps": 8 / 255, "steps": 2, "step_size": None, "norm": "Linf", "loss": "ce",
        "restarts": 1, "return_iterate": "last", "eot_samples": 1, "early_stop_draws": 0,
        "eot_weighting": "mean",
    }  # fmt: skip
    assert cells["tiny/net/none/gat"].options["similarity"] == tiny.QUICK["transform"]["similarity"]
    assert cells["tiny/net/none/gat"].options["target"] == "runner_up"


@pytest.mark.parametrize(
    "old, new, at, told",
    [
        ("[attacks.pgd]", '[attacks.pgd]\nattack = "pdg"', "[attacks.pgd]", "did you mean 'pgd'"),
        ("images = 6", "imagse = 6", "images = 6", "no 'imagse'; did you mean 'images'"),
        ("images = 6", 'images = "all"', "images = 6", "images is 'all'; expected a whole number"),
        ("images = 6", "images = 0", "images = 6", "images is 0; expected 1 or more"),
        ("steps = 2\npurifiers", "step = 2\npurifiers", "[attacks.gat]",
         "'step'; did you mean 'steps'"),
        ('eps = ["8/255", "64/255"]', "eps = 0", "[attacks.pgd]", "eps is 0"),
        ('eps = ["8/255", "64/255"]', 'eps = "x"', "[attacks.pgd]", "expected float"),
        ('classifiers = "net"\n\n[attacks.pgd]', 'classifiers = "nett"\n\n[attacks.pgd]',
         'classifiers = "net"\n\n[attacks.pgd]', "did you mean 'net'"),
        ("[purifiers.gap]", '[purifiers.gap]\nbackward = "exat"', "[purifiers.gap]", "'exact'"),
        ('prior = "prior"', 'prior = "prio"', 'prior = "prior"', "no folder and no card 'prio'"),
        ('prior = "prior"\n', "", "[purifiers.gap]", "write prior = in the dataset"),
        ('reference_classifier = "judge"', 'reference_classifier = "prior"',
         'reference_classifier = "judge"', "a classifier is wanted here"),
        ("[attacks.gas]", '[attacks.gas]\nood_data = "image-folder:images"', "[attacks.gas]",
         "no ood_data"),
        ("[attacks.gas]", '[attacks.gas]\ntarget = "bird"', "[attacks.gas]", "no class"),
        ("[attacks.gas]", '[attacks.gas]\nprior = "x"', "[attacks.gas]", "no option 'prior'"),
        ('steps = 2\nclassifiers = "net"', 'steps = 2\nclassifiers = "other"\npurifiers = "gap"',
         "[attacks.pgd]", "pgd has nobody to attack"),
        ('steps = 2\nclassifiers = "net"', 'steps = 2\nclassifiers = "net"\npurifiers = []',
         "[purifiers.gap]", "no attack takes gap"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_what_to_write(planned, old, new, at, told):
    changed = PLAN.replace(old, new, 1)
    with pytest.raises(ValueError, match=told) as caught:
        resolved(changed, planned)
    number = int(str(caught.value).split("line ")[1].split(":")[0])
    removed = old.count("\n") > new.count("\n")
    allowed = {line(at) - removed, line(at) + new.count("\n") - old.count("\n")}
    assert number in allowed and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("images = 6", "images = true", "images is True; expected a whole number"),
        ("images = 6", "seeds = [-1]", r"seeds are \[-1\]; expected \[0\], or \[0, 1\]"),
        ('description = "a test"', "description = 1", "description is 1; expected a word in quot"),
        ('data = "image-folder:images"', "data = [1]", r"data is \[1\]; expected a word in quotes"
         " or a list of words"),
        ('data = "image-folder:images"', "", "the dataset 'tiny' lacks data"),
        ('data = "image-folder:images"', "data = []", "the dataset 'tiny' lacks data"),
        ('prior = "prior"', 'prio = "prior"', "a dataset has no 'prio'; did you mean 'prior'"),
        ('prior = "prior"', 'name = "prior"', "a dataset has no 'name'; there are: data"),
        ("[attacks.gat]", "[attacks]\nx = 1\n[attacks.gat]", "x stands in .attacks. itself; write"),
        ("[attacks.gat]", "[attacks.gat]\nimages = 1.5", "images is 1.5; expected a whole number"),
        ("[attacks.gat]", "[attacks.gat]\neps = []", "eps is a list of no values"),
        ("[purifiers.gap]", "[purifiers.gap]\nattacker_options = 1", "is 1; expected a table"),
        ("[purifiers.gap]", "[purifiers.gap]\nclassifiers = 3", "classifiers is 3; expected"),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_told_in_plain_words(tmp_path, old, new, told):
    assert old in PLAN
    text = PLAN.replace(old, new, 1)
    if "classifiers = 3" in new:
        text = text.replace('steps = 1\nclassifiers = "net"', "steps = 1", 1)
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ValueError, match=rf"p\.toml, line \d+: .*{told}") as caught:
        load_plan(tmp_path / "p.toml")
    assert not re.search(r"\n|pydantic|https?:|validation|type=", str(caught.value))


@pytest.mark.parametrize("missing", ["datasets", "attacks"])
def test_a_plan_without_data_or_attacks_is_told_which(tmp_path, missing):
    tables = {
        "datasets": '[datasets.a]\ndata = "x"\nclassifiers = "y"\n',
        "attacks": "[attacks.b]\n",
    }
    (tmp_path / "p.toml").write_text("".join(t for name, t in tables.items() if name != missing))
    with pytest.raises(ValueError, match=rf"p\.toml: it has no \[{missing}\.NAME\]"):
        load_plan(tmp_path / "p.toml")


@pytest.mark.parametrize(
    "new, old",
    [
        ("[datasets.tiny]", "[sets.tiny]"),
        ("eval_draws = 2", "answers = 2"),
        ('classifiers = ["net", "other"]', 'victims = ["net", "other"]'),
        ("[purifiers.gap]", "[purifiers.gap]\nfixed = true"),
        ("[attacks.gas]", '[attacks.gas]\nstrangers = "cifar100:test"'),
    ],
)
def test_a_plan_of_version_0_1_is_answered_with_the_script_that_migrates_it(tmp_path, new, old):
    (tmp_path / "p.toml").write_text(PLAN.replace(new, old, 1))
    number = line(new) + old.count("\n")
    with pytest.raises(ValueError, match=rf"p\.toml, line {number}: a plan of version 0\.1.* "
                       r"python benchmarks/migrate_0_2\.py .*p\.toml$"):  # fmt: skip
        load_plan(tmp_path / "p.toml")


def test_a_plan_that_is_no_toml_is_told_with_the_line_of_the_parser(tmp_path):
    (tmp_path / "p.toml").write_text("description = 1\nimages 6\n")
    with pytest.raises(ValueError, match=r"p\.toml: .*line 2"):
        load_plan(tmp_path / "p.toml")


def test_an_unknown_plan_is_told_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match=r"no plan .quik.*did you mean .quick"):
        load_plan("quik")


def test_images_without_labels_are_refused(planned, tmp_path):
    tiny.write_png(tmp_path / "a.png", tiny.images(1)[0])
    with pytest.raises(ValueError, match=r"line 7: .*no labels"):
        resolved(PLAN.replace("image-folder:images", f"image-folder:{tmp_path}"), planned)


def test_members_that_count_other_classes_are_refused(planned, tmp_path):
    write_net(tmp_path / "four", 3, ("tree", *tiny.CLASSES))
    with_judge = PLAN.replace('"judge"', f'"{tmp_path / "four"}"')
    assert with_judge != PLAN and resolved(with_judge, planned)  # among those of the classifier
    write_net(tmp_path / "four", 3, ("cat", "dog", "shop", "tree"))
    with pytest.raises(ValueError, match=r"line 9: .*no class 'ship'; did you mean 'shop'"):
        resolved(with_judge, planned)


@pytest.mark.parametrize("judge", ["net", "other", "copy", "bpda:net"])
def test_a_judge_that_is_attacked_is_refused_with_its_line(planned, tmp_path, judge):
    """Also a victim of the set that this cell does not attack, and a copy under another name."""
    write_net(tmp_path / "copy", 10)
    word = str(tmp_path / "copy") if judge == "copy" else judge
    with pytest.raises(ValueError, match=r"line 9: the judge .* is the classifier (net|other) "):
        resolved(
            PLAN.replace(
                'reference_classifier = "judge"', f'reference_classifier = ["judge", "{word}"]'
            ),
            planned,
        )


def test_a_judge_that_is_attacked_in_another_set_of_the_plan_is_refused(planned):
    second = (
        '[datasets.two]\ndata = "image-folder:images"\nclassifiers = ["judge"]\n\n[purifiers.gap]'
    )
    with pytest.raises(ValueError, match=r"line 9: the judge judge is the classifier judge"):
        resolved(PLAN.replace("[purifiers.gap]", second), planned)


def test_every_plan_that_comes_with_the_package_says_what_it_is_in_one_line():
    assert {"quick", "paper", "full"} <= list_plans().keys()
    assert all(about and "\n" not in about for about in list_plans().values())


@pytest.mark.parametrize("name", list_plans())
def test_the_models_of_every_plan_come_with_the_package(name):
    known = {*list_cards("score-model"), *list_cards("classifier"), efficientnet.NAME}
    for one in load_plan(name).datasets.values():
        assert {one.prior, *one.classifiers, *one.reference_classifier} - {""} <= known


def test_a_retrained_model_of_the_same_name_has_another_key(planned, tmp_path, monkeypatch):
    write_net(tmp_path / "net", 10)
    text = PLAN.replace('"net"', f'"{tmp_path / "net"}"')
    before = {cell.name: cell.key for cell in resolved(text, planned)}
    assert {cell.name: cell.key for cell in resolved(text, planned)} == before
    write_net(tmp_path / "net", 99)
    after = {cell.name: cell.key for cell in resolved(text, planned)}
    assert after.keys() == before.keys() and not {*after.values()} & {*before.values()}


def test_rows_of_another_algorithm_have_another_key(planned, monkeypatch):
    before = {cell.key for cell in resolved(PLAN, planned)}
    monkeypatch.setattr(resolve, "ALGORITHM", ALGORITHM + 1)
    after = {cell.key for cell in resolved(PLAN, planned)}
    assert len(after) == len(before) and not after & before


def test_a_comment_in_a_source_file_changes_no_key(planned, tmp_path, monkeypatch):
    """A copy of the package, in which every file has one comment more."""
    root = Path(scoreag.__file__).parent
    copy = tmp_path / "scoreag"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    for file in copy.rglob("*.py"):
        file.write_text(file.read_text() + "# a comment\n")
    before = [cell.key for cell in resolved(PLAN, planned)]
    for component in (pgd, gap):
        moved = copy / Path(component.__file__).relative_to(root)
        monkeypatch.setattr(component, "__file__", str(moved))
    monkeypatch.setattr(experiments, "__file__", str(copy / "assess" / "kit.py"))
    assert [cell.key for cell in resolved(PLAN, planned)] == before


def test_a_component_from_elsewhere_is_told_by_its_code_and_not_by_its_comments(tmp_path):
    module, digests = ModuleType("mine"), []
    module.__file__ = str(tmp_path / "mine.py")
    for text in ("x = 1\n", "# one\nx = 1  # two\n", "x = 2\n"):
        Path(module.__file__).write_text(text)
        digests.append(experiments.source_digest(module))
    assert digests[0] == digests[1] != digests[2]


def test_an_attack_may_be_judged_by_more_draws_and_a_fixed_draw_needs_but_one(planned):
    text = PLAN.replace(
        "[attacks.pgd]", '[attacks.pgd]\neval_draws = 5\npurifiers = ["none", "gap"]'
    )
    asked = {cell.name: cell.eval_draws for cell in resolved(text, planned)}
    assert asked["tiny/net/none/pgd,eps=8/255"] == 1  # it does not draw
    assert asked["tiny/net/gap/pgd,eps=8/255"] == 5
    fresh, fixed = (
        next(c for c in resolved(t, planned) if c.purifier)
        for t in (text, text.replace("[purifiers.gap]", "[purifiers.gap]\nshared_draw = true"))
    )
    assert fixed.shared_draw and fixed.eval_draws == 1 and fixed.key != fresh.key


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("[purifiers.gap]", "[purifiers.gap]\nshared_draw = 1",
         "shared_draw is 1; expected true or false"),
        ("[attacks.pgd]", "[attacks.pgd]\neval_draws = 0", "eval_draws is 0; expected 1 or more"),
        ("[attacks.pgd]", '[attacks.gap]\npurifiers = "gap"\n[attacks.pgd]',
         "line 17: gap .* no attack on a purifier"),
        ("[purifiers.gap]",
         '[purifiers.gap]\nshared_draw = true\nattacker_options = {backward = "none"}',
         "line 13: .*an attacker .* draws nothing"),
        ("steps = 2\nclassifiers", "steps = 2\nearly_stop_draws = -1\nclassifiers",
         "early_stop_draws is -1; expected 0 to inf"),
        ("steps = 2\nclassifiers", 'steps = 2\neot_weighting = "medium"\nclassifiers',
         "no eot_weighting 'medium'"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_of_draws_is_refused(planned, old, new, told):
    with pytest.raises(ValueError, match=told):
        resolved(PLAN.replace(old, new, 1), planned)


def test_an_attack_that_needs_lpips_may_be_left_out(planned):
    text = PLAN + '\n[attacks.lpips]\nattack = "ppgd"\nrequires_lpips = true\n'
    assert not [cell for cell in resolved(text, planned) if cell.attack == "lpips"]
    assert skipped_attacks(load_plan(planned / "p.toml"), ModelCache()) == ["lpips"]
    assert skipped_attacks(load_plan(planned / "p.toml"), ModelCache(lpips="a.npz,b.npz")) == []
    with pytest.raises(ValueError, match="give its weights by --lpips"):
        resolved(text.replace("requires_lpips = true", ""), planned)


def test_the_plan_of_purifiers_has_the_protocol_in_its_core():
    """APGD, 100 iterations, EOT 10, stop 10; 32 images and 128 answers where exact; 128 else."""
    found = list(build_cells(load_plan("purifier")))
    core = [c for c in found if fnmatch(c.name, "*/cifar10-resnet20/*/core*")]
    told = {
        (
            c.purifier,
            c.attacker_options.get("backward", "exact"),
            c.images,
            c.eval_draws,
            c.component,
        )
        for c in core
    }
    assert told == {
        (purifier, kind, images, answers, "apgd")
        for purifier in ("gap", "diffpure")
        for kind, images, answers in (("exact", 32, 128), ("bpda", 128, 10), ("none", 128, 10))
    }
    assert all(c.options["steps"] == 100 and c.options["eps"] == 8 / 255 for c in core)
    drawn = [c for c in core if c.attacker_options.get("backward") != "none"]
    assert all(c.options["eot_samples"] == c.options["early_stop_draws"] == 10 for c in drawn)
    losses = {c.options["loss"] for c in found if c.attack == "losses"}
    assert losses == {"margin", "dlr"} and any(c.shared_draw for c in found)
    assert {c.classifier for c in found} == {"cifar10-resnet20", "cifar10-robust"}


def test_a_forecast_of_a_long_attack_on_a_purifier_is_scaled_up():
    """100 steps on 5 and 10 draws on 4 are 50 times as much, 128 answers on 10 are 12.8 times;
    what is cut to the same is one kind; a bare classifier's attack is measured whole."""
    found = {c.name.removeprefix("cifar10/"): c for c in build_cells(load_plan("purifier"))}
    cut, times, answers = shorten_cell(found["cifar10-resnet20/gap/core_exact"])
    assert {n: cut.options[n] for n in ("steps", "eot_samples", "early_stop_draws")} == {
        "steps": 5,
        "eot_samples": 4,
        "early_stop_draws": 0,
    }
    assert (cut.eval_draws, times, answers) == (10, 50.0, 12.8)
    many, times, _ = shorten_cell(found["cifar10-resnet20/gap/many_draws"])
    assert times == 20 * 16 and many.options == cut.options
    bare = next(c for c in build_cells(load_plan("paper")) if c.attack == "pgd_linf")
    assert shorten_cell(bare) == (bare, 1.0, 1.0)
