"""Every part of the detector against a slow oracle in 64-bit floats, and against torchvision's."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import detector as oracle
from torchvision.models.detection import _utils as reference
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou, roi_align

from whytransfer.core.streams import Stream
from whytransfer.transfer.parts.anchors import cell_anchors, grid_anchors
from whytransfer.transfer.parts.assignment import assign, sample
from whytransfer.transfer.parts.box_coding import decode, encode
from whytransfer.transfer.parts.proposals import ProposalConfig, ProposalNetwork
from whytransfer.transfer.parts.regions import BoxPredictor, RegionConfig, Regions, sample_regions

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def random_boxes(seed, count, extent=100.0, dtype=torch.float64):
    draws = Stream(seed, "boxes").uniform(count * 4).reshape(count, 4)
    low = draws[:, :2] * extent * 0.7
    high = low + 1 + draws[:, 2:] * extent * 0.3
    return torch.tensor(np.concatenate([low, high], axis=1), dtype=dtype)


boxes = st.tuples(*[st.floats(0, 90)] * 2, *[st.floats(1, 60)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


def test_anchors_are_the_oracles_and_not_rounded():
    sizes, ratios = (32, 64, 128, 256, 512), (0.5, 1, 2)
    found = grid_anchors(cell_anchors(sizes, ratios), 3, 4, 16)
    expected = torch.tensor(oracle.anchors(sizes, ratios, 3, 4, 16), dtype=torch.float64)
    assert found.shape == (3 * 4 * 15, 4)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)
    assert found[0].tolist() == pytest.approx([-22.627417, -11.313708, 22.627417, 11.313708])


def test_torchvisions_anchors_are_these_rounded_in_another_order():
    generator = AnchorGenerator(((32, 64),), ((0.5, 1.0, 2.0),))
    ours = sorted(cell_anchors((32, 64), (0.5, 1.0, 2.0)).round().tolist())
    assert sorted(generator.cell_anchors[0].tolist()) == ours


@settings(max_examples=40, deadline=None)
@given(box=boxes, anchor=boxes)
def test_box_code_is_the_oracles_and_goes_back(box, anchor):
    b, a = torch.tensor([box], dtype=torch.float64), torch.tensor([anchor], dtype=torch.float64)
    deltas = encode(b, a, WEIGHTS)
    assert deltas[0].tolist() == pytest.approx(oracle.encode(box, anchor, WEIGHTS), abs=1e-9)
    back = decode(deltas, a, WEIGHTS)[0].tolist()
    assert back == pytest.approx(box, abs=1e-9)


def test_box_code_is_torchvisions():
    truth, anchors = random_boxes(1, 50), random_boxes(2, 50)
    coder = reference.BoxCoder(WEIGHTS)
    torch.testing.assert_close(encode(truth, anchors, WEIGHTS), coder.encode_single(truth, anchors))
    deltas = encode(truth, anchors, WEIGHTS) * 3
    torch.testing.assert_close(
        decode(deltas, anchors, WEIGHTS), coder.decode_single(deltas, anchors)
    )


def test_decoding_clamps_the_log_of_the_size():
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]], dtype=torch.float64)
    wild = torch.tensor([[0.0, 0.0, 50.0, -50.0]], dtype=torch.float64)
    found = decode(wild, anchor, (1.0, 1.0, 1.0, 1.0))[0].tolist()
    assert found == pytest.approx(oracle.decode((0, 0, 50, -50), (0, 0, 16, 16), (1, 1, 1, 1)))
    assert found[2] - found[0] == pytest.approx(1000.0)


@settings(max_examples=30, deadline=None)
@given(
    truth=st.lists(boxes, max_size=4), candidates=st.lists(boxes, min_size=1, max_size=12),
    rescue=st.booleans(),
)  # fmt: skip
def test_assignment_is_the_oracles(truth, candidates, rescue):
    found = assign(
        torch.tensor(truth, dtype=torch.float64).reshape(-1, 4),
        torch.tensor(candidates, dtype=torch.float64),
        negative_below=0.3, positive_from=0.7, rescue=rescue,
    )  # fmt: skip
    expected = oracle.assign(truth, candidates, 0.3, 0.7, rescue)
    assert found.role.tolist() == [role for _, role in expected]
    assert found.truth.tolist() == [best for best, _ in expected]


def test_assignment_is_torchvisions_matcher():
    truth, candidates = random_boxes(3, 6), random_boxes(4, 300)
    found = assign(truth, candidates, negative_below=0.3, positive_from=0.7, rescue=True)
    matcher = reference.Matcher(0.7, 0.3, allow_low_quality_matches=True)
    theirs = matcher(box_iou(truth, candidates))
    assert ((theirs >= 0) == (found.role == 1)).all()
    assert ((theirs == -1) == (found.role == 0)).all()
    assert (theirs[theirs >= 0] == found.truth[theirs >= 0]).all()
    assert {-2, -1} < set(theirs.tolist())


def test_an_object_without_a_good_anchor_rescues_its_best_one():
    candidates = torch.tensor([[0.0, 0, 10, 10], [50, 50, 90, 90]])
    truth = torch.tensor([[0.0, 0, 10, 5], [60, 60, 70, 70]])
    kept = assign(truth, candidates, negative_below=0.3, positive_from=0.7, rescue=False)
    rescued = assign(truth, candidates, negative_below=0.3, positive_from=0.7, rescue=True)
    assert kept.role.tolist() == [-1, 0]
    assert rescued.role.tolist() == [1, 1]
    assert rescued.truth.tolist() == [0, 1]


@settings(max_examples=40, deadline=None)
@given(
    num_positive=st.integers(0, 40), num_negative=st.integers(0, 40), num_ignored=st.integers(0, 9),
    count=st.integers(1, 32), fraction=st.sampled_from([0.25, 0.5]),
)  # fmt: skip
def test_sampling_counts(num_positive, num_negative, num_ignored, count, fraction):
    role = np.array([1] * num_positive + [0] * num_negative + [-1] * num_ignored, dtype=np.int64)
    role = role[Stream(5, "mix").permutation(len(role))]
    positives, negatives = sample(role, count, fraction, Stream(0, "sampling"))
    assert len(positives) == min(num_positive, int(count * fraction))
    assert len(negatives) == min(num_negative, count - len(positives))
    assert (role[positives] == 1).all()
    assert (role[negatives] == 0).all()
    assert len(set(positives) | set(negatives)) == len(positives) + len(negatives)


def test_sampling_is_uniform_and_named():
    role = np.array([1, 1, 1, 1, 0, 0], dtype=np.int64)
    drawn = [sample(role, 4, 0.5, Stream(0, "s", step))[0] for step in range(400)]
    share = np.bincount(np.concatenate(drawn), minlength=4)[:4] / 400
    assert np.abs(share - 0.5).max() < 0.1
    again = sample(role, 4, 0.5, Stream(0, "s", 7))[0]
    assert again.tolist() == drawn[7].tolist()


def network(**settings_):
    torch.manual_seed(0)
    config = ProposalConfig(sizes_px=(16.0, 32.0), **settings_)
    return ProposalNetwork(8, 8, config)


def test_proposals_are_the_oracles():
    rpn = network(candidates_test=40, proposals_test=12, candidates_train=9, proposals_train=3)
    features = torch.randn(2, 8, 4, 5)
    anchors = rpn.anchors(features)
    logits = torch.randn(2, len(anchors)).double()
    logits[0, 3:6] = logits[0].max()  # a tie: the first anchor comes first
    deltas = torch.randn(2, len(anchors), 4).double() * 0.3
    sizes = ((32, 40), (28, 33))
    for training, limits in ((False, (40, 12)), (True, (9, 3))):
        rpn.train(training)
        found = rpn.propose(logits, deltas, anchors.double(), sizes)
        for n in range(2):
            expected = oracle.propose(
                logits[n].tolist(), deltas[n].tolist(), anchors.double().tolist(), sizes[n],
                *limits, 0.7,
            )  # fmt: skip
            assert len(found[n]) == len(expected) > 0
            torch.testing.assert_close(found[n], torch.tensor(expected, dtype=torch.float64))


def test_output_order_of_the_head_is_that_of_the_anchors():
    rpn = network()
    features = torch.randn(1, 8, 3, 4)
    logits, deltas = rpn(features)
    hidden = torch.relu(rpn.conv(features))
    per_cell = len(rpn.cells)
    row, column, k = 2, 1, 4
    index = (row * 4 + column) * per_cell + k
    assert logits[0, index] == rpn.objectness(hidden)[0, k, row, column]
    expected = rpn.deltas(hidden)[0, 4 * k : 4 * k + 4, row, column]
    torch.testing.assert_close(deltas[0, index], expected)


def test_initial_weights_of_the_proposal_head():
    rpn = ProposalNetwork(64, 16, ProposalConfig())
    assert rpn.objectness.out_channels == 15
    assert rpn.deltas.out_channels == 60
    assert rpn.conv.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert all(not layer.bias.any() for layer in (rpn.conv, rpn.objectness, rpn.deltas))


def test_proposal_losses_are_the_oracles_with_the_fixed_divisor():
    rpn = network(sampled=16)
    features = torch.randn(2, 8, 6, 6)
    anchors = rpn.anchors(features)
    truth = [torch.tensor([[4.0, 4, 22, 20], [20, 10, 44, 44]]), torch.zeros(0, 4)]
    logits, deltas = torch.randn(2, len(anchors)), torch.randn(2, len(anchors), 4)
    streams = [Stream(0, "anchors", n) for n in range(2)]
    found = rpn.losses(logits, deltas, anchors, truth, streams)

    picked, targets, off = [], [], 0.0
    for n in range(2):
        pairs = oracle.assign(truth[n].tolist(), anchors.tolist(), 0.3, 0.7, True)
        role = np.array([r for _, r in pairs])
        positives, negatives = sample(role, 16, 0.5, Stream(0, "anchors", n))
        assert len(positives) + len(negatives) == 16
        picked += [logits[n, i].item() for i in (*positives, *negatives)]
        targets += [1] * len(positives) + [0] * len(negatives)
        codes = [
            oracle.encode(truth[n][pairs[i][0]].tolist(), anchors[i].tolist(), (1, 1, 1, 1))
            for i in positives
        ]
        off += oracle.l1(deltas[n, positives].tolist(), codes)
    assert sum(targets) >= 2
    assert found["loss_objectness"].item() == pytest.approx(
        oracle.objectness_loss(picked, targets, 16 * 2), rel=1e-5
    )
    assert found["loss_proposal_boxes"].item() == pytest.approx(off / (16 * 2), rel=1e-5)


def test_regions_hold_the_objects_own_boxes_and_the_right_labels():
    truth = torch.tensor([[10.0, 10, 40, 40], [50, 50, 90, 80]])
    labels = torch.tensor([2, 0])
    proposals = random_boxes(6, 60, dtype=torch.float32)
    config = RegionConfig(sampled=16)
    found = sample_regions(proposals, truth, labels, 3, config, Stream(0, "regions"))
    assert len(found.boxes_xyxy) == len(found.labels) == len(found.truth_xyxy) == 16
    foreground = found.labels < 3
    assert 2 <= int(foreground.sum()) <= 4
    for box, label, target in zip(found.boxes_xyxy, found.labels, found.truth_xyxy, strict=True):
        best = max(oracle.overlap(t.tolist(), box.tolist()) for t in truth)
        assert (label.item() < 3) == (best >= 0.5)
        if label < 3:
            row = truth.tolist().index(target.tolist())
            assert labels[row] == label
    alone = sample_regions(truth, truth, labels, 3, config, Stream(0, "regions"))
    assert sorted(alone.labels.tolist()) == [0, 0, 2, 2]


def test_region_losses_are_the_oracles():
    torch.manual_seed(0)
    config = RegionConfig()
    predictor = BoxPredictor(5, 3, config)
    truth = torch.tensor([[10.0, 10, 40, 40], [50, 50, 90, 80]])
    regions = [
        Regions(torch.tensor([[12.0, 8, 44, 38], [0, 0, 9, 9]]), torch.tensor([2, 3]), truth),
        Regions(torch.tensor([[52.0, 50, 90, 84]]), torch.tensor([0]), truth[1:]),
    ]
    logits, deltas = torch.randn(3, 4), torch.randn(3, 3, 4)
    found = predictor.losses(logits, deltas, regions)
    codes = [
        oracle.encode(truth[0].tolist(), regions[0].boxes_xyxy[0].tolist(), WEIGHTS),
        oracle.encode(truth[1].tolist(), regions[1].boxes_xyxy[0].tolist(), WEIGHTS),
    ]
    off = oracle.l1([deltas[0, 2].tolist(), deltas[2, 0].tolist()], codes)
    assert found["loss_boxes"].item() == pytest.approx(off / 3, rel=1e-5)
    assert found["loss_classes"].item() == pytest.approx(
        oracle.cross_entropy(logits.tolist(), [2, 3, 0]), rel=1e-5
    )


def test_regions_of_background_alone_cost_no_box_loss():
    predictor = BoxPredictor(5, 3, RegionConfig())
    box = torch.tensor([[0.0, 0, 9, 9]])
    deltas = torch.randn(1, 3, 4, requires_grad=True)
    losses = predictor.losses(torch.zeros(1, 4), deltas, [Regions(box, torch.tensor([3]), box)])
    assert losses["loss_boxes"].item() == 0
    assert losses["loss_classes"].item() == pytest.approx(math.log(4))


def test_detections_are_the_oracles():
    predictor = BoxPredictor(5, 3, RegionConfig(max_detections=9))
    torch.manual_seed(1)
    regions = random_boxes(8, 30)
    logits, deltas = torch.randn(30, 4).double() * 1.5, torch.randn(30, 3, 4).double()
    found = predictor.detections(logits, deltas, regions, (80, 90))
    expected = oracle.detections(
        logits.tolist(), deltas.tolist(), regions.tolist(), (80, 90), WEIGHTS, 0.05, 0.5, 9
    )
    assert found.labels.tolist() == [label for _, label, _ in expected]
    assert found.scores.tolist() == pytest.approx([score for score, _, _ in expected])
    assert len(expected) == 9
    torch.testing.assert_close(
        found.boxes_xyxy, torch.tensor([box for _, _, box in expected], dtype=torch.float64)
    )


def test_the_score_threshold_is_strict():
    predictor = BoxPredictor(5, 1, RegionConfig(score_threshold=0.5))
    region = torch.tensor([[0.0, 0, 9, 9]])
    even = predictor.detections(torch.zeros(1, 2), torch.zeros(1, 1, 4), region, (9, 9))
    assert len(even.scores) == 0


def test_predictor_starts_small_with_background_last():
    predictor = BoxPredictor(256, 20, RegionConfig())
    assert predictor.classes.out_features == 21
    assert predictor.classes.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert predictor.deltas.weight.std().item() == pytest.approx(0.001, rel=0.1)


def test_pooling_is_aligned_and_adaptive():
    feature = torch.randn(1, 1, 6, 7, dtype=torch.float64)
    box = [5.0, 3.0, 47.0, 44.0]
    found = roi_align(
        feature, [torch.tensor([box]).double()], 3, spatial_scale=1 / 8, sampling_ratio=0,
        aligned=True,
    )  # fmt: skip
    expected = oracle.roi_align(feature[0, 0].tolist(), box, 3, 1 / 8)
    assert found.flatten().tolist() == pytest.approx(expected)
