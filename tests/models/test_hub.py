"""Models of the Hub, and uploads to it: against a server of this machine, never the network."""

import functools
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import made_diffusers
import tiny
from hub_server import Handler, Hub, Repo
from scoreag.assess.experiments import ModelCache
from scoreag.classifiers.loading import class_names, load_classifier
from scoreag.cli.app import main
from scoreag.models.hub import parse_hub_name
from scoreag.models.loading import load_prior
from scoreag.models.model_cards import load_card, update_card

constants = pytest.importorskip("huggingface_hub.constants")  # not in `make test-lowest`
yaml = pytest.importorskip("yaml")
pytestmark = pytest.mark.filterwarnings(  # of huggingface_hub's own uploads
    "ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning"
)
NET, PRIOR = "hf://me/net", "hf://me/prior"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty Hub on this machine, with an empty cache; no request goes anywhere else."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    ).start()
    for name, value in {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True, "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HF_HUB_DISABLE_TELEMETRY": True,
    }.items():  # fmt: skip
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield hub
    server.shutdown()
    server.server_close()


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their paths in it."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def publish(hub: Hub, name: str, folder: Path) -> str:
    """Put the files of a folder into a repository; the commit."""
    return hub.repos.setdefault(name, Repo()).commit(files_of(folder))


def pictures(count: int) -> torch.Tensor:
    return tiny.images(count).float() / 255


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_classifier_of_the_hub_answers_as_its_folder(hub: Hub, tmp_path: Path) -> None:
    folder = tiny.write_classifier(tmp_path / "net")
    commit = publish(hub, "me/net", folder)
    local, remote = load_classifier(folder, "cpu"), load_classifier(NET, "cpu")
    assert torch.equal(remote(pictures(3)), local(pictures(3)))
    assert remote.metadata == {**local.metadata, "hub": f"{NET}@{commit}"}
    assert class_names(NET) == tiny.CLASSES


def test_score_model_brings_the_judge_beside_it(hub: Hub, tmp_path: Path) -> None:
    folder = tiny.write_score_model(tmp_path / "prior", judge="eyes")
    tiny.write_classifier(folder / "eyes")
    commit = publish(hub, "me/prior", folder)
    prior = load_prior(PRIOR, "cpu")
    assert prior.metadata["hub"] == f"{PRIOR}@{commit}"
    assert torch.equal(
        load_classifier(prior.judge, "cpu")(pictures(2)),
        load_classifier(folder / "eyes", "cpu")(pictures(2)),
    )


def test_revision_stays_what_it_was_when_the_branch_moves(hub: Hub, tmp_path: Path) -> None:
    first = publish(hub, "me/net", tiny.write_classifier(tmp_path / "old", seed=1))
    second = publish(hub, "me/net", tiny.write_classifier(tmp_path / "new", seed=2))
    old, new = (load_classifier(tmp_path / name, "cpu")(pictures(1)) for name in ("old", "new"))
    assert first != second and not torch.equal(old, new)
    assert torch.equal(load_classifier(f"{NET}@{first}", "cpu")(pictures(1)), old)
    assert torch.equal(load_classifier(f"{NET}@main", "cpu")(pictures(1)), new)


def test_workers_of_an_assessment_load_the_commit_that_was_checked(
    hub: Hub, tmp_path: Path
) -> None:
    first = publish(hub, "me/net", tiny.write_classifier(tmp_path / "old", seed=1))
    cache = ModelCache(device="cpu")
    cache.classifier(NET)
    publish(hub, "me/net", tiny.write_classifier(tmp_path / "new", seed=2))
    worker = ModelCache(device="cpu", pins=cache.pins)
    assert worker.classifier(NET).metadata["hub"] == f"{NET}@{first}"


