"""Further runs that an analysis asks for: planned once, resumed, kept out of the task's table."""

import copy
from functools import partial

import pytest
import torch
from tests.study import planning
from tests.study.test_arms import DETECTION, NETWORK, READOUT

from whytransfer import report
from whytransfer.backbone import artifact
from whytransfer.core.errors import InputError, InputErrors
from whytransfer.diagnose.stage import read_finding
from whytransfer.study import cost, plan, results, rows
from whytransfer.study.executors import Here
from whytransfer.study.run import run, status

CUTS = {"cuts": ["layer2"], "keep": ["up_to"], "num_draws": 100}
STUDY = {
    "name": "variants",
    "description": "What is further run.",
    "seeds": [3],
    "reference": "random_init",
    "num_draws": 100,
    "data": {
        "things": {"make": "things", "config": {"num_train": 32, "num_test": 16}},
        "crowds": {"make": "crowds", "config": {"num_train": 8, "num_test": 8}},
    },
    "pretrain": {
        "data": "things",
        "config": {
            "architecture": NETWORK, "bn_group_size": 4, "augmentation": {"crop_px": 32},
            "training": {
                "epochs": None, "steps": 2, "batch_size": 8,
                "schedule": {"kind": "cosine", "milestones": []},
            },
        },
    },
    "arms": {"random_init": {"method": "random_init"}, "labels": {"method": "supervised"}},
    "tasks": {
        "detection": {
            "task": "voc07_detection", "data": "crowds", "headline": "AP", "config": DETECTION,
        },
    },
    "analyses": {
        "levels": {"analysis": "stage_transplant", "task": "detection", "config": CUTS},
    },
}  # fmt: skip
KEYS = ["up_to_layer2_standard", "up_to_layer2_matched"]


planned = partial(planning.planned, STUDY)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    torch.set_num_threads(1)
    found, store = planned(tmp_path_factory.mktemp("variants"))
    assert run(found, store, num_slots=1, make_executor=Here) == {}
    return found, store


def test_every_variant_is_a_backbone_and_a_transfer_of_every_arm_but_the_reference(tmp_path):
    found, _ = planned(tmp_path, lambda v: v.update(seeds=[3, 4]))
    further = [n.key for n in found.nodes if n.key.startswith(("variant/", "transplant/"))]
    assert further == [
        f"{kind}/levels/{name}/labels/seed{seed}"
        for name in KEYS for seed in (3, 4) for kind in ("transplant", "variant")
    ]  # fmt: skip
    node = found["variant/levels/up_to_layer2_matched/labels/seed4"]
    own = found["transfer/detection/labels/seed4"]
    assert node.step.config == own.step.config and node.step.seed == own.step.seed == 4
    assert node.needs == {
        "backbone": "transplant/levels/up_to_layer2_matched/labels/seed4", "data": "data/crowds",
    }  # fmt: skip
    cut = found[node.needs["backbone"]]
    assert cut.needs == {"backbone": "pretrain/labels/seed4"} and cut.step.seed == 4
    assert cut.step.config.rest == "matched" and cut.step.config.level == "layer2"
    asked = found["diagnose/levels"]
    assert {role for role in asked.needs if role != "data"} == {
        *(f"{arm}/seed{seed}" for arm in ("random_init", "labels") for seed in (3, 4)),
        *(f"labels/seed{seed}:{name}" for seed in (3, 4) for name in KEYS),
    }


