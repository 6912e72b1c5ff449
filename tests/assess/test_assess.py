"""Rows do not care how the work was split, stopped or spread, and nothing harmed is trusted."""

import errno
import json
import re
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch

import tiny
from assess.worlds_of_plans import PLAN, write_net
from scoreag.assess import executors, runner
from scoreag.assess.experiments import ModelCache
from scoreag.assess.plan import load_plan
from scoreag.assess.resolve import resolve_plan
from scoreag.assess.results import aggregate
from scoreag.assess.runner import assess, build_manifest, stale_cells
from scoreag.attacks._objective import Objective
from scoreag.classifiers.loading import load_classifier
from scoreag.cli.app import main
from scoreag.core.rng import Noise
from scoreag.io.images import read_png, to_float
from scoreag.metrics.norms import linf
from scoreag.registry import UnknownNameError, load_attack

pytestmark = pytest.mark.usefixtures("one_thread")


def run(folder, text=PLAN, size=4, only=None, crew=None, **options):
    """An assessment of ``text`` in ``folder``, in this process; the cells and how it went."""
    (folder.parent / f"{folder.name}.toml").write_text(text)
    plan, kit = load_plan(folder.parent / f"{folder.name}.toml", trust_code=True), ModelCache()
    cells = resolve_plan(plan, kit)
    found = {**build_manifest(plan, kit, None), "task": "assess test"}
    crew = crew or partial(executors.run_serial, cache=kit)
    done = assess(cells, folder, found, crew, only, size, progress=False, **options)
    return cells, done


def rows(folder):
    """All rows by cell, and all pictures: what must not depend on how the work was done."""
    found = {cell.name: runner.read_cell(folder, cell).rows for cell in runner.list_cells(folder)}
    pictures = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.png")}
    return found, pictures


@pytest.fixture(scope="module")
def whole(plans_folder, tmp_path_factory, one_thread):
    """The assessment that nothing interrupted, in one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(plans_folder)
        folder = tmp_path_factory.mktemp("whole") / "out"
        run(folder, size=64)
    return folder


@pytest.fixture
def copy(whole, planned, tmp_path):
    """A copy of it, to be harmed."""
    shutil.copytree(whole, tmp_path / "out")
    return tmp_path / "out"


class Stopped(Exception):
    pass


def stopping_after(count, kit):
    """A crew that does ``count`` shards, and then is gone."""

    def crew(shards):
        for number, one in enumerate(executors.run_serial(shards, kit)):
            if number == count:
                raise Stopped
            yield one

    return crew


def test_rows_do_not_depend_on_the_shard_size_or_on_stops(whole, planned, tmp_path):
    for stop, size in ((1, 1), (3, 5), (2, 4)):
        with pytest.raises(Stopped):
            run(tmp_path / "out", size=size, crew=stopping_after(stop, ModelCache()))
    run(tmp_path / "out", size=7)
    assert rows(tmp_path / "out") == rows(whole)


def test_rows_do_not_depend_on_the_number_of_processes(whole, planned, tmp_path):
    run(
        tmp_path / "out",
        size=4,
        crew=partial(executors.run_in_processes, cache=ModelCache(), n_workers=2),
    )
    assert rows(tmp_path / "out") == rows(whole)


@pytest.mark.parametrize("harm", ["cut", "changed", "features", "picture"])
def test_a_harmed_file_is_found_and_done_again(whole, copy, harm):
    cell = next(c for c in runner.list_cells(copy) if c.attack == "pgd")
    place = copy / "cells" / cell.key
    file = next(
        place.glob({"picture": "images/*.png", "features": "*.features"}.get(harm, "*.jsonl"))
    )
    data = file.read_bytes()
    changed = data.replace(b'"success": false', b'"success": true ')
    file.write_bytes(data[:-20] if harm != "changed" else changed)
    assert rows(copy) != rows(whole)
    _, done = run(copy, size=64)
    assert rows(copy) == rows(whole)
    assert bool(done.corrupt) == (harm != "picture")


NOISY = """
import torch
from scoreag import load_classifier


class Noisy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = load_classifier("net")
        self.eval()

    def forward(self, images):
        logits = self.net(images)
        return logits + torch.randn_like(logits)
