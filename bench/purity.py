"""Purity of training tuples: the share of positives and negatives in a tuples.npz that the names of folders confirm.

    python -m bench.purity tuples.npz [--same castle_p30,entry_p10,fountain_p11]

Two photos are taken to show the same object if they are in the same folder, or if both of their folders are listed by
--same. These labels are used for scoring only; `tuples --manifold` does not use the names of folders.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from pipelines.training_tuples.file import read_tuples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tuples", type=Path, help="the tuples.npz to score")
    parser.add_argument("--same", default="", help="folders that show one object, separated by commas")
    arguments = parser.parse_args()
    tuples, same = read_tuples(arguments.tuples), arguments.same.split(",")
    folders = [str(Path(name).parent) for name in tuples.images]
    label = np.array([same[0] if folder in same else folder for folder in folders])
    queries = len(np.unique(tuples.qidxs))
    right = label[tuples.qidxs] == label[tuples.pidxs]
    row_of = {
        "queries": queries,
        "positives": len(right),
        "positives of the query's scene": f"{100 * right.mean():.1f} %",
    }
    if tuples.negatives is not None:
        row, column = np.nonzero(tuples.negatives >= 0)
        right = label[row] != label[tuples.negatives[row, column]]
        row_of |= {"negatives": len(right), "negatives of another scene": f"{100 * right.mean():.1f} %"}
    # Printed only: the table in the documentation joins several files of tuples.
    print(json.dumps(row_of, indent=1))


if __name__ == "__main__":
    main()
