"""Our detector and our VOC rules against detectron2's own code, where it is installed.

It is on no package index, so nothing here depends on it; to run these, put a checkout of detectron2
and of fvcore on the path (``pip install yacs iopath omegaconf hydra-core tabulate termcolor
cloudpickle portalocker``; nothing need be compiled). Both detectors get the same weights, pixels,
boxes and draws and compute in float64, which takes two patches: detectron2 casts to float32 here
and there.
"""

import xml.etree.ElementTree as ElementTree
from unittest import mock

import numpy as np
import pytest
import torch
from tests.ops.detection_scenes import random_scene

from whytransfer.backbone.build import Architecture, build
from whytransfer.core.streams import Stream, seeded_torch
from whytransfer.ops.average_precision import average_precision, voc_matches
from whytransfer.train.learner import Context
from whytransfer.transfer.parts.assignment import sample
from whytransfer.transfer.parts.c4 import C4Detector
from whytransfer.transfer.parts.scenes import Scene, collate
from whytransfer.transfer.stage import resolve

pytest.importorskip("detectron2", reason="detectron2 is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # what its code warns of is not ours to mend
    pytest.mark.timeout(900),  # two ResNet-50 in float64
]

LOSSES = {
    "loss_objectness": "loss_rpn_cls",
    "loss_proposal_boxes": "loss_rpn_loc",
    "loss_classes": "loss_cls",
    "loss_boxes": "loss_box_reg",
}
PARTS = {
    "extra_norm.": "roi_heads.res5.norm.",
    "proposals.conv.": "proposal_generator.rpn_head.conv.",
    "proposals.objectness.": "proposal_generator.rpn_head.objectness_logits.",
    "proposals.deltas.": "proposal_generator.rpn_head.anchor_deltas.",
    "predictor.classes.": "roi_heads.box_predictor.cls_score.",
    "predictor.deltas.": "roi_heads.box_predictor.bbox_pred.",
    "backbone.net.conv1.": "backbone.stem.conv1.",
    "backbone.net.bn1.": "backbone.stem.conv1.norm.",
    "backbone.net.layer4.": "roi_heads.res5.",
    "backbone.net.layer": "backbone.res",
}
REGIONS = 16


def their_name(name):
    for ours, theirs in PARTS.items():
        if name.startswith(ours):
            name = theirs + name.removeprefix(ours)
            break
    if name.startswith("backbone.res"):
        stage = int(name[len("backbone.res")]) + 1
        name = f"backbone.res{stage}" + name[len("backbone.res") + 1 :]
    for number in "123":
        name = name.replace(f".bn{number}.", f".conv{number}.norm.")
    return name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")


def ours(recipe):
    config = resolve("voc07_detection", {"recipe": recipe}, "test").detector
    regions = config.regions.model_copy(update={"sampled": REGIONS})
    with seeded_torch(Stream(0, "detector")):
        backbone = build(Architecture(name="resnet50"), Stream(1, "b"))
        model = C4Detector(backbone, 20, config.model_copy(update={"regions": regions}))
        for layer in (*model.proposals.children(), *model.predictor.children()):
            torch.nn.init.normal_(layer.weight, std=0.02)
            torch.nn.init.normal_(layer.bias, std=0.1)
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(norm.weight, 0.3, 0.8)
    return model.double()


def theirs(model, recipe):
    from detectron2.config import get_cfg
    from detectron2.layers import get_norm
    from detectron2.modeling import build_model

    settings = get_cfg()
    settings.MODEL.DEVICE, settings.MODEL.WEIGHTS = "cpu", ""
    settings.MODEL.PIXEL_MEAN = [123.675, 116.280, 103.530]
    settings.MODEL.PIXEL_STD = [58.395, 57.120, 57.375]
    settings.MODEL.RPN.PRE_NMS_TOPK_TEST, settings.MODEL.RPN.POST_NMS_TOPK_TEST = 6000, 1000
    settings.MODEL.RESNETS.STRIDE_IN_1X1 = False
    settings.MODEL.ROI_HEADS.NAME, settings.MODEL.ROI_HEADS.NUM_CLASSES = "Res5ROIHeads", 20
    settings.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = REGIONS
    if recipe != "detectron2":
        settings.MODEL.BACKBONE.FREEZE_AT, settings.MODEL.RESNETS.NORM = 0, "BN"
    reference = build_model(settings)
    if recipe != "detectron2":
        reference.roi_heads.res5.add_module("norm", get_norm("BN", 2048))
    counters = "num_batches_tracked"
    state = {
        their_name(name): value
        for name, value in model.state_dict().items()
        if recipe != "detectron2" or not name.endswith(counters)
    }
    reference.double().load_state_dict(state, strict=True)
    cells = reference.proposal_generator.anchor_generator.cell_anchors
    cells._buffers["0"] = model.proposals.cells.clone()
    return reference


