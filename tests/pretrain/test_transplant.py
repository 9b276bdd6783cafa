"""Transplanted backbones: tensor by tensor, and equal up to the stage that is kept."""

import pytest
import torch
from pydantic import ValidationError

from whytransfer.backbone import artifact
from whytransfer.backbone.architecture import Architecture
from whytransfer.backbone.build import build
from whytransfer.core.errors import InputError
from whytransfer.core.stage import Execution
from whytransfer.core.store import Store
from whytransfer.core.streams import Stream
from whytransfer.pretrain import stage
from whytransfer.pretrain.method import Setting
from whytransfer.pretrain.methods.transplant import Config, Method

SMALL = Architecture(name="resnet10", width=8, stem_pool=False)
LEVELS = ("stem", "layer1", "layer2", "layer3", "layer4")
SEED = 3
KINDS = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def trained():
    """A backbone in which nothing is as it was initialised."""
    backbone = build(SMALL, Stream(9, "trained"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in backbone.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.3 + 0.2 * torch.rand(tensor.shape, generator=generator))
            else:
                tensor.fill_(7)
    return backbone.eval()


def transplanted(seed=SEED, **fields):
    return Method(Config(**fields), trained(), Setting(seed=seed)).backbone.eval()


def level_of(name):
    first = name.removeprefix("net.").partition(".")[0]
    return "stem" if first in ("conv1", "bn1") else first


def others(keep, level):
    place = LEVELS.index(level)
    return LEVELS[place + 1 :] if keep == "up_to" else LEVELS[:place]


@pytest.mark.parametrize("keep", ["up_to", "from"])
@pytest.mark.parametrize("level", LEVELS)
def test_every_tensor_is_pretrained_or_that_of_random_init(keep, level):
    found, old = transplanted(keep=keep, level=level).state_dict(), trained().state_dict()
    random = build(SMALL, Setting(seed=SEED).stream("backbone")).state_dict()
    assert found.keys() == old.keys()
    for name, value in found.items():
        expected = random if level_of(name) in others(keep, level) else old
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("keep", ["up_to", "from"])
@pytest.mark.parametrize("level", ["stem", "layer2", "layer4"])
def test_matched_weights_have_the_moments_and_batch_norm_starts_anew(keep, level):
    found = transplanted(keep=keep, level=level, rest="matched").state_dict()
    old = trained().state_dict()
    random = build(SMALL, Setting(seed=SEED).stream("backbone")).state_dict()
    drawn = 0
    for name, value in found.items():
        if level_of(name) not in others(keep, level):
            assert torch.equal(value, old[name]), name
        elif value.dim() == 4:
            drawn += 1
            own, count = old[name], value.numel()
            assert not torch.equal(value, own) and not torch.equal(value, random[name])
            error = own.std().item() / count**0.5
            assert value.mean().item() == pytest.approx(own.mean().item(), abs=5 * error)
            assert value.std().item() == pytest.approx(own.std().item(), rel=5 / (2 * count) ** 0.5)
        else:
            assert torch.equal(value, random[name]), name
    assert drawn == (0 if not others(keep, level) else drawn) and (drawn or not others(keep, level))


def test_batch_norm_of_what_is_not_kept_is_the_identity():
    net = transplanted(keep="up_to", level="layer1", rest="matched").net
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d) and level_of(name) in ("layer2", "layer4"):
            state = module.state_dict()
            assert state.keys() == KINDS and state["num_batches_tracked"] == 0
            for field, value in (("weight", 1), ("bias", 0), ("running_mean", 0)):
                assert bool((state[field] == value).all()), (name, field)
            assert bool((state["running_var"] == 1).all())


@pytest.mark.parametrize("rest", ["standard", "matched"])
def test_the_network_is_the_pretrained_one_up_to_the_cut_and_another_after(rest):
    x = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    for place, level in enumerate(LEVELS[:-1]):
        found, old = transplanted(level=level, rest=rest), trained()
        assert torch.equal(found.features(x, level), old.features(x, level))
        after = LEVELS[place + 1]
        assert not torch.allclose(found.features(x, after), old.features(x, after))
        # And the reverse: the later stages make of one map what they always made.
        late = transplanted(keep="from", level=after, rest=rest)
        kept = old.features(x, level)
        assert torch.equal(late.run(kept, level, "layer4"), old.run(kept, level, "layer4"))


def test_draws_depend_on_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for rest in ("standard", "matched"):
        one, two = (transplanted(level="stem", rest=rest).state_dict() for _ in range(2))
        other = transplanted(seed=4, level="stem", rest=rest).state_dict()
        name = "net.layer4.0.conv1.weight"
        assert torch.equal(one[name], two[name]) and not torch.equal(one[name], other[name])
    assert torch.equal(before, torch.get_rng_state())


def test_the_stage_makes_an_artifact_of_it_once(tmp_path):
    store = Store(tmp_path)
    start = stage.resolve("random_init", {"architecture": SMALL.model_dump()}, "test")
    whole = stage.run("random_init", None, start, seed=1, store=store, execution=Execution())
    config = stage.resolve("transplant", {"keep": "from", "level": "layer3"}, "test")
    found = stage.run_transplant(whole, config, seed=SEED, store=store)
    step = stage.step_for_transplant(whole.fingerprint, config, SEED)
    assert found.fingerprint == step.fingerprint and found.record.plugin == "transplant"
    assert stage.run_transplant(whole, config, seed=SEED, store=store).path == found.path
    own, old = artifact.load(found.path), artifact.load(whole.path)
    assert own.architecture == SMALL
    name = "layer4.0.conv1.weight"
    assert torch.equal(own.net.state_dict()[name], old.net.state_dict()[name])
    fresh = build(SMALL, Setting(seed=SEED).stream("backbone")).net.state_dict()
    assert torch.equal(own.net.state_dict()["conv1.weight"], fresh["conv1.weight"])


def test_a_level_that_a_backbone_lacks_is_refused():
    with pytest.raises(ValidationError, match="no level 'layer5': a backbone has stem, layer1"):
        Config(level="layer5")
    with pytest.raises(InputError, match="layer5"):
        stage.resolve("transplant", {"level": "layer5"}, "test")


def test_a_vision_transformer_is_refused(tmp_path):
    store, network = Store(tmp_path), {"name": "vit_tiny_16", "width": 8}
    start = stage.resolve("random_init", {"architecture": network}, "test")
    whole = stage.run("random_init", None, start, seed=1, store=store, execution=Execution())
    config = stage.resolve("transplant", {"level": "layer3"}, "test")
    with pytest.raises(InputError, match=r"holds vit_tiny_16, a vision transformer; .*ResNet"):
        stage.run_transplant(whole, config, seed=SEED, store=store)


def test_alone_it_says_what_it_takes():
    config = stage.resolve("transplant", {}, "test")
    with pytest.raises(InputError, match="takes a network that is trained already"):
        stage.step_for("transplant", None, config, 0)
