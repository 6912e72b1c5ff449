"""The files of a folder of diffusers: variants, shards, old names, shapes and labels."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import scoreag
from made_diffusers import pipeline, unet
from scoreag import load_prior
from scoreag.models.convert.checkpoint import convert_checkpoint, open_checkpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
STEM = "diffusion_pytorch_model"


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def model(diffusers):
    return unet(diffusers)


@pytest.fixture
def made(diffusers, tmp_path):
    return lambda net, **how: pipeline(tmp_path / "net", net, diffusers.DDPMScheduler(), **how)


def same(found, model):
    """Whether a folder gave the tensors of a network, and no others."""
    wanted = {f"unet.{name}": tensor for name, tensor in model.state_dict().items()}
    return found.tensors.keys() == wanted.keys() and all(
        torch.equal(found.tensors[name], tensor) for name, tensor in wanted.items()
    )


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("variant", [None, "fp16", "non_ema"])
@pytest.mark.parametrize("size", [None, "5KB"], ids=["whole", "shards"])
def test_weights_are_read_as_they_are_saved(model, made, size, variant, safe):
    how = {"variant": variant, "safe_serialization": safe}
    folder = made(model, **how, **({"max_shard_size": size} if size else {}))
    many = len(list((folder / "unet").glob(f"{STEM}*")))
    assert (many > 2) == bool(size)
    assert same(open_checkpoint(folder), model)


def test_the_files_without_a_variant_come_first(diffusers, model, made):
    folder = made(model)
    other = unet(diffusers, norm_eps=0.1)
    other.conv_in.weight.data.zero_()
    other.save_pretrained(folder / "unet", variant="aaa")
    assert same(open_checkpoint(folder), model)


def test_several_variants_are_not_chosen_among(model, made):
    folder = made(model, variant="fp16")
    model.save_pretrained(folder / "unet", variant="non_ema")
    with pytest.raises(ValueError, match="of the variants fp16, non_ema; leave only one there"):
        open_checkpoint(folder)


def test_half_weights_make_a_denoiser_of_whole_ones(diffusers, model, made):
    folder = made(unet(diffusers).half(), variant="fp16")
    x, level = torch.randn(1, 3, 8, 8), torch.tensor(0.5)
    halved = load_prior(folder, "cpu").model(x, level)
    assert halved.dtype == torch.float32
    whole = load_prior(made(model), "cpu").model(x, level)
    assert 0 < (halved - whole).abs().max() < 0.02


def listing(folder):
    return folder / "unet" / f"{STEM}.safetensors.index.json"


def relisted(folder, name):
    file = listing(folder)
    index = json.loads(file.read_text())
    index["weight_map"]["conv_in.weight"] = name
    file.write_text(json.dumps(index))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: next((f / "unet").glob("*00002-of*")).unlink(), "is missing, and .* lists it"),
        (lambda f: listing(f).write_text("{}"), "is no list of shards"),
        (lambda f: listing(f).write_text('{"weight_map": 3}'), "is no list of shards"),
        (lambda f: relisted(f, "../../secret.safetensors"), "is not a file beside it"),
        (lambda f: relisted(f, "..\\secret.safetensors"), "is not a file beside it"),
        (lambda f: relisted(f, ".."), "is missing, and"),
        (
            lambda f: relisted(f, next((f / "unet").glob("*00002-of*")).name),
            "lacks 'conv_in.weight'",
        ),
    ],
)
def test_a_damaged_list_of_shards_is_named(model, made, damage, message):
    folder = made(model, max_shard_size="30KB")
    damage(folder)
    with pytest.raises(ValueError, match=message):
        open_checkpoint(folder)


OLD = ((".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), ("to_out.0", "proj_attn"))


def aged(name):
    for today, before in OLD:
        name = name.replace(today, before)
    return name


@pytest.mark.parametrize("end", ["safetensors", "bin"])
def test_names_from_before_diffusers_0_17_are_read(diffusers, model, made, end):
    folder = made(model) / "unet"
    tensors = {aged(n): t for n, t in load_file(folder / f"{STEM}.safetensors").items()}
    assert "mid_block.attentions.0.query.weight" in tensors
    if end == "bin":
        (folder / f"{STEM}.safetensors").unlink()
        torch.save(tensors, folder / f"{STEM}.bin")
    else:
        save_file(tensors, folder / f"{STEM}.safetensors")
    theirs = diffusers.UNet2DModel.from_pretrained(folder, low_cpu_mem_usage=False)
    assert same(open_checkpoint(folder), theirs) and same(open_checkpoint(folder), model)


def test_frequencies_that_are_there_under_two_names_are_one(diffusers, tmp_path):
    model = unet(diffusers, time_embedding_type="fourier")
    folder = pipeline(tmp_path, model, diffusers.ScoreSdeVeScheduler())
    file = folder / "unet" / f"{STEM}.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "time_proj.W": tensors["time_proj.weight"].clone()}, file)
    assert same(open_checkpoint(folder), model)


@torch.no_grad()
def test_images_that_are_no_squares_are_read(diffusers, made):
    model = unet(diffusers, sample_size=(8, 16))
    prior = load_prior(made(model), "cpu")
    assert prior.image_shape == (3, 8, 16)
    assert (
        scoreag.purify(prior, torch.rand(1, 3, 8, 16), steps=2, progress=False)
        .images.isfinite()
        .all()
    )


def test_the_part_of_a_pipeline_is_read_with_the_scheduler_beside_it(diffusers, model, tmp_path):
    scheduler = diffusers.DDPMScheduler(prediction_type="v_prediction")
    folder = pipeline(tmp_path, model, scheduler)
    found = open_checkpoint(folder / "unet")
    assert found.family == "v_prediction" and same(found, model)


def test_a_part_alone_lacks_its_scheduler(model, made):
    folder = made(model)
    (folder / "model_index.json").unlink()
    with pytest.raises(ValueError, match=r"scheduler_config\.json is missing"):
        open_checkpoint(folder / "unet")


@pytest.mark.parametrize("part", ["unet", "."])
def test_a_pipeline_that_draws_codes_is_told_by_its_list(model, made, part):
    folder = made(model)
    (folder / "model_index.json").write_text('{"vqvae": ["diffusers", "VQModel"]}')
    with pytest.raises(ValueError, match="draws codes of an autoencoder, its 'vqvae'"):
        open_checkpoint(folder / part)


def changed(folder, **entries):
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))
    return folder


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"class_embed_type": "timestep"}, "class_embed_type is 'timestep'"),
        ({"class_embed_type": "identity"}, "class_embed_type is 'identity'"),
        ({"in_channels": 6}, "in_channels is 6 and out_channels 3"),
        ({"out_channels": 1}, "in_channels is 3 and out_channels 1"),
        ({"out_channels": 9}, "in_channels is 3 and out_channels 9"),
        ({"sample_size": None}, r'add them, e.g. "sample_size": 32, or \[32, 64\]'),
        ({"sample_size": [8, 16, 16]}, "tells no sample_size"),
        ({"sample_size": 0}, "tells no sample_size"),
        ({"num_class_embeds": "ten"}, "num_class_embeds is ten"),
        ({"num_class_embeds": -1}, "num_class_embeds is -1"),
        ({"time_embedding_type": "learned"}, "time_embedding_type is 'learned'"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type is 'fourier'"),
        ({"a_later_way": 2}, "a setting 'a_later_way' of UNet2DModel"),
        ({"layers_per_block": 10**9}, "its layers_per_block claims more layers than its"),
        ({"block_out_channels": [8] * 999}, "its block_out_channels claims more layers"),
        ({"layers_per_block": "two"}, "cannot take images of"),
        ({"sample_size": 9}, r"cannot take images of \[3, 9, 9\]"),
        ({"down_block_types": ["Nonsense", "DownBlock2D"]}, "cannot take images of"),
        ({"block_out_channels": [8, 18]}, "cannot take images of"),
    ],
)
def test_a_network_that_no_task_could_use_is_refused_at_once(model, made, entries, message):
    with pytest.raises(ValueError, match=message) as refused:
        open_checkpoint(changed(made(model), **entries))
    assert len(str(refused.value).splitlines()) == 1


def test_what_training_writes_into_the_folder_of_an_average_changes_nothing(model, made):
    folder = changed(made(model), decay=0.9999, optimization_step=500, power=0.75)
    assert same(open_checkpoint(folder), model)


@torch.no_grad()
def test_a_network_that_predicts_a_variance_is_read_for_its_mean(diffusers, made):
    model = unet(diffusers, out_channels=6)
    x = torch.randn(2, 3, 8, 8)
    network = load_prior(made(model), "cpu").model.network
    seen = network(x, torch.tensor([5.0, 5.0]))
    assert torch.allclose(seen, model(x, 5).sample[:, :3], atol=1e-5)


def labelled(diffusers, made, labels):
    return made(unet(diffusers, num_class_embeds=labels))


CLASSIFIER = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10)).eval()
FAST = {"steps": 2, "attack_scale": 10.0, "progress": False}


@torch.no_grad()
def test_the_label_behind_ten_classes_is_the_null_label(diffusers, made):
    model = unet(diffusers, num_class_embeds=11)
    prior = load_prior(made(model), "cpu")
    x = torch.randn(2, 3, 8, 8)
    asked = prior.model.network(x, torch.tensor([5.0, 5.0]))
    theirs = model(x, 5, class_labels=torch.tensor([10, 10])).sample
    assert torch.allclose(asked, theirs, atol=1e-5)
    assert prior.classes == tuple("0123456789")


def test_every_task_takes_a_network_with_a_null_label(diffusers, made):
    prior, victim = (
        load_prior(labelled(diffusers, made, 11), "cpu"),
        scoreag.wrap_classifier(CLASSIFIER),
    )
    x, y = torch.rand(2, 3, 8, 8), [1, 2]
    assert scoreag.synthesize(prior, victim, y, **FAST).images.isfinite().all()
    assert scoreag.transform(prior, victim, x, y, **FAST).images.isfinite().all()
    assert scoreag.purify(prior, x, steps=2, progress=False).images.isfinite().all()


@pytest.mark.parametrize(
    "labels, names, told, classes, null",
    [
        (11, 0, None, 10, True),
        (1001, 0, None, 1000, True),
        (10, 0, None, 10, False),
        (1, 0, None, 1, False),
        (4, 0, None, 4, False),
        (4, 3, None, 3, True),
        (11, 11, None, 11, False),
        (11, 10, None, 10, True),
        (4, 0, True, 3, True),
        (11, 0, False, 11, False),
    ],
)
def test_a_null_label_is_seen_by_the_names_or_told(
    diffusers, made, labels, names, told, classes, null
):
    arguments = None if told is None else {"null_label": told}
    found = open_checkpoint(labelled(diffusers, made, labels), arguments, names)
    assert (found.classes, found.options.get("null_label", False)) == (classes, null)


def test_names_of_the_classes_alone_make_the_last_label_the_null_label(diffusers, made, tmp_path):
    found, card = convert_checkpoint(
        labelled(diffusers, made, 4), tmp_path / "card", ["a", "b", "c"]
    )
    assert card.classes == ("a", "b", "c") and found.options["null_label"]
    assert load_prior(tmp_path / "card", "cpu").classes == ("a", "b", "c")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"null_label": 1}, "null_label is 1; expected true or false"),
        ({"null_label": True, "x": 2}, "leave out --config, or its 'x'"),
    ],
)
def test_what_is_told_of_a_folder_is_checked(model, made, arguments, message):
    with pytest.raises(ValueError, match=message):
        open_checkpoint(made(model), arguments)


def test_a_network_without_labels_has_no_null_label(model, made):
    with pytest.raises(ValueError, match="0 labels, of which none can be a null label"):
        open_checkpoint(made(model), {"null_label": True})


@pytest.mark.parametrize(
    "labels, advice", [(12, '{"null_label": true}'), (11, '{"null_label": false}')]
)
def test_where_classes_differ_it_is_said_how_labels_are_counted(diffusers, made, labels, advice):
    prior = load_prior(labelled(diffusers, made, labels), "cpu")
    victim = scoreag.wrap_classifier(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 11)).eval()
    )
    with pytest.raises(ValueError) as refused:
        scoreag.transform(prior, victim, torch.rand(1, 3, 8, 8), [1], **FAST)
    assert advice in str(refused.value) and len(str(refused.value)) <= 500


def test_a_network_without_a_null_label_says_so_to_purify(diffusers, made):
    prior = load_prior(labelled(diffusers, made, 4), "cpu")
    with pytest.raises(ValueError, match=r'last of its 4 labels is a null.*"null_label": true'):
        scoreag.purify(prior, torch.rand(1, 3, 8, 8), steps=2, progress=False)
