"""The shipped studies of the paper's tables: both scales plan, on folders in the real layouts."""

import pytest

from whytransfer.core.store import Store
from whytransfer.data.augmentation import ladder
from whytransfer.data.make import configure, make
from whytransfer.study import plan, shipped, spec

TABLES = {"table1_augmentation": 11, "table2_data": 15, "table3_exemplar": 7}

FOLDERS = {
    "imagenet": ("things", {"num_train": 32, "num_test": 16, "size_px": 32}),
    "voc": ("crowds", {"num_train": 8, "num_test": 8, "size_px": 48}),
    "places": ("places", {"num_train": 15, "num_test": 15, "size_px": 32}),
    "celeba": ("faces", {"num_train": 4, "num_val": 1, "num_test": 2, "num_identities": 2}),
    "coco": ("crowds", {"num_train": 8, "num_test": 8, "size_px": 48, "layout": "coco"}),
    "synthia": ("streets", {"num_images": 4, "width_px": 64, "height_px": 48}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name, (maker, fields) in FOLDERS.items():
        make(maker, root / name, configure(maker, fields, name), seed=0)
    return root


def roots(folders, study):
    used = spec.read(study, ("scale=full",)).data
    lists = {
        "imagenet_10percent": f"train_list={folders}/imagenet/lists/train_10percent.txt",
        "imagenet_100": f"classes_file={folders}/imagenet/lists/classes_half.txt",
    }
    for name in used:
        yield f"data.{name}.root={folders / name.removesuffix('_10percent').removesuffix('_100')}"
        if name in lists:
            yield f"data.{name}.{lists[name]}"
    yield "data.voc.classes=infer"


@pytest.mark.parametrize("study", TABLES)
def test_the_full_scale_plans_on_real_layouts_with_the_reference_s_settings(
    study, folders, tmp_path
):
    found = spec.read(study, ("scale=full", *roots(folders, study)))
    assert len(found.arms) == TABLES[study]
    assert len(found.data) == (8 if study == "table2_data" else 2)
    nodes = {node.key: node for node in plan.make(found, Store(tmp_path)).nodes}
    moco = next(n for n in nodes.values() if n.step.name == "moco_v2" and "_f/" not in n.key)
    training = moco.step.config.training
    assert (training.epochs, training.batch_size, training.sgd.lr) == (200, 256, 0.03)
    assert moco.step.config.num_keys == 65536
    detection = nodes["transfer/voc07_detection/random_init/seed0"].step.config
    assert detection.training.steps == 9000


@pytest.mark.parametrize("study", TABLES)
def test_the_world_scale_plans_and_says_what_one_seed_proves(study, tmp_path):
    found = spec.read(study)
    assert found.scale == "world"
    assert "no conclusion" in found.seeds_caveat
    nodes = plan.make(found, Store(tmp_path)).nodes
    assert sum(node.step.stage == "pretrain" for node in nodes) >= TABLES[study]


def test_the_tables_share_the_arms_that_are_the_same(tmp_path):
    named = [
        ("table1_augmentation", "moco_v2_frcgb"),
        ("table2_data", "moco_v2_imagenet"),
        ("table3_exemplar", "moco_v2"),
    ]
    found = {
        plan.make(spec.read(study), Store(tmp_path))[f"pretrain/{arm}/seed0"].step.fingerprint
        for study, arm in named
    }
    assert len(found) == 1


def test_the_arms_of_table_1_stand_on_the_rungs_of_the_ladder(tmp_path):
    planned = plan.make(spec.read("table1_augmentation"), Store(tmp_path))
    for family in ("supervised", "moco_v2"):
        arms = {
            rung: planned[f"pretrain/{family}_{rung}/seed0"].step.config.augmentation
            for rung in ("f", "fr", "frc", "frcg", "frcgb")
        }
        assert arms == ladder(arms["frcgb"])


def test_a_made_dataset_read_by_a_list_is_another_dataset(tmp_path):
    planned = plan.make(spec.read("table2_data"), Store(tmp_path))
    whole, part = (
        planned[f"pretrain/moco_v2_{name}/seed0"] for name in ("imagenet", "imagenet_10percent")
    )
    assert whole.step.fingerprint != part.step.fingerprint
    assert part.reads == {"train_list": "lists/train_10percent.txt"}


def test_what_only_lies_under_other_studies_is_no_study():
    assert not any(name.startswith("_") for name in shipped.names())


@pytest.mark.parametrize("scale", ["world", "full"])
def test_the_findings_plan_their_further_runs_at_both_scales(scale, folders, tmp_path):
    options = (f"scale={scale}", *(roots(folders, "findings") if scale == "full" else ()))
    found = plan.make(spec.read("findings", options), Store(tmp_path))
    further = [node for node in found.of("transfer") if "variant" in node.labels]
    per_arm_and_seed = {"world": 2 * 4 + 3 * 5, "full": 3 * (2 * 16 + 3 * 3)}
    assert len(further) == per_arm_and_seed[scale]
    leaks = found["diagnose/leakage"]
    assert set(leaks.against) == {"against/supervised/0", "against/moco_v2/0"}
    assert all(node.labels["variant"] for node in further)