def test_what_another_node_is_already_is_not_run_twice(tmp_path):
    def change(values):
        levels = values["analyses"]["levels"]
        values["analyses"]["again"] = copy.deepcopy(levels)
        values["analyses"]["again"]["config"]["rest"] = ["matched"]
        values["tasks"]["other"] = copy.deepcopy(values["tasks"]["detection"])
        values["tasks"]["other"]["config"]["training"]["steps"] = 3
        values["analyses"]["third"] = {**copy.deepcopy(levels), "task": "other"}

    found, _ = planned(tmp_path, change)
    assert [n.key for n in found.nodes if "/again/" in n.key] == []
    name = "up_to_layer2_matched"
    role = f"labels/seed3:{name}"
    assert found["diagnose/again"].needs[role] == f"variant/levels/{name}/labels/seed3"
    # Of another task the backbones are the same ones, the transfers are not.
    third = [n.key for n in found.nodes if "/third/" in n.key]
    assert third == [f"variant/third/{name}/labels/seed3" for name in KEYS]
    cut = found[f"variant/third/{name}/labels/seed3"].needs["backbone"]
    assert cut == f"transplant/levels/{name}/labels/seed3"


def test_lengths_are_complete_schedules_and_length_one_is_the_run_itself(tmp_path):
    def change(values):
        training = {
            "steps": 20, "batch_size": 2, "schedule": {"milestones": [10, 15], "warmup_steps": 5},
        }  # fmt: skip
        values["tasks"]["detection"]["config"]["training"] = training
        values["analyses"] = {
            "lengths": {
                "analysis": "convergence", "task": "detection",
                "config": {"lengths": [0.5, 1, 2], "num_draws": 100},
            },
        }  # fmt: skip

    found, store = planned(tmp_path, change)
    further = [n for n in found.nodes if n.key.startswith("variant/")]
    assert [n.key for n in further] == [
        f"variant/lengths/length_{length}/{arm}/seed3"
        for length in ("0.5", "2") for arm in ("random_init", "labels")
    ]  # fmt: skip
    for node in further:
        training, factor = node.step.config.training, float(node.key.split("/")[2][7:])
        assert training.steps == 20 * factor and training.epochs is None
        assert training.schedule.milestones == (10 * factor, 15 * factor)
        assert training.schedule.warmup_steps == round(5 * factor)
        assert node.needs["backbone"] == f"pretrain/{node.labels['arm']}/seed3"
        own = found[node.labels["of"]].step.config
        rest = {"training": own.training}
        assert node.step.config.model_copy(update=rest) == own
    # Never timed, it costs by its length what is expected of the run itself.
    plain = found.spec.model_copy(update={"expected_seconds": {"transfer/detection": 10.0}})
    lines = {line.key: line for line in cost.outline(plan.Plan(plain, found.nodes), store)}
    assert lines[further[0].key].seconds == 5.0 and lines[further[-1].key].seconds == 20.0


def test_epochs_are_stretched_and_what_does_not_train_is_refused(tmp_path):
    def readout(values):
        values["tasks"] = {
            "readout": {
                "task": "linear_readout", "data": "things", "headline": "top1",
                "config": copy.deepcopy(READOUT),
            },
        }  # fmt: skip
        values["analyses"] = {
            "lengths": {
                "analysis": "convergence", "task": "readout", "config": {"lengths": [1, 3]},
            },
        }  # fmt: skip

    found, _ = planned(tmp_path, readout)
    training = found["variant/lengths/length_3/labels/seed3"].step.config.training
    assert training.epochs == 3 and training.steps is None
    assert training.schedule.milestones == (3.0,)

    def untrained(values):
        readout(values)
        values["tasks"]["readout"] = {"task": "knn_readout", "data": "things", "headline": "top1"}

    with pytest.raises(InputError, match="knn_readout has no training that could be longer"):
        planned(tmp_path, untrained)