def scenes():
    result = []
    for index, (height, width) in enumerate([(128, 150), (144, 130)]):
        stream = Stream(0, "scene", index)
        squares = stream.integers(9 * 10 * 3, 256).astype(np.uint8).reshape(9, 10, 3)
        image = squares.repeat(16, 0).repeat(16, 1)[:height, :width]
        low = stream.uniform(8, 0, 70).reshape(4, 2)
        boxes = np.concatenate([low, low + stream.uniform(8, 20, 55).reshape(4, 2)], axis=1)
        labels = torch.from_numpy(stream.integers(4, 20))
        original = (2 * height, 3 * width)
        image = torch.from_numpy(np.ascontiguousarray(image))
        result.append(Scene(image, torch.from_numpy(boxes), labels, index, original))
    return result


@pytest.fixture
def double():
    """detectron2 without its casts to float32."""
    from detectron2.structures import Boxes

    def boxes(self, tensor):
        self.tensor = torch.as_tensor(tensor).reshape(-1, 4).double()

    with (
        mock.patch.object(Boxes, "__init__", boxes),
        mock.patch.object(torch.Tensor, "float", lambda self: self.double()),
    ):
        yield


def inputs():
    from detectron2.structures import Boxes, Instances

    result = []
    for scene in scenes():
        objects = Instances(tuple(scene.image.shape[:2]))
        objects.gt_boxes, objects.gt_classes = Boxes(scene.boxes_xyxy), scene.labels
        height, width = scene.original
        pixels = scene.image.permute(2, 0, 1)
        result.append({"image": pixels, "instances": objects, "height": height, "width": width})
    return result


def drawing(context, kind):
    """detectron2's sampler, drawing from our streams, image after image."""
    images = iter(range(2))

    def draw(labels, count, fraction, background):
        role = torch.where(labels == background, 0, torch.where(labels == -1, -1, 1))
        stream = context.stream(kind, next(images))
        return tuple(map(torch.from_numpy, sample(role.numpy(), count, fraction, stream)))

    return draw


@pytest.mark.parametrize("recipe", ["paper", "detectron2"])
def test_a_step_and_its_gradients_are_detectron2s(recipe, double):
    from detectron2.modeling.proposal_generator import rpn
    from detectron2.modeling.roi_heads import roi_heads
    from detectron2.utils.events import EventStorage

    model = ours(recipe)
    reference = theirs(model, recipe)
    model.train()
    reference.train()
    context, batch = Context(0, 0, gather=lambda t: t), collate(scenes())
    # Normalised by theirs, in float64: ours does it in float32, as its training does.
    pixels = reference.preprocess_image(inputs()).tensor
    model._features = lambda _batch: model.backbone.features(pixels, upto="layer3")
    with (
        mock.patch.object(rpn, "subsample_labels", drawing(context, "anchors")),
        mock.patch.object(roi_heads, "subsample_labels", drawing(context, "regions")),
        EventStorage(0),
    ):
        expected = reference(inputs())
    found = model.loss(batch, context)
    for name, other in LOSSES.items():
        # Theirs comes through float32: the targets of its cross entropy are.
        assert found[name].item() == pytest.approx(expected[other].item(), rel=1e-6), name
    found["loss"].backward()
    sum(expected.values()).backward()
    gradients = {name: p.grad for name, p in reference.named_parameters()}
    moved = 0
    for name, parameter in model.named_parameters():
        other = gradients.get(their_name(name))
        assert (parameter.grad is None) == (other is None), name
        if other is not None:
            apart = (parameter.grad - other).norm() / other.norm()
            assert apart < 1e-6, name
            moved += 1
    assert moved > 50
    state = reference.state_dict()
    for name, value in model.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(value, state[their_name(name)], rtol=1e-9, atol=1e-12)