"""


@pytest.mark.parametrize("declared", [False, True])
def test_a_victim_that_draws_is_doubted_unless_it_is_declared(
    planned, tmp_path, monkeypatch, declared
):
    """It is the second of the victims: every victim is asked, and each may be declared."""
    (planned / "noisy.py").write_text(NOISY)
    monkeypatch.syspath_prepend(planned)
    victims = 'classifiers = ["net", "noisy:Noisy"]\n' + 'stochastic = ["noisy:Noisy"]\n' * declared
    text = PLAN.replace('classifiers = ["net", "other"]\n', victims)
    run(tmp_path / "out", text, only="tiny/clean")
    checks = [finding.check for finding in aggregate(tmp_path / "out").findings]
    assert ("randomness" in checks) != declared


def test_draws_of_a_gradient_taken_at_once_change_neither_images_nor_what_is_counted(
    planned, tmp_path, monkeypatch
):
    """Three draws of four images a gradient, behind a purifier: one by one, and within 1 GiB."""
    text = PLAN.replace("[attacks.pgd]", '[attacks.pgd]\neot_samples = 3\npurifiers = "gap"')
    (tmp_path / "plan.toml").write_text(text)
    taken = []
    slopes = Objective._draw_gradients
    monkeypatch.setattr(
        Objective,
        "_draw_gradients",
        lambda self, x, many: taken.append(many) or slopes(self, x, many),
    )
    found = []
    for name, more in (("one", []), ("many", ["--max-memory", "1GiB"])):
        words = ["--only", "*/gap/pgd*", "--out", str(tmp_path / name), "--quiet", *more]
        assert main(["assess", str(tmp_path / "plan.toml"), *words]) == 0
        told = ("sha256", "nfe", "forwards", "backwards", "draw_predictions", "success_float")
        each, _ = rows(tmp_path / name)
        found.append({k: [[row[n] for n in told] for row in rs] for k, rs in each.items() if rs})
        assert set(taken) == ({1} if name == "one" else {3})
        taken.clear()
    assert len(found[0]) == 2 and found[0] == found[1]


@pytest.mark.parametrize(
    "size, told", [("lots", "max_memory is 'lots'"), ("9KB", "takes about .* give .*max_memory=")]
)
def test_a_memory_that_cannot_be_meant_is_refused_before_any_work(
    planned, tmp_path, capsys, size, told
):
    (tmp_path / "plan.toml").write_text(PLAN)
    words = ["--out", str(tmp_path / "out"), "--max-memory", size]
    assert main(["assess", str(tmp_path / "plan.toml"), *words]) == 1
    assert re.search(told, capsys.readouterr().err) and not (tmp_path / "out").exists()


def test_cells_of_another_version_are_told_and_not_read(copy):
    file = next(copy.glob("cells/*/cell.json"))
    changed = json.loads(file.read_text()) | {"seed": 5}
    file.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"written by another version, .* --overwrite"):
        aggregate(copy)


def test_what_is_whole_is_not_computed_again(copy):
    def nobody(shards):
        assert not list(shards)
        yield from ()

    run(copy, crew=nobody)


def test_rows_are_those_of_the_saved_image_measured_by_hand(whole, planned):
    """The classifier, the distance and the digest of the file are looked up here once more."""
    net = load_classifier("net")
    for cell in runner.list_cells(whole):
        if cell.purifier_name != "none":
            continue
        for row in runner.read_cell(whole, cell).rows:
            saved = to_float(read_png(whole / row["file"]))[None]
            said = int(net(saved).argmax(1))
            assert row["predictions"]["saved"] == said
            assert row["success"] == (said != row["label"])
            if "original_file" in row:
                origin = to_float(read_png(whole / row["original_file"]))[None]
                moved = float(linf(origin.double(), saved.double()))
                assert row["distances"]["linf"] == pytest.approx(moved, abs=1e-6)


def test_the_attack_of_a_cell_is_that_of_the_library_with_its_noise(whole, planned):
    """PGD called directly on one padded micro-batch gives the saved images."""
    cell = next(c for c in runner.list_cells(whole) if c.name == "tiny/net/none/pgd,eps=64/255")
    found = runner.read_cell(whole, cell).rows[:4]
    images = torch.cat([to_float(read_png(whole / r["original_file"]))[None] for r in found])
    labels = torch.tensor([row["label"] for row in found])
    attack = load_attack("pgd")(eps=64 / 255, steps=2)
    noise = Noise(0, [row["image_id"] for row in found]).fold_in("attack")
    made = attack.run(load_classifier("net"), images, labels, noise)
    saved = torch.cat([to_float(read_png(whole / r["file"]))[None] for r in found])
    assert (made - saved).abs().max() <= 0.5 / 255 + 1e-6


def test_a_blind_attacker_asks_the_classifier_without_its_purifier(whole, planned):
    from scoreag.assess.threat_model import QueryCounter, build_context, make_view

    cell = next(c for c in runner.list_cells(whole) if c.purifier_name == "gap")
    blind = replace(cell, attacker_options={**cell.attacker_options, "backward": "none"})
    plain = build_context(cell, ModelCache())
    images, ids = plain.images[:4], plain.ids(range(4))
    tally = QueryCounter()
    attacker = make_view(replace(plain, cell=blind), True, tally.wrap_prior(plain.prior))
    assert torch.equal(attacker(0, images, ids), plain.classifier(images))
    assert tally.nfe == 0
    judge = make_view(replace(plain, cell=blind), False, plain.prior)
    assert not torch.equal(judge(0, images, ids), plain.classifier(images))


def test_an_attack_on_a_purifier_sees_other_draws_than_those_it_is_judged_by(whole, planned):
    from scoreag.assess.threat_model import DRAW_OFFSET_EVAL, QueryCounter, build_context, make_view

    cell = next(c for c in runner.list_cells(whole) if c.purifier_name == "gap")
    kit = ModelCache()
    plain = build_context(cell, kit)
    ids, images = plain.ids(range(4)), plain.images[:4]
    attacked = make_view(plain, True, QueryCounter().wrap_prior(plain.prior))
    judged = make_view(plain, False, plain.prior)
    assert torch.equal(attacked(0, images, ids), judged(0, images, ids))
    assert not torch.equal(attacked(0, images, ids), judged(DRAW_OFFSET_EVAL, images, ids))
    assert not torch.equal(attacked(0, images, ids), attacked(1, images, ids))


def test_a_cell_that_fails_is_told_and_the_others_are_done(whole, planned, tmp_path):
    text = PLAN + '\n[attacks.broken]\nattack = "assess.broken"\nclassifiers = "net"\n'
    _, done = run(tmp_path / "out", text, only="tiny/*/[pb]*")
    assert done.failed.keys() == {"tiny/net/none/broken", "tiny/net/gap/broken"}
    assert "assess.broken returned images in [0, 2]" in done.failed["tiny/net/none/broken"]
    found, _ = rows(tmp_path / "out")
    expected = {name: r for name, r in rows(whole)[0].items() if "/pgd" in name}
    assert {name: r for name, r in found.items() if r} == expected
    states = {one.cell.name: one.state for one in aggregate(tmp_path / "out").cells}
    assert states["tiny/net/none/broken"].startswith("failed: assess.broken returned")


def test_a_retrained_classifier_of_the_same_name_uses_no_old_row(planned, tmp_path):
    write_net(tmp_path / "net", 10)
    text = PLAN.replace('"net"', f'"{tmp_path / "net"}"')
    run(tmp_path / "out", text, only="*/none/pgd*")
    before, _ = rows(tmp_path / "out")
    write_net(tmp_path / "net", 99)
    cells, _ = run(tmp_path / "out", text, only="*/none/pgd*")
    after, _ = rows(tmp_path / "out")
    name = "tiny/net/none/pgd,eps=8/255"
    assert before[name] and after[name] and before[name] != after[name]
    assert len(stale_cells(tmp_path / "out", cells)) == len(cells)


def test_a_folder_of_another_plan_is_refused_and_left_alone(copy):
    before = rows(copy)
    with pytest.raises(ValueError, match=r"plan\.images was 6 and is now 5.*--overwrite"):
        run(copy, PLAN.replace("images = 6", "images = 5"))
    assert rows(copy) == before


def test_overwrite_starts_afresh(copy):
    text = PLAN.replace("images = 6", "images = 4")
    run(copy, text, only="*/none/pgd*", overwrite=True)
    assert sorted(len(found) for found in rows(copy)[0].values()) == [0] * 6 + [4, 4]
    assert len(list(copy.glob("originals/*/*.png"))) == 4


def test_a_full_disk_loses_nothing_and_says_so(whole, planned, tmp_path, monkeypatch, capsys):
    written = runner._write_picture

    def full(path, data):
        if path.stem == "000004" and "cells" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written(path, data)

    words = ["assess", "plan.toml", "--out", str(tmp_path / "out"), "--write-every", "4"]
    words += ["--only", "*/none/pgd*"]
    with monkeypatch.context() as patch:
        patch.setattr(runner, "_write_picture", full)
        assert main(words) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device; fix that and run the same command again" in told
    name = "tiny/net/none/pgd,eps=8/255"
    assert rows(tmp_path / "out")[0][name] == rows(whole)[0][name][:4]
    assert main([*words, "--quiet"]) == 0
    assert rows(tmp_path / "out")[0][name] == rows(whole)[0][name]


def test_only_some_cells_are_done_and_a_mistyped_one_is_told(planned, tmp_path):
    run(tmp_path / "out", only="tiny/net/none/gat")
    assert [name for name, found in rows(tmp_path / "out")[0].items() if found] == [
        "tiny/net/none/gat"
    ]
    with pytest.raises(UnknownNameError, match="no cell 'tiny/net/none/gta'; did you mean"):
        run(tmp_path / "out", only="tiny/net/none/gta")


def test_the_command_writes_a_page_and_tables_and_dry_run_writes_nothing(planned, tmp_path, capsys):
    assert main(["assess", "plan.toml", "--dry-run", "--json", "--only", "*/none/pgd*"]) == 0
    told = json.loads(capsys.readouterr().out)
    pgd = next(row for row in told if row["cell"] == "tiny/net/none/pgd,eps=8/255")
    assert pgd["gradients"] == 6 * 2 and pgd["images"] == 6  # two steps for each of six images
    assert not list(tmp_path.iterdir())
    assert (
        main(
            [
                "assess",
                "plan.toml",
                "--out",
                str(tmp_path / "out"),
                "--quiet",
                "--only",
                "*/none/pgd*",
            ]
        )
        == 0
    )
    assert {"report.html", "summary.json", "tables", "cells"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_strangers_are_judged_by_the_classifiers_own_first_answer(planned, tmp_path):
    tiny.write_images(tmp_path / "others", 5)
    text = (
        PLAN + f'\n[attacks.new]\nattack = "gap"\nsteps = 2\nood_data = "image-folder:{tmp_path}"\n'
    )
    text = text.replace(f"image-folder:{tmp_path}", f"image-folder:{tmp_path / 'others'}")
    run(tmp_path / "out", text, only="*/net/none/new")
    found = rows(tmp_path / "out")[0]["tiny/net/none/new"]
    assert len(found) == 5
    assert all(row["label"] == row["predictions"]["before"] for row in found)


FACTORY = """
import scoreag, tiny
from torch import nn

