"""Inversion as an analysis: what it finds, shows and keeps, and what it refuses."""

import copy
import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from tests.diagnose.networks import network, seen, world
from tests.diagnose.planted.inversion import QUICK, SMALL, blinded
from tests.diagnose.test_lpips import linear, trunk

from whytransfer import diagnose
from whytransfer.backbone import artifact
from whytransfer.backbone.features import Centre
from whytransfer.backbone.preprocessing import Preprocessing
from whytransfer.core import devices
from whytransfer.core.config import assumptions, to_plain
from whytransfer.core.errors import InputError, TrainingError
from whytransfer.core.records import Finding
from whytransfer.core.streams import Stream, seeded_torch
from whytransfer.diagnose import inversion_fits
from whytransfer.diagnose import stage as diagnose_stage
from whytransfer.diagnose.analyses import inversion
from whytransfer.diagnose.analyses.inversion import Config, answer, settled
from whytransfer.diagnose.inversion_fits import Recipe, _Seeing, chunks, moments
from whytransfer.diagnose.lpips import Lpips, LpipsFiles

FEW = QUICK.model_copy(
    update={"num_images": 2, "prior": SMALL.model_copy(update={"num_steps": 3}), "num_moments": 2}
)


def fitted(changes):
    """The quickest settings with another fit."""
    return FEW.model_copy(update={"prior": SMALL.model_copy(update=changes)})


SIGHTED_BLIND = (("sighted", lambda net: net), ("blind", blinded))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return world(tmp_path_factory.mktemp("world"), num_train=48, num_test=8)


@pytest.fixture(scope="module")
def finding(data, tmp_path_factory):
    """Two sighted networks, one of them with two levels' worth of pictures, and a blind one."""
    folder = tmp_path_factory.mktemp("finding")
    config = QUICK.model_copy(update={"levels": ("stem", "layer1"), "reference": "sighted"})
    runs = [seen("sighted", network()), seen("blind", blinded(network()))]
    return answer(runs, data, config, folder), folder


def recipe(config=FEW):
    steps = moments(config.prior.num_steps, config.num_moments)
    return Recipe(config.prior, steps, config.chunk_size, "32-true", config.seed)


def views(count=3):
    drawn = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return torch.from_numpy(drawn)