def test_detections_are_detectron2s(double):
    model = ours("paper").eval()
    reference = theirs(model, "paper").eval()
    for scene, one in zip(scenes(), inputs(), strict=True):
        (found,) = model.detect(collate([scene]))
        with torch.no_grad():
            expected = reference([one])[0]["instances"]
        assert len(found.scores) == len(expected) > 20
        assert torch.equal(found.labels, expected.pred_classes)
        torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(
            found.boxes_xyxy, expected.pred_boxes.tensor, rtol=1e-5, atol=1e-3
        )


def write_devkit(root, truth):
    """The files that detectron2's evaluator reads."""
    (root / "xml").mkdir()
    for number, image in enumerate(truth.images):
        node = ElementTree.Element("annotation")
        for row in np.flatnonzero(truth.image == number):
            item = ElementTree.SubElement(node, "object")
            flags = {"pose": "x", "truncated": 0, "difficult": int(truth.difficult[row])}
            for tag, value in {"name": truth.classes[truth.label[row]], **flags}.items():
                ElementTree.SubElement(item, tag).text = str(value)
            left, top, right, bottom = (int(side) for side in truth.boxes_xyxy[row])
            box = ElementTree.SubElement(item, "bndbox")
            corners = {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom}
            for tag, value in corners.items():
                ElementTree.SubElement(box, tag).text = str(value)
        ElementTree.ElementTree(node).write(root / f"xml/{image}.xml")
    (root / "set.txt").write_text("\n".join(truth.images) + "\n")


def write_results(root, found, truth, label):
    """One class's detections as detectron2 writes them, in the order of image, then row."""
    rows = np.flatnonzero(found.label == label)
    lines = []
    for row in rows[np.argsort(found.image[rows], kind="stable")]:
        left, top, right, bottom = found.boxes_xyxy[row].tolist()
        lines.append(
            f"{truth.images[found.image[row]]} {found.score[row]:.3f} "
            f"{left + 1:.1f} {top + 1:.1f} {right:.1f} {bottom:.1f}"
        )
    (root / f"{truth.classes[label]}.txt").write_text("\n".join(lines))
    return len(lines)


@pytest.mark.parametrize("metric", ["voc07", "voc12"])
def test_voc_ap_is_detectron2s(metric, tmp_path):
    """Its sort is made stable, so that ties, which its text makes, can be compared, too."""
    from detectron2.evaluation import pascal_voc_evaluation as reference

    class Stable:
        def __getattr__(self, name):
            return getattr(np, name)

        def argsort(self, values):
            return np.argsort(values, kind="stable")

    compared = 0
    for seed in range(20):
        found, truth = random_scene(seed, decimals=2 + seed % 3, crowds=False, num_images=5)
        truth.boxes_xyxy[:] = np.round(truth.boxes_xyxy)
        found.boxes_xyxy[:] += np.random.default_rng(seed).uniform(-1, 1, (len(found), 4))
        root = tmp_path / str(seed)
        root.mkdir()
        write_devkit(root, truth)
        reference.parse_rec.cache_clear()
        own = average_precision(voc_matches(found, truth), metric=metric)
        for label, name in enumerate(truth.classes):
            if not write_results(root, found, truth, label) or np.isnan(own[label, 0]):
                continue
            files = (str(root / "{}.txt"), str(root / "xml/{}.xml"), str(root / "set.txt"))
            with mock.patch.object(reference, "np", Stable()):
                expected = [
                    reference.voc_eval(*files, name, at / 100, use_07_metric=metric == "voc07")[2]
                    for at in range(50, 100, 5)
                ]
            np.testing.assert_allclose(own[label], expected, rtol=0, atol=1e-12)
            compared += 1
    assert compared > 30
