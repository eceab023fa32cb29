#!/usr/bin/env python3
"""Images a second of training ResNet-8 (MLPerf Tiny): ours and PyTorch's, side by side on this machine.

Forward with batch norms in training mode, cross entropy, backward, SGD with momentum; batch 128; one and
two threads, in turn, several rounds, medians. PyTorch is no dependency of anything here:

    python3 -m venv ~/.cache/pare/torch && ~/.cache/pare/torch/bin/pip install torch
    cargo build --release -p pare-benches --example training_speed
    ~/.cache/pare/torch/bin/python benches/training/compare.py ../shared/models/resnet8_float.tflite
"""

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

BATCH, STEPS, ROUNDS = 128, 8, 3
OURS = Path(__file__).resolve().parents[2] / "target/release/examples/training_speed"


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()
        )
        self.second = nn.Sequential(nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out))
        same = stride == 1 and c_in == c_out
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        )

    def forward(self, x):
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


def resnet8():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Block(16, 16, 1),
        Block(16, 32, 2),
        Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def torch_speed(threads, layout):
    torch.set_num_threads(threads)
    net = resnet8().to(memory_format=layout)
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    images = torch.randn(BATCH, 3, 32, 32).to(memory_format=layout)
    labels = torch.arange(BATCH) % 10
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimiser.step()
        seconds.append(time.perf_counter() - start)
    return BATCH / statistics.median(seconds)


def our_speed(threads, model):
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
    command = [OURS, model, str(BATCH)]
    text = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return float(re.search(r"(\d+) images/s", text).group(1))


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: compare.py resnet8_float.tflite")
    print(f"ResNet-8, batch {BATCH}, images/s: medians of {ROUNDS} rounds in turn; torch {torch.__version__}")
    for threads in (1, 2):
        rounds = [
            (
                our_speed(threads, sys.argv[1]),
                torch_speed(threads, torch.contiguous_format),
                torch_speed(threads, torch.channels_last),
            )
            for _ in range(ROUNDS)
        ]
        ours, nchw, nhwc = (statistics.median(column) for column in zip(*rounds))
        print(
            f"{threads} thread{'s' * (threads > 1)}: ours {ours:.0f}, torch {nchw:.0f} (ours {ours / nchw:.2f}x),"
            f" channels last {nhwc:.0f} (ours {ours / nhwc:.2f}x)"
        )


main()
