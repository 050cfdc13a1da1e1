"""`fastthermo sample|train DATA`: samples of the exact denoiser, and networks."""

from __future__ import annotations

import argparse
from typing import Any

from fastthermo.cli.common import add_data, add_out, add_source, out_folder
from fastthermo.process import named

SCHEMES = ("euler", "ancestral", "ddim", "heun", "heun_sde")


def add(commands: Any) -> None:
    sample = commands.add_parser(
        "sample",
        help="samples from the exact denoiser of a data set, or a network: .npy and a contact sheet",
        description="Generate samples with the exact score of a data set, or that of a network trained on it; they are "
        "written as samples.npy, in data units, and samples.png.",
    )
    add_data(sample)
    sample.add_argument("--network", metavar="RUN", help="folder of `fastthermo train`, instead of the exact denoiser")
    sample.add_argument("-n", type=int, default=64, help="number of samples (default 64)")
    sample.add_argument("--steps", type=int, default=128, help="number of steps (default 128)")
    sample.add_argument("--scheme", choices=SCHEMES, default="ancestral", help="(default ancestral)")
    sample.add_argument("--t-start", type=float, help="start at this time instead of t_max (late start)")
    sample.add_argument(
        "--start", choices=("noise", "gaussian", "data"), default="noise", help="law at the start (default noise)"
    )
    add_out(sample, "samples/NAME")
    sample.set_defaults(run=_sample, resumed=False)

    train = commands.add_parser(
        "train",
        help="train a small denoiser on a data set: U-Net for images, MLP for vectors",
        description="Train a denoiser with the preconditioning of EDM; weights and loss are kept in the folder. The "
        "same command goes on where an interrupted run stopped, with the weights an uninterrupted one would have.",
    )
    add_source(train)
    train.add_argument("--steps", type=int, default=10_000, help="in all, since the beginning (default 10000)")
    train.add_argument("--batch", type=int, default=128, help="data in a step (default 128)")
    train.add_argument("--width", type=int, help="channels (default 32) or features (default 128) of the network")
    train.add_argument("--rate", type=float, default=1e-3, help="learning rate (default 0.001)")
    train.add_argument("--states", type=int, metavar="N", help="train on N of the data, chosen by the seed")
    add_out(train, "runs/NAME")
    train.set_defaults(run=_train)


def _sample(arguments: argparse.Namespace) -> int:
    import numpy as np

    from fastthermo._files import make_folder, replacing
    from fastthermo.datasets import load
    from fastthermo.plot import contact_sheet, save
    from fastthermo.sampling import sample

    out = out_folder(arguments, "samples")
    files = out / "samples.npy", out / "samples.png"
    existing = [file for file in files if file.exists()]
    if existing and not arguments.overwrite:
        raise ValueError(f"out: {existing[0]} exists; choose another folder or --overwrite")
    if arguments.n < 1:
        raise ValueError(f"n: wanted at least 1 sample, got {arguments.n}")
    data = load(arguments.data, arguments.labels)
    process = named(arguments.process)
    model: Any
    if arguments.network is None:
        model = data.ensemble()
    else:
        from fastthermo.training import load_denoiser

        model = load_denoiser(arguments.network, data)
    x = np.asarray(
        sample(
            model,
            process,
            arguments.n,
            arguments.steps,
            arguments.scheme,
            arguments.t_start,
            arguments.start,
            arguments.seed,
        )
    )
    make_folder(out)
    with replacing(files[0]) as file:
        np.save(file, x)
    start = f" from t = {arguments.t_start}" if arguments.t_start is not None else ""
    images = x if data.image_shape is not None else x.reshape(len(x), -1)
    model_name = "" if arguments.network is None else ", a network"
    title = f"{data.name}{model_name}: {arguments.scheme}, {arguments.steps} steps{start}"
    save(contact_sheet(images, title), files[1])
    print(f"samples  {files[0]}  {x.shape} {x.dtype}\nfigure   {files[1]}")
    return 0


def _train(arguments: argparse.Namespace) -> int:
    from fastthermo.datasets import load
    from fastthermo.training import subset, train

    out = out_folder(arguments, "runs")
    data = load(arguments.data, arguments.labels)
    if arguments.states is not None:
        data = subset(data, arguments.states, arguments.seed)
    train(
        data,
        out,
        arguments.steps,
        arguments.batch,
        arguments.width,
        arguments.rate,
        arguments.seed,
        arguments.overwrite,
    )
    print(f"network     {out / 'network.safetensors'}\nloss        {out / 'history.csv'}")
    return 0
