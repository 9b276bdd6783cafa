"""Feature inversion of one image at a time, as the authors run it; no step is saved or shared.

The skip network, its input, loss and optimiser as `shared/protocols.md` section 8.1 lists them.
"""

import torch
from torch import nn


class Level(nn.Module):
    """What lies between a level's input and its output, with all that is deeper inside it."""

    def __init__(self, above, widths, filters, skip_width):
        super().__init__()
        width, side = widths[0], filters[0]
        self.skip = nn.Sequential(
            nn.Conv2d(above, skip_width, 1), nn.BatchNorm2d(skip_width), nn.LeakyReLU(0.2)
        )
        self.down = nn.Sequential(
            nn.Conv2d(above, width, side, padding=side // 2), nn.AvgPool2d(2),
            nn.BatchNorm2d(width), nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, side, padding=side // 2),
            nn.BatchNorm2d(width), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.deeper = nn.Identity()
        below = width
        if len(widths) > 1:
            self.deeper, below = Level(width, widths[1:], filters[1:], skip_width), widths[1]
        self.up = nn.Sequential(
            nn.BatchNorm2d(skip_width + below),
            nn.Conv2d(skip_width + below, width, side, padding=side // 2),
            nn.BatchNorm2d(width), nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.LeakyReLU(0.2),
        )  # fmt: skip

    def forward(self, maps):
        deep = nn.functional.interpolate(
            self.deeper(self.down(maps)), scale_factor=2, mode="nearest"
        )
        return self.up(torch.cat([self.skip(maps), deep], dim=1))


def skip_network(widths, filters, skip_width, noise_channels):
    """Returns the generator, as torch initialises it; in training mode for good."""
    level = Level(noise_channels, widths, filters, skip_width)
    return nn.Sequential(level, nn.Conv2d(widths[0], 3, 1))


def invert(see, image, net, noise, crop_px, learning_rate, num_steps):
    """Returns the picture and the losses of every step.

    Args:
        see: The frozen network up to a level, in evaluation mode.
        image: (1, 3, crop, crop), normalised.
        net: The generator; is trained.
        noise: Its input.
    """
    target = see(image).detach()
    optimiser = torch.optim.Adam(net.parameters(), lr=learning_rate)
    losses = []
    for _ in range(num_steps):
        optimiser.zero_grad()
        loss = nn.functional.mse_loss(see(net(noise)[:, :, :crop_px, :crop_px]), target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return net(noise)[:, :, :crop_px, :crop_px].detach(), losses


def copy_weights(net, ours):
    """Gives the plain network the weights of ours; biases that ours leaves out stay as drawn."""
    level, last = net
    for own in ours.levels:
        pairs = [
            (level.skip[0], own.skip_conv), (level.skip[1], own.skip_norm),
            (level.down[2], own.down_norm),
            (level.down[4], own.inner_conv), (level.down[5], own.inner_norm),
            (level.up[2], own.up_norm),
            (level.up[4], own.mixing_conv), (level.up[5], own.mixing_norm),
        ]  # fmt: skip
        with torch.no_grad():
            for plain, given in pairs:
                plain.weight.copy_(given.weight)
                if isinstance(plain, nn.BatchNorm2d):
                    plain.bias.copy_(given.bias)
            for plain, given in (
                (level.down[0].weight, own.down_filters),
                (level.up[1].weight[:, : len(own.joined_skip_norm.weight)], own.up_skip_filters),
                (
                    level.up[1].weight[:, len(own.joined_skip_norm.weight) :],
                    own.up_below_filters.transpose(0, 1),
                ),
            ):
                plain.copy_(given.reshape(plain.shape))
            for name in ("weight", "bias"):
                joined = [getattr(n, name) for n in (own.joined_skip_norm, own.joined_below_norm)]
                getattr(level.up[0], name).copy_(torch.cat(joined))
        level = level.deeper
    last.load_state_dict(ours.last.state_dict())
