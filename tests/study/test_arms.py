"""Arms that are what a task made of a backbone: supervision by boxes and by masks, end to end."""

from functools import partial

import pytest
import torch
from tests.study import planning
from tests.transfer import painted

from whytransfer import pretrain, report, transfer
from whytransfer.backbone import artifact
from whytransfer.core.errors import InputError
from whytransfer.study import cost, results, rows
from whytransfer.study.executors import Here
from whytransfer.study.run import run

NETWORK = {"name": "resnet10", "width": 8, "stem_pool": False}
DETECTION = {
    "views": {"short_sides_px": [64], "test_short_side_px": 64},
    "detector": {
        "proposals": {
            "sizes_px": [16, 32], "sampled": 16, "candidates_train": 50, "candidates_test": 50,
            "proposals_train": 10, "proposals_test": 10,
        },
        "regions": {"sampled": 4, "pooled": 4},
    },
    "precise_bn_steps": 1,
    "test_batch_size": 4,
    "num_draws": 20,
    "training": {"steps": 2, "batch_size": 2, "schedule": {"milestones": [1]}},
}  # fmt: skip
SEGMENTATION = {
    "segmenter": {"channels": 8, "auxiliary_channels": 8, "rates": [1, 2]},
    "views": {"crop_px": [32, 48]},
    "test_batch_size": 4,
    "num_draws": 20,
    "training": {"steps": 2, "batch_size": 4},
}
READOUT = {
    "augmentation": {"crop_px": 32}, "resize_px": 36, "crop_px": 32,
    "training": {"epochs": 1, "batch_size": 8, "schedule": {"milestones": [1]}},
}  # fmt: skip
STUDY = {
    "name": "supervision",
    "description": "Boxes and masks against nothing.",
    "seeds": [3],
    "reference": "random_init",
    "num_draws": 100,
    "data": {
        "things": {"make": "things", "config": {"num_train": 16, "num_test": 16}},
        "crowds": {"make": "crowds", "config": {"num_train": 8, "num_test": 8}},
        "masks": {"format": "tests.transfer.painted", "root": "masks"},
    },
    "pretrain": {"data": "things", "config": {"architecture": NETWORK}},
    "arms": {
        "boxes": {"transfer": {"task": "voc07_detection", "data": "crowds", "config": DETECTION}},
        "masks": {
            "transfer": {"task": "semantic_segmentation", "data": "masks", "config": SEGMENTATION}
        },
        "random_init": {"method": "random_init"},
    },
    "tasks": {
        "readout": {
            "task": "linear_readout", "data": "things", "headline": "top1", "config": READOUT,
        },
        "segmentation": {
            "task": "semantic_segmentation", "data": "masks", "headline": "mIoU",
            "config": SEGMENTATION,
        },
    },
}  # fmt: skip