def test_with_a_grid_a_variant_has_the_settings_chosen_for_its_arm(tmp_path):
    def change(values):
        task = values["tasks"]["detection"]
        task.update(grid={"training.sgd.lr": [0.01, 0.02]}, validation=0.5)

    found, _ = planned(tmp_path, change)
    node = found["variant/levels/up_to_layer2_standard/labels/seed3"]
    assert node.needs["selection"] == "select/detection/labels/seed3"
    own = found["transfer/detection/labels/seed3"].step
    assert node.step.inputs["selection"] == own.inputs["selection"]

    def lengths(values):
        change(values)
        values["tasks"]["detection"]["grid"] = {"training.steps": [2, 4]}
        values["analyses"]["levels"].update(analysis="convergence", config={})

    with pytest.raises(InputError, match=r"the grid of the task decides training\.steps"):
        planned(tmp_path, lengths)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"reference": "random_int"}, "no arm is called 'random_int'.*mean 'random_init'"),
        ({"cuts": ["layer5"]}, "no cut after 'layer5'"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is(tmp_path, config, message):
    def change(values):
        values["analyses"]["levels"]["config"] = config

    with pytest.raises((InputError, InputErrors), match=message):
        planned(tmp_path, change)


def test_the_study_answers_and_has_nothing_left_to_do(study):
    found, store = study
    finding = read_finding(found["diagnose/levels"].step.find(store))
    assert finding.analysis == "stage_transplant" and finding.headline.n == 8
    assert len(finding.tables[0].rows) == 2
    # The differences are those of the records' own scores.
    whole, *cut = (
        found[key].step.find(store).record["AP"].value
        for key in (
            "transfer/detection/labels/seed3",
            *(f"variant/levels/{name}/labels/seed3" for name in KEYS),
        )
    )
    losses = [row["difference"] for row in finding.tables[0].rows]
    assert losses == pytest.approx([ap - whole for ap in cut], abs=1e-9)
    assert not found.missing(store)
    again, _ = planned(store.root.parent)
    assert not again.missing(store)
    whole = artifact.load(found["pretrain/labels/seed3"].step.find(store).path).net.state_dict()
    fresh = artifact.load(found["pretrain/random_init/seed3"].step.find(store).path)
    node = found["transplant/levels/up_to_layer2_standard/labels/seed3"]
    cut = artifact.load(node.step.find(store).path).net.state_dict()
    for name, value in cut.items():
        kept = name.startswith(("conv1", "bn1", "layer1", "layer2"))
        assert torch.equal(value, whole[name] if kept else fresh.net.state_dict()[name]), name


def test_interrupted_it_goes_on_to_the_same_result(study, tmp_path, monkeypatch):
    found, store = planned(tmp_path)
    planning.interrupt(monkeypatch, 5, 9)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(found, store, num_slots=1, make_executor=Here)
    assert run(found, store, num_slots=1, make_executor=Here) == {}
    assert {s.state for s in status(found, store)} == {"done"}
    assert rows.flat(store) == rows.flat(study[1])


def test_variants_stay_out_of_the_tasks_own_table(study, tmp_path):
    found, store = study
    result = results.collect(found, store, {})
    (task,) = result.tasks
    assert [(r.arm, r.seed) for r in task.runs] == [("random_init", 3), ("labels", 3)]
    assert len(task.comparisons) == 1
    assert [c.arm for c in result.curves if c.stage == "transfer"] == ["random_init", "labels"]
    assert not [c for c in result.curves if c.stage == "supervise"]
    (finding,) = result.findings
    assert finding.name == "levels" and finding.task == "detection"
    page = report.write(result, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Which levels of the backbone make the transfer?" in page


def test_alone_the_analysis_names_the_runs_that_it_lacks(study):
    from whytransfer import diagnose

    found, store = study
    runs = {
        arm: found[f"transfer/detection/{arm}/seed3"].step.find(store)
        for arm in ("labels", "random_init")
    }
    settings = {**CUTS, "rest": ["standard"]}
    with pytest.raises(InputError, match=r"labels/seed3 up_to_layer2_standard; .* into a study"):
        diagnose.run("stage_transplant", runs, store=store.root, **settings)
    cut = found["variant/levels/up_to_layer2_standard/labels/seed3"].step.find(store)
    given = {**runs, "labels:up_to_layer2_standard": cut}
    artifact_found = diagnose.run("stage_transplant", given, store=store.root, **settings)
    assert len(read_finding(artifact_found).tables[0].rows) == 1
