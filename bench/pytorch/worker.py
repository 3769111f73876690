"""The published architectures in plain torch.nn, timed by bench/runtimes.py in an environment of its own.

Reads lines "VARIANT HEIGHT WIDTH" and answers each with the seconds of one photo. Weights are random: the time does not
depend on them.
"""

import sys
import time

import torch
from torch import nn
from torch.nn import functional


class GeM(nn.Module):
    """As the authors compute it: clamp, power, mean, root; L2."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.avg_pool2d(x.clamp(min=1e-6).pow(3.0), x.shape[-2:]).pow(1 / 3)
        return functional.normalize(x.flatten(1))


def vgg16() -> nn.Module:
    sizes, channels = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512], 3
    layers: list[nn.Module] = []
    for size in sizes:
        if size:
            layers += [nn.Conv2d(channels, size, 3, padding=1), nn.ReLU(inplace=True)]
            channels = size
        else:
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers, GeM())


def alexnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True),
        GeM(),
    )  # fmt: skip


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if inputs != 4 * width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


def resnet101() -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 23), (512, 3)):
        for block in range(blocks):
            layers.append(Bottleneck(inputs, width, 2 if block == 0 and width > 64 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, GeM())


class ChannelNorm(nn.LayerNorm):
    """Layer normalization of the channels of maps (B, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.channels = nn.Sequential(
            nn.LayerNorm(width, 1e-6), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + (self.scale * self.channels(self.spatial(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


def convnext_tiny() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), ChannelNorm(96, 1e-6)]
    for width, blocks in ((96, 3), (192, 3), (384, 9), (768, 3)):
        if width > 96:
            layers += [ChannelNorm(width // 2, 1e-6), nn.Conv2d(width // 2, width, 2, 2)]
        layers += [ConvNextBlock(width) for _ in range(blocks)]
    return nn.Sequential(*layers, GeM())


class Block(nn.Module):
    """A block of DINOv2, with attention as its authors' code computes it without xFormers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale1, self.scale2 = (nn.Parameter(torch.full((width,), 1e-5)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, count, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        weights = ((query * (width // self.heads) ** -0.5) @ key.transpose(-2, -1)).softmax(-1)
        attended = (weights @ value).transpose(1, 2).reshape(batch, count, width)
        x = x + self.projection(attended) * self.scale1
        return x + self.down(functional.gelu(self.up(self.norm2(x)))) * self.scale2


class VisionTransformer(nn.Module):
    def __init__(self, width: int = 384, depth: int = 12, heads: int = 6, patch: int = 14, grid: int = 37) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, width, grid, grid) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, 1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x)
        positions = self.positions
        if x.shape[-2:] != positions.shape[-2:]:
            positions = functional.interpolate(positions.float(), x.shape[-2:], mode="bicubic").to(x.dtype)
        x = (x + positions).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return functional.normalize(self.norm(x)[:, 0])


NETWORKS = {
    "alexnet_gem": alexnet,
    "vgg16_gem": vgg16,
    "torchresnet101_gem": resnet101,
    "convnexttiny_gem": convnext_tiny,
    "dinov2vits14_cls": VisionTransformer,
}


def main() -> None:
    threads = int(sys.argv[2])
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    exact = NETWORKS[sys.argv[1]]().eval()
    halved = NETWORKS[sys.argv[1]]().eval().bfloat16().to(memory_format=torch.channels_last)
    print("ready", torch.__version__, flush=True)
    for line in sys.stdin:
        variant, height, width = line.split()
        photo = torch.randn(1, 3, int(height), int(width))
        model = exact
        if variant == "bfloat16":
            photo, model = photo.bfloat16().contiguous(memory_format=torch.channels_last), halved
        started = clock()
        with torch.no_grad():
            model(photo)
        print(clock() - started, flush=True)


if __name__ == "__main__":
    main()