class TestTheFinding:
    def test_a_blind_network_loses_the_image_and_is_named(self, finding):
        found, _ = finding
        assert found.headline.name in ("psnr.stem[blind - sighted]", "psnr.layer1[blind - sighted]")
        assert found.headline.high < 0 and found.headline.unit == "dB"
        assert "blind has a lower PSNR" in found.answer
        assert "Fewer than three seeds of sighted, blind" in found.caveat

    def test_every_measure_has_a_number_for_every_arm_and_level(self, finding):
        found, _ = finding
        metrics = {m.name: m for m in (found.headline, *found.metrics)}
        assert len(metrics) == len(found.metrics) + 1
        for name in ("psnr", "ssim", "distance_sighted", "distance_blind", "loss"):
            for arm in ("sighted", "blind"):
                for level in ("stem", "layer1"):
                    metric = metrics[f"{name}.{level}[{arm}]"]
                    assert metric.low <= metric.value <= metric.high and metric.n == 4
        assert metrics["distance_blind.stem[sighted]"].value == 0  # it sees all alike
        assert metrics["loss.stem[blind]"].value == 0
        assert not any(name.startswith("loss") and " - " in name for name in metrics)
        assert Finding.model_validate_json(found.model_dump_json()) == found

    def test_curves_run_over_the_steps_and_levels_have_points(self, finding):
        found, _ = finding
        rows = found.figures["psnr_over_steps_stem"]
        assert set(rows[0]) == {"arm", "x", "value", "low", "high"}
        assert sorted({row["x"] for row in rows}) == [1, 4, 15]
        curve = [row["value"] for row in rows if row["arm"] == "sighted"]
        assert curve[-1] > curve[0]
        last = next(m for m in found.metrics if m.name == "psnr.stem[sighted]")
        assert curve[-1] == last.value
        assert {row["level"] for row in found.figures["psnr"]} == {"stem", "layer1"}

    def test_every_measure_has_a_curve(self, finding):
        figures = finding[0].figures
        for name in ("psnr", "ssim", "distance_sighted", "distance_blind", "loss"):
            for level in ("stem", "layer1"):
                rows = figures[f"{name}_over_steps_{level}"]
                assert [row["x"] for row in rows if row["arm"] == "blind"] == [1, 4, 15]
                last = next(m for m in finding[0].metrics if m.name == f"{name}.{level}[sighted]")
                assert [row["value"] for row in rows if row["arm"] == "sighted"][-1] == last.value

    def test_the_eyes_have_a_table_of_their_levels(self, finding):
        tables = {table.title: table for table in finding[0].tables}
        table = tables["Distance in the eyes of sighted, level by level"]
        levels = ("its stem", "its layer1", "its layer2", "its layer3", "its layer4")
        assert table.columns == ("arm", "level", *levels)
        parts = [row for row in table.rows if (row["arm"], row["level"]) == ("blind", "stem")]
        whole = next(m for m in finding[0].metrics if m.name == "distance_sighted.stem[blind]")
        assert sum(parts[0][name] for name in levels) == pytest.approx(whole.value)

    def test_pictures_stand_beside_their_original(self, finding, data):
        found, folder = finding
        assert found.pictures[0].tags == {"level": "stem", "image": "contact sheet"}
        assert len(found.pictures) == 2 * (1 + QUICK.num_pictures)
        for picture in found.pictures:
            pixels = cv2.imread(str(folder / picture.file))
            assert pixels.shape[:2] == (picture.height, picture.width)
        first = found.pictures[1]
        row = cv2.imread(str(folder / first.file))[26:, :, ::-1]
        source = data.open("test")
        samples = (source[index] for index in range(len(source)))
        original = next(one.image for one in samples if one.name == first.tags["image"])
        assert np.array_equal(row[0:96:3, 0:96:3], original)
        assert "original; sighted" in first.caption and " dB" in first.caption

    def test_one_arm_alone_has_a_number(self, data, tmp_path):
        found = answer([seen("only", network())], data, FEW, tmp_path)
        assert found.answer.startswith("Pictures found from only's stem have a PSNR of")
        assert found.headline.low <= found.headline.value <= found.headline.high

    @pytest.mark.parametrize("seeds", [1, 3])
    def test_one_image_has_no_interval_over_images(self, data, tmp_path, seeds):
        runs = [seen(arm, net(network(k)), k) for k in range(seeds) for arm, net in SIGHTED_BLIND]
        found = answer(runs, data, FEW.model_copy(update={"num_images": 1}), tmp_path)
        assert found.headline.value < -0.01
        over = {metric.interval for metric in (found.headline, *found.metrics)}
        assert not any("images" in one and not one.startswith("none") for one in over)
        assert "One image says nothing of others" in found.caveat
        rows = found.figures["psnr_over_steps_stem"]
        assert all(row["low"] is None and row["value"] is not None for row in rows)
        assert len(found.pictures) == 2
        if seeds == 1:
            assert found.answer.startswith("No difference shown to sighted")
            assert all(m.low is None and m.high is None for m in (found.headline, *found.metrics))
            tables = [table for table in found.tables if table.title.startswith("Differences")]
            assert {row["shown"] for table in tables for row in table.rows} == {"no"}

    def test_three_seeds_widen_the_interval_to_other_trainings(self, data, tmp_path):
        runs = [
            seen(arm, network(10 * k + seed), seed)
            for k, arm in enumerate("ab")
            for seed in range(3)
        ]
        config = FEW.model_copy(update={"trunks": ()})
        found = answer(runs, data, config, tmp_path)
        assert found.headline.interval == "seeds then images"
        assert "Fewer than three" not in found.caveat
        assert not any("distance" in m.name for m in found.metrics)


def taught(data):
    """A network whose second level was trained, for a moment, to give the image back."""
    source = data.open("train")
    net, at = network().train(), "layer2"
    images = net.preprocessing.normalise(
        torch.stack([torch.from_numpy(source[k].image) for k in range(len(source))])
    )
    level = net.level(at)
    with seeded_torch(Stream(0, "taught")):
        back = torch.nn.Conv2d(level.channels, 3 * level.stride**2, 1)
    optimiser = torch.optim.Adam([*net.parameters(), *back.parameters()], lr=0.003)
    for _ in range(40):
        found = torch.nn.functional.pixel_shuffle(back(net.features(images, at)), level.stride)
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(found, images).backward()
        optimiser.step()
    return net.eval()


def test_a_random_and_a_trained_network_are_told_apart(data, tmp_path):
    prior = SMALL.model_copy(update={"num_steps": 40, "learning_rate": 0.03})
    changes = {"num_images": 6, "levels": ("layer2",), "trunks": (), "num_moments": 1}
    config = QUICK.model_copy(update={**changes, "prior": prior})
    runs = [seen("random_init", network()), seen("taught", taught(data))]
    found = answer(runs, data, config, tmp_path)
    assert found.headline.name == "psnr.layer2[taught - random_init]"
    assert found.headline.low > 0