def test_folder_of_diffusers_is_read_as_a_local_one(hub: Hub, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    folder = tmp_path / "pipeline"
    made_diffusers.pipeline(folder, made_diffusers.unet(diffusers), diffusers.DDPMScheduler())
    (folder / "evil.py").write_text("raise SystemExit")
    commit = publish(hub, "me/ddpm", folder)
    local, remote = load_prior(folder, "cpu"), load_prior("hf://me/ddpm", "cpu")
    x, sigma = pictures(2), torch.tensor(1.0)
    assert torch.equal(remote.model(x, sigma, None), local.model(x, sigma, None))
    assert remote.metadata["hub"] == f"hf://me/ddpm@{commit}"
    assert not any("evil.py" in request for request in hub.requests)


def test_cache_serves_what_was_loaded_once(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = publish(hub, "me/net", tiny.write_classifier(tmp_path / "net"))
    load_classifier(NET, "cpu")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    assert load_classifier(NET, "cpu").metadata["hub"] == f"{NET}@{commit}"
    assert hub.requests == []


def test_a_known_commit_needs_no_request(hub: Hub, tmp_path: Path) -> None:
    folder = tiny.write_score_model(tmp_path / "prior", judge="fashion-judge")  # of the zoo
    commit = publish(hub, "me/prior", folder)
    load_prior(f"{PRIOR}@{commit}", "cpu")
    hub.requests.clear()
    load_prior(f"{PRIOR}@{commit}", "cpu")
    assert hub.requests == []


def test_file_that_changed_on_the_way_is_refused(hub: Hub, tmp_path: Path) -> None:
    publish(hub, "me/net", tiny.write_classifier(tmp_path / "net"))
    hub.corrupt = True
    with pytest.raises(ValueError, match=r"card.toml .*has the digest .*the Hub states .*delete"):
        load_classifier(NET, "cpu")


def test_file_that_changed_in_the_cache_is_refused(hub: Hub, tmp_path: Path) -> None:
    publish(hub, "me/net", tiny.write_classifier(tmp_path / "net"))
    file = load_card(NET).folder / "model.safetensors"
    blob = file.resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
    with pytest.raises(ValueError, match=r"model.safetensors of the Hub has the digest"):
        load_classifier(NET, "cpu")
    os.unlink(blob)
    load_classifier(NET, "cpu")  # the remedy of the message


def test_code_that_a_card_of_the_hub_names_is_not_run(hub: Hub, tmp_path: Path) -> None:
    folder = tiny.write_classifier(tmp_path / "net")
    text = (folder / "card.toml").read_text()
    (folder / "card.toml").write_text(text.replace('"small_cnn"', '"os:getcwd"'))
    publish(hub, "me/net", folder)
    with pytest.raises(ValueError, match=r"names code, 'os:getcwd'.*--trust-code"):
        load_classifier(NET, "cpu")


def test_card_of_the_cache_is_not_written(hub: Hub, tmp_path: Path) -> None:
    publish(hub, "me/net", tiny.write_classifier(tmp_path / "net"))
    with pytest.raises(ValueError, match=r"copy .* to a folder of your own"):
        update_card(load_card(NET), license="MIT")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hf://me/none", r"there is no hf://me/none at http://127.*hf auth login"),
        ("hf://me/secret", r"there is no hf://me/secret at .*or it is private"),
        ("hf://me/gated", r"hf://me/gated is gated: accept its terms at http.*/me/gated"),
        ("hf://me/net@v9", r"hf://me/net has no revision 'v9'"),
        ("hf://me/texts", r"is no model that is read: expected card.toml .*it has notes.txt"),
        ("hf://me/cut", r"lacks model.safetensors, which its card names"),
        ("hf://net", r"'hf://net' is no name of the Hub; write hf://OWNER/NAME"),
        ("hf://me/../net", "is no name of the Hub"),
    ],
)
def test_what_cannot_be_had_is_answered_with_one_line(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, reason: str
) -> None:
    folder = tiny.write_classifier(tmp_path / "net")
    publish(hub, "me/net", folder)
    publish(hub, "me/secret", folder)
    publish(hub, "me/gated", folder)
    hub.repos["me/secret"].private = hub.repos["me/gated"].gated = True
    hub.repos["me/texts"] = Repo()
    hub.repos["me/texts"].commit({"notes.txt": b"nothing"})
    hub.repos["me/cut"] = Repo()
    hub.repos["me/cut"].commit({"card.toml": (folder / "card.toml").read_bytes()})
    assert main(["show", name]) == 1
    assert re.search(reason, error_line(capsys))


