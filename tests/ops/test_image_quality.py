"""How close two pictures are, against plain loops and scikit-image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import image_quality as oracle

from whytransfer.ops.image_quality import feature_distance, psnr, ssim


def pair(seed, height=14, width=13, count=2):
    """Pictures and noisy copies of them, smooth in places."""
    draw = np.random.default_rng(seed)
    original = draw.random((count, 3, height, width))
    original[:, :, : height // 2] = original[:, :, :1]
    noisy = np.clip(original + draw.normal(0, draw.uniform(0.01, 0.3), original.shape), 0, 1)
    return torch.from_numpy(noisy), torch.from_numpy(original)


@pytest.mark.parametrize("seed", range(3))
def test_psnr_and_ssim_equal_plain_loops(seed):
    pictures, originals = pair(seed)
    for found, plain in ((psnr, oracle.psnr), (ssim, oracle.ssim)):
        expected = [plain(a, b) for a, b in zip(pictures.numpy(), originals.numpy(), strict=True)]
        assert found(pictures, originals).tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_psnr_and_ssim_equal_scikit_image(seed):
    metrics = pytest.importorskip("skimage.metrics")
    pictures, originals = pair(seed, 40, 37)
    for k in range(2):
        a, b = (one[k].permute(1, 2, 0).numpy() for one in (pictures, originals))
        expected = metrics.structural_similarity(
            b, a, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            data_range=1.0, channel_axis=2,
        )  # fmt: skip
        assert ssim(pictures, originals)[k].item() == pytest.approx(expected, abs=1e-9)
        expected = metrics.peak_signal_noise_ratio(b, a, data_range=1.0)
        assert psnr(pictures, originals)[k].item() == pytest.approx(expected, abs=1e-9)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_what_holds_of_any_two_pictures(seed):
    pictures, originals = pair(seed)
    assert (ssim(originals, originals) == 1).all() or torch.allclose(
        ssim(originals, originals), torch.ones(2, dtype=torch.float64), atol=1e-12
    )
    torch.testing.assert_close(ssim(pictures, originals), ssim(originals, pictures))
    torch.testing.assert_close(psnr(pictures, originals), psnr(originals, pictures))
    assert (ssim(pictures, originals) < 1).all()
    flipped = pictures.flip(3), originals.flip(3)
    torch.testing.assert_close(ssim(*flipped), ssim(pictures, originals))
    # Half the error is 6.02 dB more.
    nearer = originals + (pictures - originals) / 2
    gain = psnr(nearer, originals) - psnr(pictures, originals)
    torch.testing.assert_close(gain, torch.full_like(gain, 20 * np.log10(2)))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_distance_of_features_equals_plain_loops(weighted):
    draw = np.random.default_rng(0)
    maps, originals = (torch.from_numpy(draw.normal(size=(2, 5, 3, 4))) for _ in range(2))
    maps[0, :, 0, 0] = 0  # a place without any feature
    weights = torch.from_numpy(draw.random(5)) if weighted else None
    expected = [
        oracle.feature_distance(a, b, None if weights is None else weights.numpy())
        for a, b in zip(maps.numpy(), originals.numpy(), strict=True)
    ]
    assert feature_distance(maps, originals, weights).tolist() == pytest.approx(expected)


@given(seed=st.integers(0, 1000), factor=st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_the_distance_of_features_ignores_their_scale(seed, factor):
    draw = np.random.default_rng(seed)
    maps, originals = (torch.from_numpy(draw.normal(size=(1, 5, 2, 2))) for _ in range(2))
    found = feature_distance(maps, originals)
    torch.testing.assert_close(feature_distance(factor * maps, originals), found)
    assert 0 <= found.item() <= 4
    torch.testing.assert_close(feature_distance(-originals, originals), torch.full_like(found, 4.0))
