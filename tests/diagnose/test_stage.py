"""The diagnose stage on networks: what a run may be, what is missing, and what is kept."""

import json

import pytest
import torch
from tests.diagnose.networks import network, nudged, world

from whytransfer import diagnose
from whytransfer.backbone import artifact
from whytransfer.core.config import Config
from whytransfer.core.errors import InputError
from whytransfer.core.stage import Step, materialise
from whytransfer.core.store import Store, open_artifact
from whytransfer.diagnose.stage import read_finding, step_for

INVARIANCE = {"levels": ["layer1"], "num_draws": 100}
DRIFT = {"levels": ["layer1"], "num_groups": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return world(tmp_path_factory.mktemp("world"))


def kept(store, stage, plugin, net, inputs, seed=0, folder=artifact.FOLDER):
    """An artifact of that stage with a network in it."""

    def compute(root, _work):
        inside = root / folder if stage == "transfer" else root
        inside.mkdir(exist_ok=True)
        artifact.save(inside, net, {})
        return ()

    step = Step(stage=stage, plugin=plugin, config=Config(), inputs=inputs, seed=seed)
    return materialise(store, step, compute)


@pytest.fixture
def pair(tmp_path):
    """A store with a pretrained network and what a transfer made of it."""
    store = Store(tmp_path / "runs")
    before = kept(store, "pretrain", "random_init", network(), {})
    inputs = {"backbone": before.fingerprint, "data": "d" * 64}
    after = kept(store, "transfer", "voc07_detection", nudged(network()), inputs)
    return store, before, after


def test_a_run_may_be_an_artifact_its_folder_or_anybodys_checkpoint(data, pair, tmp_path):
    store, before, after = pair
    file = tmp_path / "theirs.pth"
    torch.save(network(1).net.state_dict(), file)
    runs = {"artifact": before, "folder": after.path, "theirs": file}
    found = diagnose.run("invariance", runs, data, store=store.root, **INVARIANCE)
    finding = read_finding(found)
    arms = {row["arm"] for row in finding.figures["category_share"]}
    assert arms == {"artifact", "folder", "theirs"}
    assert set(found.record.inputs) == {
        "artifact/seed0", "folder/seed0", "theirs/seed0", "data",
    }  # fmt: skip
    assert found.record["category_share.layer1[theirs]"].value is not None


def test_a_question_is_answered_once(data, pair, monkeypatch):
    store, before, after = pair
    runs = {"a": before, "b": after}
    first = diagnose.run("invariance", runs, data, store=store.root, **INVARIANCE)

    def never(*_):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr("whytransfer.diagnose.analyses.invariance.answer", never)
        again = diagnose.run("invariance", runs, data, store=store.root, **INVARIANCE)
        assert again.path == first.path
        with pytest.raises(AssertionError, match="computed again"):
            diagnose.run("invariance", runs, data, store=store.root, **INVARIANCE, seed=1)


def test_the_images_that_are_looked_at_name_the_answer():
    config = Config()
    names = {
        step_for(analysis, config, {"a/seed0": "r"}, images).fingerprint
        for analysis in ("invariance", "drift", "localisation_content")
        for images in ("one", "other")
    }
    assert len(names) == 6
    of_detections = {
        step_for("detection_errors", config, {"a/seed0": "r"}, images).fingerprint
        for images in ("one", "other")
    }
    assert len(of_detections) == 1


def test_a_fine_tuned_network_is_compared_with_the_one_it_began_as(data, pair):
    store, _, after = pair
    found = diagnose.run("drift", {"a": after}, data, store=store.root, **DRIFT)
    value = found.record["weight_distance.layer1[a]"].value
    assert 0 < value < 0.1


def test_a_store_without_the_beginning_is_named(data, pair, tmp_path):
    _, _, after = pair
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(InputError, match=r"elsewhere lacks the backbone it began with; .*--st"):
        diagnose.run("drift", {"a": after}, data, store=elsewhere, **DRIFT)


def test_a_transfer_that_kept_no_network_is_refused(data, pair):
    store, before, _ = pair
    inputs = {"backbone": before.fingerprint}
    frozen = kept(store, "transfer", "linear_readout", network(), inputs, folder="elsewhere")
    with pytest.raises(InputError, match=r"holds no backbone\.json"):
        diagnose.run("drift", {"a": frozen}, data, store=store.root, **DRIFT)


def test_a_pretrained_network_is_no_fine_tuned_run(data, pair):
    store, before, _ = pair
    with pytest.raises(
        InputError, match=r"began with no backbone \(pretrain\); expected a transfer"
    ):
        diagnose.run("drift", {"a": before}, data, store=store.root, **DRIFT)


def test_a_checkpoint_file_is_no_fine_tuned_run(data, tmp_path):
    file = tmp_path / "theirs.pth"
    torch.save(network().net.state_dict(), file)
    with pytest.raises(
        InputError, match=r"theirs\.pth: is no artifact of a store; expected a tran"
    ):
        diagnose.run("drift", {"a": file}, data, store=tmp_path / "runs", **DRIFT)


@pytest.mark.parametrize("analysis", ["invariance", "localisation_content", "drift"])
def test_without_data_or_runs_or_with_one_twice_nothing_is_answered(analysis, data, pair):
    store, before, _ = pair
    with pytest.raises(InputError, match="no data given; expected the images to look at; name"):
        diagnose.run(analysis, {"a": before}, store=store.root)
    with pytest.raises(InputError, match="no runs given"):
        diagnose.run(analysis, {}, data, store=store.root)
    with pytest.raises(InputError, match=r"a/seed0 stands twice"):
        diagnose.run(analysis, {"a": [before, before]}, data, store=store.root)
    with pytest.raises(InputError, match="levles"):
        diagnose.run(analysis, {"a": before}, data, store=store.root, levles=["stem"])


def test_an_altered_network_is_refused_and_leaves_nothing(data, pair):
    store, before, _ = pair
    weights = before.path / artifact.WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="altered"):
        diagnose.run("invariance", {"a": before}, data, store=store.root, **INVARIANCE)
    assert not list((store.root / "diagnose").glob("invariance-*"))


def test_the_finding_is_read_back_as_it_was(data, pair):
    store, before, _ = pair
    found = diagnose.run("invariance", {"a": before}, data, store=store.root, **INVARIANCE)
    again = read_finding(open_artifact(found.path))
    assert again.headline == found.record.metrics[0]
    assert json.loads((found.path / "finding.json").read_text())["question"] == again.question