planned = partial(planning.planned, STUDY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("arms")
    painted.write(root / "masks", {"train": 6, "test": 4})
    return root


@pytest.fixture(scope="module")
def study(folder):
    torch.set_num_threads(1)
    found, store = planned(folder)
    assert run(found, store, num_slots=1, make_executor=Here) == {}
    return found, store


def test_the_graph_goes_from_start_over_transfer_to_backbone(folder):
    found, _ = planned(folder)
    # random_init is an arm already, so nothing is initialised twice.
    assert [(n.key, dict(n.needs)) for n in found.nodes if "readout" not in n.key][2:7] == [
        ("pretrain/random_init/seed3", {"data": "data/things"}),
        ("supervise/boxes/seed3",
         {"backbone": "pretrain/random_init/seed3", "data": "data/crowds"}),
        ("pretrain/boxes/seed3", {"transfer": "supervise/boxes/seed3"}),
        ("supervise/masks/seed3", {"backbone": "pretrain/random_init/seed3"}),
        ("pretrain/masks/seed3", {"transfer": "supervise/masks/seed3"}),
    ]  # fmt: skip
    assert found["transfer/readout/boxes/seed3"].needs["backbone"] == "pretrain/boxes/seed3"
    # The masks arm was trained as the segmentation task trains random_init: computed once.
    same = found["transfer/segmentation/random_init/seed3"].step.fingerprint
    assert found["supervise/masks/seed3"].step.fingerprint == same
    assert len({n.step.fingerprint for n in found.nodes}) == len(found.nodes) - 1


def test_a_transfer_may_start_from_any_method(folder):
    def change(values):
        del values["arms"]["masks"]
        start = {"batch_size": 8, "epochs": 1, "schedule": {"kind": "cosine", "milestones": []}}
        values["arms"]["boxes"]["transfer"]["method"] = "supervised"
        values["arms"]["boxes"]["config"] = {"training": start, "bn_group_size": 4}

    found, _ = planned(folder, change)
    begun = found["start/boxes/seed3"]
    assert begun.step.plugin == "supervised" and begun.needs == {"data": "data/things"}
    assert begun.step.config.training.batch_size == 8
    assert begun.step.config.architecture.width == 8
    assert found["supervise/boxes/seed3"].needs["backbone"] == "start/boxes/seed3"


def test_the_limit_and_the_task_settings_reach_the_transfer(folder):
    plain, _ = planned(folder)
    for change in (
        lambda v: v.update(limit=4),
        lambda v: v["arms"]["boxes"]["transfer"]["config"]["training"].update(steps=3),
    ):
        other, _ = planned(folder, change)
        key = "pretrain/boxes/seed3"
        assert other[key].step.fingerprint != plain[key].step.fingerprint
    limited, _ = planned(folder, lambda v: v.update(limit=4))
    assert limited["supervise/boxes/seed3"].step.config.limit == 4


def test_what_does_not_fine_tune_makes_no_arm(folder):
    def change(values):
        entry = {"task": "linear_readout", "data": "things", "config": READOUT}
        values["arms"]["boxes"] = {"transfer": entry}

    with pytest.raises(InputError, match=r"arms\.boxes\.transfer\.task: linear_readout does not"):
        planned(folder, change)


@pytest.mark.parametrize("method", ["from_transfer", "checkpoint"])
def test_what_takes_a_trained_network_is_no_method_of_an_arm(folder, method):
    with pytest.raises(InputError, match=f"pretrain {method}: takes a network that is trained"):
        planned(folder, lambda v: v["arms"].update(x={"method": method}))


def test_the_arm_is_the_backbone_as_trained(study):
    found, store = study
    start = artifact.load(found["pretrain/random_init/seed3"].step.find(store).path)
    for arm in ("boxes", "masks"):
        taken = found[f"pretrain/{arm}/seed3"].step.find(store)
        trained = found[f"supervise/{arm}/seed3"].step.find(store)
        own = artifact.load(taken.path)
        tuned, before = artifact.load(trained.path / artifact.FOLDER), start.net.state_dict()
        for name, value in own.net.state_dict().items():
            assert torch.equal(value, tuned.net.state_dict()[name]), name
        moved = [n for n, v in own.net.state_dict().items() if not torch.equal(v, before[n])]
        assert {"conv1.weight", "bn1.weight", "bn1.running_mean", "bn1.running_var"} <= {*moved}
        assert own.architecture == start.architecture and own.levels == start.levels
        record = taken.record
        assert record.plugin == "from_transfer" and record.seed == 3
        assert record.inputs == {"transfer": trained.fingerprint}
        given = artifact.describe(taken.path).provenance
        assert given["method"] == "from_transfer" and given["transfer"] == trained.fingerprint


def test_report_rows_results_and_cost_know_such_arms(study, tmp_path):
    found, store = study
    result = results.collect(found, store, {})
    assert result.arms == ("boxes", "masks", "random_init")
    assert result.arm_descriptions["boxes"].startswith("What voc07_detection made of random_init.")
    for task in result.tasks:
        assert [run.arm for run in task.runs] == ["boxes", "masks", "random_init"]
    readout, segmentation = result.tasks
    assert len(readout.comparisons) == 3 and len(segmentation.comparisons) == 3
    assert segmentation.headline == "mIoU"
    curves = {(c.stage, c.task, c.arm) for c in result.curves if c.stage != "transfer"}
    assert curves == {
        ("supervise", "voc07_detection", "boxes"),
        ("supervise", "semantic_segmentation", "masks"),
    }
    page = report.write(result, tmp_path / "report.html").read_text(encoding="utf-8")
    for text in ("boxes", "masks", "mIoU", "IoU[disc]", "supervise · voc07_detection · loss"):
        assert text in page, text
    flat = rows.flat(store)
    assert {"semantic_segmentation", "voc07_detection"} <= {row["plugin"] for row in flat}
    lines = cost.outline(found, store)
    assert all(line.cached for line in lines) and "0 of" in cost.total(lines, 2)


def test_any_finished_transfer_hands_its_backbone_back(study):
    found, store = study
    trained = found["supervise/boxes/seed3"].step.find(store)
    # From Python and the command line it is the artifact that the study made: nothing is new.
    taken = pretrain.open_backbone(trained.path, store=store.root)
    assert taken.path == found["pretrain/boxes/seed3"].step.find(store).path
    assert pretrain.open_backbone(taken.path, store=store.root).path == taken.path
    again = found["transfer/segmentation/random_init/seed3"].step.find(store)
    other = pretrain.open_backbone(again.path, store=store.root)
    assert other.record.inputs == {"transfer": again.fingerprint}


def test_the_command_line_takes_a_transfer_as_backbone(study):
    from typer.testing import CliRunner

    from whytransfer.cli import app

    found, store = study
    trained = found["supervise/masks/seed3"].step.find(store)
    things_folder = store.path("data", "things", found["data/things"].step.fingerprint) / "files"
    settings = [
        "augmentation.crop_px=32", "resize_px=36", "crop_px=32", "training.epochs=1",
        "training.batch_size=8", "training.schedule.milestones=[1]", "num_draws=20",
    ]  # fmt: skip
    done = CliRunner().invoke(
        app,
        ["transfer", "linear_readout", *settings, "--backbone", str(trained.path),
         "--data", f"imagefolder:{things_folder}", "--store", str(store.root)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "top1" in done.output


def test_a_transfer_may_stand_as_the_checkpoint_of_a_study(study, folder):
    found, store = study
    trained = found["supervise/boxes/seed3"].step.find(store)

    def change(values):
        values["arms"] = {
            "random_init": {"method": "random_init"},
            "theirs": {"checkpoint": str(trained.path)},
        }
        values["tasks"] = {"readout": values["tasks"]["readout"]}

    again, _ = planned(folder, change, store)
    missing = [n.key for n in again.missing(store)]
    assert missing == ["pretrain/theirs/seed3", "transfer/readout/theirs/seed3"]
    assert run(again, store, num_slots=1, make_executor=Here) == {}
    own = artifact.load(again["pretrain/theirs/seed3"].step.find(store).path).net.state_dict()
    tuned = artifact.load(trained.path / artifact.FOLDER).net.state_dict()
    assert all(torch.equal(own[name], tuned[name]) for name in tuned)


def test_what_has_no_backbone_to_give_is_refused(study):
    found, store = study
    readout = found["transfer/readout/boxes/seed3"].step.find(store)
    with pytest.raises(InputError, match="linear_readout does not fine-tune, so it has no backb"):
        pretrain.open_backbone(readout.path, store=store.root)
    data = found["data/things"].step.find(store)
    with pytest.raises(InputError, match="holds the result of data"):
        pretrain.open_backbone(data.path, store=store.root)
    trained = found["supervise/boxes/seed3"].step.find(store)
    with pytest.raises(InputError, match=r"holds the result of transfer.*open_backbone"):
        transfer.run("linear_readout", trained, data.path / "files", store=store.root)