class TestTheChunks:
    def test_the_size_of_a_chunk_does_not_move_a_picture(self):
        runs = [seen("a", network(0)), seen("b", network(1))]
        one, many = (
            np.concatenate([
                chunk.pictures
                for chunk in chunks(runs, ("stem", "layer1"), views(), at)
            ])
            for at in (recipe(FEW.model_copy(update={"chunk_size": size})) for size in (1, 5))
        )  # fmt: skip
        assert one.shape == (12, 2, 32, 32, 3)
        assert np.abs(one.astype(int) - many.astype(int)).max() <= 1

    def test_an_image_begins_alike_under_every_network(self):
        config = fitted({"num_steps": 1, "learning_rate": 1e-12})
        runs = [seen("a", network(0)), seen("b", network(1))]
        found = np.concatenate(
            [c.pictures for c in chunks(runs, ("stem",), views(), recipe(config))]
        )
        assert np.array_equal(found[:3], found[3:])
        assert not np.array_equal(found[0], found[1])

    def test_moments(self):
        assert moments(3001, 8) == (1, 3, 10, 31, 97, 305, 956, 3001)
        assert moments(5, 1) == (5,)
        assert moments(1, 4) == (1,)

    @pytest.mark.parametrize("stop", [2, 5, 7])
    def test_a_kill_loses_no_chunk_and_moves_no_bit(self, tmp_path, monkeypatch, stop):
        """Killed between chunks, in the first and in a later one; its state kept at every step."""
        monkeypatch.setattr(inversion_fits, "KEEP_SECONDS", 0.0)
        runs = [seen("a", network())]
        whole = list(chunks(runs, ("stem",), views(7), recipe()))
        steps = counted(monkeypatch, stop)
        with pytest.raises(KeyboardInterrupt):
            list(chunks(runs, ("stem",), views(7), recipe(), tmp_path))
        taken = steps["taken"]
        steps["stop"] = None
        again = list(chunks(runs, ("stem",), views(7), recipe(), tmp_path))
        assert steps["taken"] == 9  # three chunks of three steps: none was taken twice
        assert taken == stop
        for first, second in zip(whole, again, strict=True):
            assert np.array_equal(first.pictures, second.pictures)
            assert np.array_equal(first.losses, second.losses)
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            f"chunk-0000{k}.npz" for k in range(3)
        ]

    def test_a_state_that_does_not_say_how_it_was_fitted_is_of_before(self, tmp_path, monkeypatch):
        monkeypatch.setattr(inversion_fits, "KEEP_SECONDS", 0.0)
        runs = [seen("a", network())]
        steps = counted(monkeypatch, 2)
        with pytest.raises(KeyboardInterrupt):
            list(chunks(runs, ("stem",), views(2), recipe(), tmp_path))
        (kept,) = tmp_path.glob("*.pt")
        state = torch.load(kept)
        del state["together"]
        torch.save(state, kept)
        steps["stop"] = None
        list(chunks(runs, ("stem",), views(2), recipe(), tmp_path))
        assert steps["taken"] == 3

    def test_a_chunk_of_another_kind_of_device_begins_anew(self, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(inversion_fits, "KEEP_SECONDS", 0.0)
        runs = [seen("a", network())]
        (whole,) = chunks(runs, ("stem",), views(2), recipe())
        steps = counted(monkeypatch, 2)
        with pytest.raises(KeyboardInterrupt):
            list(chunks(runs, ("stem",), views(2), recipe(), tmp_path))
        (kept,) = tmp_path.glob("*.pt")
        torch.save(torch.load(kept) | {"together": True}, kept)
        steps["stop"] = None
        (again,) = chunks(runs, ("stem",), views(2), recipe(), tmp_path)
        assert steps["taken"] == 2 + 3
        assert np.array_equal(whole.pictures, again.pictures)
        assert "begins anew" in caplog.text

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is usable here")
    def test_a_gpu_finds_the_pictures_of_a_cpu(self, monkeypatch):
        exact = dataclasses.replace(recipe(), precision="64-true")
        runs = [seen("a", network(0)), seen("b", network(1))]
        (on_gpu,) = chunks(runs, ("stem",), views(2), exact)
        monkeypatch.setattr(inversion_fits, "on_gpu", lambda: False)
        (on_cpu,) = chunks(runs, ("stem",), views(2), exact)
        assert np.abs(on_gpu.pictures.astype(int) - on_cpu.pictures).max() <= 1
        np.testing.assert_allclose(on_gpu.losses, on_cpu.losses, rtol=1e-6)

    def test_other_preprocessing_is_translated(self):
        """A network that wants BGR in [0, 255] sees what the same one sees of RGB in [0, 1]."""
        plain, other = network().double(), network().double()
        preprocessing = Preprocessing()
        other.preprocessing = Preprocessing(
            mean=tuple(255 * one for one in reversed(preprocessing.mean)),
            std=tuple(255 * one for one in reversed(preprocessing.std)),
            channel_order="bgr",
            pixel_max=255,
        )
        with torch.no_grad():
            other.net.conv1.weight.copy_(plain.net.conv1.weight.flip(1))
        normalised = preprocessing.normalise(views()).double()
        seen_by = [_Seeing(net, "layer1")(normalised) for net in (plain, other)]
        torch.testing.assert_close(*seen_by, rtol=1e-5, atol=1e-6)
        shown = other.preprocessing.normalise(views()).double()
        torch.testing.assert_close(
            other.features(shown, "layer1"), seen_by[1], rtol=1e-4, atol=1e-5
        )

    def test_a_loss_that_is_not_finite_is_an_error(self):
        config = fitted({"num_steps": 9, "learning_rate": 1e30})
        with pytest.raises(TrainingError, match=r"lower prior\.learning_rate"):
            list(chunks([seen("a", network())], ("stem",), views(), recipe(config)))

    def test_features_that_are_not_finite_name_the_network(self):
        broken = network()
        with torch.no_grad():
            broken.net.conv1.weight[0] = torch.nan
        with pytest.raises(InputError, match=r"a \(seed 0\): its features at stem"):
            list(chunks([seen("a", broken)], ("stem",), views(), recipe()))


def counted(monkeypatch, stop):
    """Counts the steps that are taken, and interrupts after so many."""
    steps = {"taken": 0, "stop": stop}
    real = inversion_fits._Chunk._keep

    def keep(self, step, pictures, losses):
        real(self, step, pictures, losses)
        steps["taken"] += 1
        if steps["taken"] == steps["stop"]:
            raise KeyboardInterrupt

    monkeypatch.setattr(inversion_fits._Chunk, "_keep", keep)
    return steps


class TestTheStage:
    def test_an_interrupted_run_goes_on_and_leaves_no_work(self, data, tmp_path, monkeypatch):
        monkeypatch.setattr(inversion_fits, "KEEP_SECONDS", 0.0)
        settings = json.loads(FEW.model_dump_json(exclude={"lpips"}))
        runs = {}
        for arm, seed in (("a", 0), ("b", 1)):
            (tmp_path / arm).mkdir()
            artifact.save(tmp_path / arm, network(seed), {})
            runs[arm] = tmp_path / arm / artifact.WEIGHTS
        steps = counted(monkeypatch, 4)
        with pytest.raises(KeyboardInterrupt):
            diagnose.run("inversion", runs, data, store=tmp_path / "store", **settings)
        steps["stop"] = None
        whole = diagnose.run("inversion", runs, data, store=tmp_path / "store", **settings)
        assert steps["taken"] == 6  # two chunks of three steps
        fresh = diagnose.run("inversion", runs, data, store=tmp_path / "other", **settings)
        assert diagnose_stage.read_finding(whole) == diagnose_stage.read_finding(fresh)
        assert whole.fingerprint == fresh.fingerprint
        assert not list((tmp_path / "store" / "work").iterdir())

    @pytest.mark.parametrize(("native", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
    def test_the_recipe_holds_what_auto_settled_on(self, monkeypatch, native, precision):
        monkeypatch.setattr(devices, "on_gpu", lambda device="auto": False)
        monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: native)
        config = diagnose_stage.resolve("inversion", {"precision": "auto"}, "test")
        assert config.precision == precision
        assert diagnose_stage.resolve("inversion", {}, "test").precision == "32-true"
        assert settled(config) == config

    def test_bfloat16_gives_much_the_same(self, data):
        runs = [seen("a", network())]
        exact, mixed = (
            next(iter(chunks(runs, ("stem",), views(), r)))
            for r in (recipe(QUICK), Recipe(SMALL, (1, 15), 3, "bf16-mixed", 0))
        )
        assert mixed.losses[:, -1] == pytest.approx(exact.losses[:, -1], rel=0.1)

    def test_what_the_paper_leaves_open_is_listed(self):
        names = {one.field for one in assumptions(Config())}
        assert names == {"num_images", "metric", "trunks"}
        prior = Config().prior
        assert (prior.num_steps, prior.learning_rate, prior.canvas_px) == (3001, 0.001, 256)
        assert Config().levels == ("layer4",) and Config().view == Centre(
            resize_px=256, crop_px=224
        )

    def test_weights_are_named_by_content(self, tmp_path):
        for name in ("linear", "trunk"):
            (tmp_path / name).write_text(name)
        config = Config(lpips=LpipsFiles(linear=tmp_path / "linear", trunk=tmp_path / "trunk"))
        assert str(tmp_path) not in json.dumps(to_plain(settled(config)))
        assert settled(config).lpips.linear_hash


class TestBadInput:
    def said(self, data, tmp_path, runs=None, **changes):
        runs = runs or [seen("a", network()), seen("b", network(1))]
        with pytest.raises(InputError) as caught:
            answer(runs, data, FEW.model_copy(update=changes), tmp_path)
        return str(caught.value)

    def test_no_data(self, tmp_path):
        assert "no data given" in self.said(None, tmp_path)

    def test_a_level_that_the_backbone_lacks(self, data, tmp_path):
        assert "no level 'layer5'" in self.said(data, tmp_path, levels=("layer5",))

    def test_an_image_smaller_than_the_stride(self, data, tmp_path):
        said = self.said(
            data, tmp_path, levels=("layer4",), view=Centre(resize_px=14, crop_px=14)
        )  # fmt: skip
        assert "14 px is smaller than the stride of layer4, 16 px" in said

    @pytest.fixture
    def unfitted(self, monkeypatch):
        """Fails where a picture is looked for."""

        def fit(*_):
            raise AssertionError("began to fit")

        monkeypatch.setattr(inversion, "chunks", fit)

    def test_an_image_too_small_for_a_trunk(self, data, tmp_path, unfitted):
        small = {"levels": ("stem",), "view": Centre(resize_px=14, crop_px=14)}
        said = self.said(data, tmp_path, **small)
        assert "14 px are too few for a as a trunk: the stride of its layer4 is 16 px" in said
        assert "leave it out with trunks" in said
        with pytest.raises(AssertionError, match="began to fit"):
            answer([seen("a", network())], data, FEW.model_copy(
                update={**small, "trunks": ()}), tmp_path)  # fmt: skip

    @pytest.mark.parametrize(
        ("net", "side", "least"), [("alex", 30, 31), ("vgg", 15, 16), ("squeeze", 16, 17)]
    )
    def test_an_image_too_small_for_lpips(
        self, data, tmp_path, unfitted, monkeypatch, net, side, least
    ):
        for name in ("linear", "trunk"):
            (tmp_path / name).write_text(name)
        files = LpipsFiles(net=net, linear=tmp_path / "linear", trunk=tmp_path / "trunk")
        weights = [weight.flatten() for weight in linear(net)]
        monkeypatch.setattr(inversion, "read_lpips", lambda _: Lpips(net, weights, trunk(net)))
        small = {"lpips": files, "trunks": (), "view": Centre(resize_px=side, crop_px=side)}
        said = self.said(data, tmp_path, **small)
        assert f"{side} px are too few for LPIPS's network; expected at least {least} px" in said
        assert "raise view.resize_px and view.crop_px, or leave lpips out" in said

    def test_an_arm_twice_a_reference_and_a_trunk_that_are_none(self, data, tmp_path):
        twice = [seen("a", network()), seen("a", network(1))]
        assert "a (seed 0) stands twice" in self.said(data, tmp_path, twice)
        assert "one of a, b" in self.said(data, tmp_path, reference="c")
        assert "field trunks: found 'c'; expected some of a, b" in self.said(
            data, tmp_path, trunks=("c",)
        )

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            (
                {"view": {"resize_px": 320, "crop_px": 300}},
                "view.crop_px 300 is more than prior.canvas_px 256",
            ),
            ({"view": {"crop_px": 8}}, "less than SSIM's window, 11"),
            ({"prior": {"canvas_px": 100}}, "multiple of their stride 64 px"),
            ({"levels": []}, "at least 1 item"),
        ],
    )
    def test_settings_that_do_not_fit(self, values, said):
        with pytest.raises(InputError, match=said):
            diagnose_stage.resolve("inversion", values, "test")

    def test_runs_are_left_as_they_were(self, data, tmp_path):
        net = network()
        before = copy.deepcopy(net.state_dict())
        run = inversion.BackboneRun("a", 0, "a", lambda: net)
        answer([run], data, FEW, tmp_path)
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
        assert all(parameter.requires_grad for parameter in net.parameters())
