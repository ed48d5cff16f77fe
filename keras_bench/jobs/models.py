"""The verb `models`: the table of backbones, and which ImageNet weights lie on this machine."""

from rich.table import Table

from keras_bench.backbones import BACKBONES
from keras_bench.console import Log
from keras_bench.jobs.weights import keras_home


def print_models(log: Log) -> None:
    """Print every backbone with its default size, published parameters and its weights' file."""
    table = Table(title="backbones", caption="parameters: published, in millions, with the 1000-class top")
    for name in ("model", "family"):
        table.add_column(name)
    for name in ("size", "parameters", "features"):
        table.add_column(name, justify="right")
    table.add_column("ImageNet weights")
    for row in BACKBONES.values():
        source = row.weights_source()
        if source is None:
            weights = "none exist: train from scratch"
        else:
            here = (keras_home() / "models" / source[1]).is_file()
            weights = f"{source[1]}{' (on this machine)' if here else ''}"
        table.add_row(
            row.name,
            row.family.name,
            str(row.image_size),
            f"{row.parameters_millions:.1f} M",
            str(row.width),
            weights,
        )
    log.table(table)
    log.line(f"ImageNet weights are kept in {keras_home() / 'models'}")