def test_offline_without_the_file_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"HF_HUB_OFFLINE is set, and the cache has no card.toml"):
        load_classifier(NET, "cpu")


def test_endpoint_without_https_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example.org")
    with pytest.raises(ValueError, match=r"HF_ENDPOINT is http://hub.example.org; write"):
        load_classifier(NET, "cpu")


def test_missing_package_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"need the package huggingface_hub: pip install 'scoreag"):
        load_classifier(NET, "cpu")


def test_revision_is_part_of_a_name() -> None:
    found = parse_hub_name("hf://some-one/net_1.5@feature/x")
    assert (found.repo, found.revision) == ("some-one/net_1.5", "feature/x")


def push(*words: str) -> int:
    return main(["push", *words])


def test_pushed_model_is_the_model_that_is_loaded(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    folder = tiny.write_score_model(tmp_path / "prior", judge="eyes")
    tiny.write_classifier(folder / "eyes")
    assert push(str(folder), PRIOR, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pinned"] == f"{PRIOR}@{hub.repos['me/prior'].branches['main']}"
    stored = hub.repos["me/prior"].commits[found["pinned"].partition("@")[2]]
    local = files_of(folder)
    assert {name: stored[name] for name in local} == local
    assert found["files"] == {name: len(stored[name]) for name in [*local, "README.md"]}
    x, sigma = pictures(2), torch.tensor(1.0)
    label = torch.tensor([0, 1])
    remote, here = load_prior(found["pinned"], "cpu"), load_prior(folder, "cpu")
    assert torch.equal(remote.model(x, sigma, label), here.model(x, sigma, label))


def test_model_card_has_the_metadata_of_the_card(hub: Hub) -> None:
    from scoreag.models.publish import plan_upload

    readme = plan_upload(load_card("fashion-cnn"), NET).files["README.md"]
    assert isinstance(readme, bytes)
    _, text, body = readme.decode().split("---\n", 2)
    metadata = yaml.safe_load(text)
    result = metadata["model-index"][0]["results"][0]
    assert metadata["license"] == "mit" and metadata["library_name"] == "scoreag"
    assert metadata["datasets"] == ["zalando-datasets/fashion_mnist"]
    assert {"scoreag", "image-classification"} <= {*metadata["tags"]}
    assert result["metrics"][0] == {"type": "accuracy", "name": "test.accuracy", "value": 0.9201}
    assert 'scoreag.load_classifier("hf://me/net")' in body
    assert "| test.accuracy | 0.9201 | 0.9146 to 0.9253 | 10000 images of fashion-mnist:test |" in (
        body
    )


def test_dry_run_uploads_nothing(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert push("fashion-cnn", NET, "--dry-run") == 0
    assert "fashion-cnn.safetensors  160,140 bytes" in capsys.readouterr().out
    assert hub.requests == [] and hub.repos == {}


def test_private_and_branch_are_as_asked(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    folder = str(tiny.write_classifier(tmp_path / "net"))
    assert push(folder, f"{NET}@trial", "--private", "--quiet") == 0
    repo = hub.repos["me/net"]
    assert repo.private
    assert "card.toml" in repo.commits[repo.branches["trial"]]
    assert "card.toml" not in repo.commits[repo.branches["main"]]


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (None, "an upload needs a token"),
        ("hf_reads", "may not write to hf://me/net (403)"),
    ],
)
def test_upload_without_the_right_is_refused(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    token: str | None, reason: str,
) -> None:  # fmt: skip
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert push(str(tiny.write_classifier(tmp_path / "net")), NET) == 1
    assert reason in error_line(capsys)
    assert hub.repos == {}


def test_weights_of_another_digest_are_not_uploaded(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny.write_classifier(tmp_path / "net")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    assert push(str(folder), NET, "--dry-run") == 1
    assert "sha256" in error_line(capsys)
