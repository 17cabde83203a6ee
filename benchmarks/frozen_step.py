"""A training step that never changes: what ours is timed against, so that the machine's speed cancels.

It imports nothing of ours. Nobody improves it: a change here changes the meaning of every ratio in ``guard.json``.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two normalized convolutions, an embedding between them, and a skip."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(8, inputs), nn.GroupNorm(8, outputs)
        self.conv_in = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv_out = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.embed, self.skip = nn.Linear(embedding, outputs), nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply it to (B, inputs, H, W) and (B, embedding)."""
        h = self.conv_in(F.silu(self.norm_in(x))) + self.embed(embedding)[:, :, None, None]
        return 0.7 * (self.skip(x) + self.conv_out(F.silu(self.norm_out(h))))


class Attention(nn.Module):
    """One head over the pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.mix = nn.GroupNorm(8, channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply attention over the pixels."""
        query, key, value = self.mix(self.norm(x)).flatten(2).chunk(3, 1)
        weight = torch.softmax(query.mT @ key * query.shape[1] ** -0.5, 2)
        return x + self.out((value @ weight.mT).view_as(x))


class Net(nn.Module):
    """A U-Net of two resolutions: four blocks down, four up, two of attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.exp(-torch.linspace(0, 9, width // 2)), requires_grad=False)
        self.embed = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.stem, self.head = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        wide = 2 * width
        shapes = [
            (width, width),
            (width, wide),
            (wide, wide),
            (wide, wide),
            (2 * wide, wide),
            (wide + width, width),
        ]
        self.blocks = nn.ModuleList(Block(*shape, 4 * width) for shape in shapes)
        self.attention = nn.ModuleList(Attention(wide) for _ in range(2))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Apply it to (B, 3, H, W) and (B,)."""
        angle = label[:, None] * self.frequencies
        embedding = F.silu(self.embed(torch.cat([angle.sin(), angle.cos()], 1)))
        fine = self.blocks[0](self.stem(x), embedding)
        coarse = self.attention[0](self.blocks[1](F.avg_pool2d(fine, 2), embedding))
        h = self.blocks[3](self.attention[1](self.blocks[2](coarse, embedding)), embedding)
        h = self.blocks[4](torch.cat([h, coarse], 1), embedding)
        h = F.interpolate(h, scale_factor=2)
        return self.head(F.silu(self.blocks[5](torch.cat([h, fine], 1), embedding)))


class FrozenStep:
    """Perturbation, loss of the noise, backward, clip, Adam and average, in float32.

    Arguments:
        width: channels.
        side: pixels of an image's side.
        batch: images.
    """

    def __init__(self, *, width: int, side: int, batch: int) -> None:
        self.net = Net(width).to(memory_format=torch.channels_last)
        self.ema_model = copy.deepcopy(self.net)
        self.weights = [weight for weight in self.net.parameters() if weight.requires_grad]
        self.means = [weight for weight in self.ema_model.parameters() if weight.requires_grad]
        self.adam = torch.optim.Adam(self.weights, lr=1e-4, fused=True)
        self.images = torch.randint(0, 256, (256, 3, side, side), dtype=torch.uint8)
        self.batch = batch

    def __call__(self) -> Tensor:
        """Take a step; return the loss before it, with shape ()."""
        x0 = self.images[torch.randint(256, (self.batch,))].float() / 127.5 - 1
        t, eps = torch.rand(self.batch), torch.randn_like(x0)
        alpha = (1 - t)[:, None, None, None]
        x_t = (alpha * x0 + (1 - alpha) * eps).contiguous(memory_format=torch.channels_last)
        loss = (self.net(x_t, 1000 * t) - eps).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.adam.step()
        self.adam.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(self.means, self.weights, 0.001)
        return loss.detach()
