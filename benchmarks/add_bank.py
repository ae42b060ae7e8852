"""Give a judge that has none a bank of real images; its own weights stay as they are.

    python benchmarks/add_bank.py weights/mnist-judge.safetensors --data-dir data

``train_judge`` makes the bank of every new judge. This is for those that were trained before there were
any, and makes a bank again where there is one. Only training images are read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from cvae_cli.data import datasets
from cvae_cli.judge.files import KIND, read_judge
from cvae_cli.judge.network import JudgeNetwork
from cvae_cli.judge.train import SEED, with_bank
from cvae_cli.model import weights


def main() -> None:
    """Read a judge, make its bank and write it again."""
    parser = argparse.ArgumentParser(description="Give a judge a bank of real images.")
    parser.add_argument("judge", type=Path, help="its .safetensors file, which is written again")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    raw, spec = read_judge(arguments.judge)
    network = weights.load_network(arguments.judge, raw, lambda: JudgeNetwork(spec))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    data = datasets.load(raw["data_set"], arguments.data_dir, train=True)
    judge, spec = with_bank(network, spec, data, seed=arguments.seed, device=torch.device("cpu"))
    for name, value in judge.state_dict().items():
        if name.startswith(("convolutions.", "head.")):
            assert torch.equal(value, before[name]), f"{name} has changed"
    written = weights.export(
        judge,
        arguments.judge,
        spec=spec.to_dict(),
        kind=KIND,
        **{
            key: raw[key]
            for key in ("name", "data_set", "metrics", "train_command", "versions", "training", "licence")
        },
    )
    print(f"{arguments.judge}: {sum(spec.bank)} images, {written['bytes'] / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
