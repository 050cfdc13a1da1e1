"""Arguments that commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastthermo.process import NAMED


def add_data(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("--process", choices=NAMED, default="vp", help="diffusion process (default vp)")


def add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        metavar="NAME|PATH",
        help="digits, mnist-5k, fashion-mnist, cifar-10, imagenet-64, or a .npy, .npz, .pt or IDX file",
    )
    parser.add_argument("--labels", metavar="PATH", help="a file of labels, one a state")
    parser.add_argument("--seed", type=int, default=0, help="(default 0)")


def add_out(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--out", metavar="DIR", type=Path, help=f"folder to write (default {default})")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


def out_folder(arguments: argparse.Namespace, folder: str) -> Path:
    if arguments.out is not None:
        return Path(arguments.out)
    name = Path(arguments.data).name.split(".")[0]
    return Path(folder) / name
