"""Recall of NetVLAD before and after training on synthetic photos of streets with positions.

    python -m bench.streets [--work WORK] [--buildings 64] [--clusters 16] [--size 192] [--epochs 5]

`sample-photos` renders two streets, WORK/streets and WORK/others, with different buildings of the same eight designs.
`train` trains the network with NetVLAD's recipe on the first street only, with the positions in
WORK/streets/positions.csv. The network is evaluated on the other street, where every third photo is a query and the
rest is the database. A result is right if it is within 25 m of the query. The table lists recall@N before training,
with clusters that are initialised from local descriptors as published, and after training. The trunk starts from
ImageNet weights if their file exists, else from random weights.
"""

import argparse
import csv
import os
import tempfile
from pathlib import Path

from bench.photos import network
from bench.record import recorded
from pipelines.files.tables import read_csv
from pipelines.networks.files import save_model
from pipelines.samples.sample_photos import sample_photos
from pipelines.training.train import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "keras-retrieval-streets",
        help="folder for the synthetic photos and the training run",
    )
    parser.add_argument("--buildings", type=int, default=64, help="buildings per street")
    parser.add_argument("--views", type=int, default=6, help="photos per building")
    parser.add_argument("--clusters", type=int, default=16, help="clusters of NetVLAD")
    parser.add_argument("--size", type=int, default=192, help="longest side of the photos in pixels")
    parser.add_argument("--epochs", type=int, default=5, help="training epochs")
    parser.add_argument("--negatives", type=int, default=5, help="negatives per training tuple")
    parser.add_argument("--lr", type=float, default=2e-5, help="initial learning rate")
    arguments = parser.parse_args()
    work, counts = arguments.work, {"buildings": arguments.buildings, "views": arguments.views}
    for seed, name in enumerate(("streets", "others")):
        sample_photos(work / name, seed=seed, size=arguments.size, **counts)
    places(work / "others", work / "places")
    model = work / "start.keras"
    save_model(network("alexnet_netvlad", clusters=arguments.clusters), model)
    results = train(
        work / "streets" / "positions.csv", output=work / "run", model=str(model), initialize="v1", whiten="none",
        epochs=arguments.epochs, negatives=arguments.negatives, lr=arguments.lr, size=arguments.size,
        test_size=arguments.size, scales="1", dataset="places", dataset_photos=work / "places",
        gnd=work / "places" / "positions.csv", every=4, best="last",
    )  # fmt: skip
    with recorded("netvlad-streets") as add:
        for name, mean in results["scores"].items():
            add({"network": name} | {figure: f"{100 * value:.1f}" for figure, value in mean["all"].items()})


def places(street: Path, folder: Path) -> None:
    """Makes a dataset of places from a street: every third photo is a query, the others are the database.

    Args:
        street: folder of a street from `sample-photos`, with photos and positions.csv.
        folder: folder to make, with links to the photos in `database` and `queries`, and positions.csv.
    """
    rows = [row.cells for row in read_csv(street / "positions.csv").rows]
    folder.mkdir(exist_ok=True)
    with (folder / "positions.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["photo", "east", "north"])
        for number, row in enumerate(rows):
            name = Path("queries" if number % 3 == 1 else "database") / row["photo"]
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if not (folder / name).exists():
                os.link(street / row["photo"], folder / name)
            writer.writerow([name.as_posix(), row["east"], row["north"]])


if __name__ == "__main__":
    main()