class Behind(nn.Module):
    def __init__(self):
        super().__init__()
        options = {"sigma_start": 0.6, "steps": 1}
        self.inside = scoreag.defend(tiny.victim(), tiny.prior(), "diffpure", **options)

    def forward(self, images):
        return self.inside(images)

def made():
    return Behind().eval()
"""


def test_a_defense_inside_of_a_victim_draws_for_images_whatever_the_shards_are(planned, tmp_path):
    """Rows are the same however the work is split, stopped, or asked about before."""
    (tmp_path / "defended_inside.py").write_text(FACTORY)
    word = f"{tmp_path / 'defended_inside.py'}:made"
    text = f"""\
images = 5
batch_size = 2
eval_draws = 2

[datasets.tiny]
data = "image-folder:images"
prior = "prior"
reference_classifier = "judge"
classifiers = ["{word}"]

[attacks.pgd]
eps = "32/255"
steps = 2

[attacks.gat]
steps = 1
"""
    run(tmp_path / "whole", text, size=64)
    run(tmp_path / "parts", text, size=2)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert any("gat" in name for name in map(str, rows(tmp_path / "whole")))


SEARCHED = """\
description = "scales that are searched for"
images = 5
batch_size = SIZE
eval_draws = 1

[datasets.tiny]
data = "image-folder:images"
prior = "prior"
reference_classifier = "judge"
classifiers = ["net"]

