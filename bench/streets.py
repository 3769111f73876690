"""NetVLAD trained on the positions of synthetic photos of streets, and evaluated on other places.

    python -m bench.streets [--work WORK] [--buildings 64] [--clusters 16] [--size 192] [--epochs 5]

`sample-photos` renders two streets, WORK/streets and WORK/others, with different buildings of the same eight designs.
The network is trained on WORK/streets/positions.csv only, by `train` with NetVLAD's recipe. Of the other street every
third photo is a query and the rest is the database; recall@N counts results within 25 m, before training (with clusters
from local descriptors, as published) and after it. The trunk starts from ImageNet weights if they exist, else from
random weights.
"""

import argparse
import csv
import os
import tempfile
from pathlib import Path

from bench.photos import network
from bench.record import recorded
from pipelines.networks.files import save_model
from pipelines.samples.sample_photos import sample_photos
from pipelines.training.train import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "keras-retrieval-streets")
    parser.add_argument("--buildings", type=int, default=64)
    parser.add_argument("--views", type=int, default=6)
    parser.add_argument("--clusters", type=int, default=16)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--negatives", type=int, default=5)
    parser.add_argument("--lr", type=float, default=2e-5)
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
    """Links the photos of a street into the folders `database` and `queries`, and writes their positions to a CSV."""
    rows = list(csv.DictReader((street / "positions.csv").open()))
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
