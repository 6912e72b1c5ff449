"""Cards and plans of version 0.1, written in the words of 0.2 by benchmarks/migrate_0_2.py."""

import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import tiny
from scoreag.models.model_cards import load_card

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "migrate_0_2.py"

CARD = """\
name = "cifar10"  # the small one
kind = "score-model"
network = "unet"
file = "cifar10.safetensors"
licence = "MIT"
image_shape = [3, 32, 32]
family = "ddpm"

[levels]
steps = 4000
pace = 0.25

[options]
channels = 32
taps = [1, 3, 3, 1]

# tuned on 500 images
[defaults.synthesize]
sampler = "dpmpp"
start = 80.0
steps = 20
strength = 1.5
interval = [0.0, 2.0]
retries = 3

[defaults.transform]
gradient = "straight"
precision = 1000.0
sampler = "churn"
sampler_options = { amount = 40, inflate = 1.003 }

[recipe]
data = "folder:pictures"
rate = 0.006  # of Muon
others_rate = 0.002
steps = 10

[recipe.plan]
images = 640000
batch = 64
precision = "bf16"

[figures.test.accuracy]
value = 0.5
of = "draws"
"""

NEW_CARD = """\
name = "cifar10"  # the small one
kind = "score-model"
network = "unet"
file = "cifar10.safetensors"
license = "MIT"
image_shape = [3, 32, 32]
family = "ddpm"

[schedule_kwargs]
steps = 4000
time_scale = 0.25

[options]
channels = 32
resample_filter = [1, 3, 3, 1]

# tuned on 500 images
[defaults.synthesize]
sampler = "dpmpp_2m"
sigma_start = 80.0
steps = 20
attack_scale = 1.5
attack_interval = [0.0, 2.0]
max_restarts = 3

[defaults.transform]
jacobian = "identity"
similarity = 1000.0
sampler = "edm_stochastic"
sampler_options = { s_churn = 40, s_noise = 1.003 }

[training_config]
data = "image-folder:pictures"
lr = 0.006  # of Muon
adam_lr = 0.002
attack_steps = 10

[training_config.schedule]
total_images = 640000
batch_size = 64
dtype = "bf16"

[metrics.test.accuracy]
value = 0.5
of = "draws"
"""

PLAN = """\
about = "a minute"
micro_batch = 16
answers = 3
features = "none"

[sets.cifar10]
data = ["cifar10:test[0:256]", "samples", "samples[0:4]"]
judge = "cifar10-judge"
victims = ["cifar10-resnet20", "masked:cifar10-resnet20", "unmasked:a", "guarded:a,b"]
random = ["a"]
bring = "put them there"

[purifiers.gap]
victims = "cifar10-resnet20"
fixed = true
attacked = { backward = "blind", start = 0.2, vote = "mean" }
vote = "majority"

[purifiers.gap_2]
purifier = "denoise_once"

[purifiers.gap_2.attacked]
start = 0.1  # half of it

[attacks.apgd]  # with exact gradients
norm = ["linf", "l2"]
epsilon = "8/255"
draws = 4
wrong = "second"
with_lpips = true
purifiers = "none"

[attacks.spatial]
attack = "spatial"
reach = 1.0
strangers = "folder:other"
sets = "cifar10"
"""

NEW_PLAN = """\
description = "a minute"
batch_size = 16
eval_draws = 3
feature_extractor = "none"

[datasets.cifar10]
data = ["cifar10:test[0:256]", "foolbox-samples", "foolbox-samples[0:4]"]
reference_classifier = "cifar10-judge"
classifiers = ["cifar10-resnet20", "obfuscated:cifar10-resnet20", "bpda:a", "with-detector:a,b"]
stochastic = ["a"]
missing_hint = "put them there"

[purifiers.gap]
classifiers = "cifar10-resnet20"
shared_draw = true
attacker_options = { backward = "none", sigma_start = 0.2, aggregate = "mean" }
aggregate = "majority"

[purifiers.gap_2]
purifier = "one_step_denoising"

[purifiers.gap_2.attacker_options]
sigma_start = 0.1  # half of it

[attacks.apgd]  # with exact gradients
norm = ["Linf", "L2"]
eps = "8/255"
eot_samples = 4
target = "runner_up"
requires_lpips = true
purifiers = []

[attacks.spatial]
attack = "stadv"
max_displacement = 1.0
ood_data = "image-folder:other"
datasets = "cifar10"
"""


@pytest.fixture
def script():
    spec = spec_from_file_location("migrate_0_2", SCRIPT)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("old, new", [(CARD, NEW_CARD), (PLAN, NEW_PLAN)], ids=["card", "plan"])
def test_a_file_of_version_0_1_is_in_the_words_of_0_2(script, old, new):
    assert script.migrate(old) == new
    tomllib.loads(new)


@pytest.mark.parametrize("text", [NEW_CARD, NEW_PLAN], ids=["card", "plan"])
def test_a_second_run_changes_nothing(script, text):
    assert script.migrate(text) == text


@pytest.mark.parametrize(
    "network, new",
    [("plain_cnn", "small_cnn"), ("resnet", "cifar_resnet"), ("whitened_cnn", "airbench_cnn")],
)
def test_networks_have_their_new_names(script, network, new):
    assert script.migrate(f'network = "{network}"\n') == f'network = "{new}"\n'


@pytest.mark.parametrize(
    "new, old",
    [
        ('license = "MIT"', 'licence = "MIT"'),
        ('network = "small_cnn"', 'network = "plain_cnn"'),
        ("[options]", "[recipe]\nseed = 1\n\n[options]"),
        ("[options]", "[levels]\nsteps = 10\n\n[options]"),
        ("[options]", "[figures.test]\na = 1\n\n[options]"),
    ],
)
def test_a_card_of_version_0_1_says_how_it_is_migrated(script, tmp_path, new, old):
    card = tiny.write_classifier(tmp_path / "net") / "card.toml"
    assert card.read_text().count(new) == 1
    card.write_text(card.read_text().replace(new, old))
    with pytest.raises(
        ValueError, match=r"0\.1.*: python benchmarks/migrate_0_2\.py \S+card\.toml$"
    ):
        load_card(tmp_path / "net")
    assert script.main([str(card)]) == 0
    assert load_card(tmp_path / "net").network == "small_cnn"


def test_files_are_changed_in_place_and_only_where_they_are_old(script, tmp_path, capsys):
    for name, text in (("old.toml", CARD), ("new.toml", NEW_CARD)):
        (tmp_path / name).write_text(text)
    assert script.main([str(tmp_path / "old.toml"), str(tmp_path / "new.toml")]) == 0
    assert (tmp_path / "old.toml").read_text() == (tmp_path / "new.toml").read_text() == NEW_CARD
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'old.toml'}: migrated",
        f"{tmp_path / 'new.toml'}: is in the words of 0.2",
    ]
    assert script.main([]) == 2