[purifiers.gap]
steps = 1
sigma_start = 0.2

[attacks.gat]
attack_scale = "auto"
normalize_gradient = false
steps = 2
images = 5

[attacks.gas]
attack_scale = ["auto", 0.0]
normalize_gradient = false
steps = 2
purifiers = []
"""


@pytest.mark.usefixtures("coarse_search")
def test_searched_scales_are_told_in_rows_whatever_the_batch(planned, tmp_path):
    """With a purifier, whose draws belong to the image, as without one; so is what they cost."""
    kept = ("attack_scale", "found", "restarts", "success", "nfe", "forwards", "backwards")
    found = []
    for batch_size, size in ((3, 4), (4, 4), (4, 64)):
        out = tmp_path / f"out{batch_size}-{size}"
        run(out, SEARCHED.replace("SIZE", str(batch_size)), size)
        by_cell, _ = rows(out)
        found.append({
            (name, row["image_id"]): tuple(row[field] for field in kept)
            for name, each in by_cell.items() for row in each if "found" in row
        })  # fmt: skip
    kinds = {name for name, _ in found[0]}
    assert len(kinds) == 3 and any("gap" in name for name in kinds)
    assert found[0] == found[1] == found[2]
    assert rows(tmp_path / "out4-4") == rows(tmp_path / "out4-64")
    assert len({scale for scale, *_ in found[0].values()}) > 3


@pytest.mark.usefixtures("coarse_search")
def test_the_cost_of_a_searched_image_is_its_own(planned, tmp_path):
    """A chain calls the score model three times a try, a purifier once forward, once backward."""
    run(tmp_path / "out", SEARCHED.replace("SIZE", "4"))
    by_cell, _ = rows(tmp_path / "out")
    searched = [(name, row) for name, each in by_cell.items() for row in each if "found" in row]
    for name, row in searched:
        chain = 3 * (row["restarts"] + 1)  # of two steps of second order
        assert row["backwards"] == chain
        purified = row["forwards"] + row["backwards"] if "/gap/" in name else 0
        assert row["nfe"] == chain + purified
    assert len({row["nfe"] for _, row in searched}) > 5
