"""A network trained on tuples: `keras-retrieval train tuples.npz --photos PHOTOS --model vgg16_gem --output RUN`.

RUN gets model.keras (the best epoch's network with the whitening inside), trained.keras (without it), history.csv,
results.json and page.html, besides photos (the cache), checkpoint.npz (what --resume goes on from) and the
descriptors that the whitening and the evaluation were made of.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..descriptors.describer import MIRROR_HELP
from ..evaluation.datasets import DATASETS
from ..networks.precision import TRAINING_PRECISION_HELP, resolve_precision
from ..photos.edges import HELP as EDGES_HELP
from ..training_tuples.checks import check
from ..training_tuples.file import read_tuples
from ..training_tuples.sources import photos_of
from ..training_tuples.tuples import tuples as make_tuples
from .checkpoint import NAME, open_run
from .comparison import finish, score_pretrained
from .hard_positives import POSITIVES
from .options import BESTS, LOSSES, WHITENINGS, Options, help_of, published
from .report import report
from .run import fit, prepare, take_best
from .samples import mine_samples


def train(
    tuples: Annotated[
        Path, typer.Argument(help="tuples.npz, or what `keras-retrieval tuples` makes it of: a folder, a .csv ..")
    ],
    *,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of the photos; if not given the one that TUPLES is or lies in.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("run"),
    model: Annotated[str, typer.Option(help="A .keras file, or a name such as vgg16_gem (ImageNet weights).")] = (
        "vgg16_gem"
    ),
    epochs: Annotated[int, typer.Option(help="Epochs in all; published: at most 30, and the best is taken.")] = 30,
    queries: Annotated[int, typer.Option(help="Pairs drawn for each epoch.")] = 2000,
    pool: Annotated[int, typer.Option(help="Photos drawn for each epoch to find hard negatives in.")] = 20_000,
    negatives: Annotated[
        int | None,
        typer.Option(help=f"Hard negatives of each query, each of another cluster; {help_of('negatives')}"),
    ] = None,
    positive: Annotated[
        str | None,
        typer.Option(help=f"{' or '.join(POSITIVES)} of all that a query has, by descriptor; {help_of('positive')}"),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(help=f"Photos of the pool, drawn for each query, to choose from; 0: all; {help_of('sample')}"),
    ] = None,
    remember: Annotated[
        bool | None,
        typer.Option(help=f"Look besides at the negatives that the query had last; {help_of('remember')}"),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help=f"Tuples in a step; their gradients are summed; {help_of('batch')}")
    ] = None,
    refresh: Annotated[
        int | None,
        typer.Option(help=f"Choose negatives anew every so many steps; 0: once an epoch; {help_of('refresh')}"),
    ] = None,
    loss: Annotated[str | None, typer.Option(help=f"One of {', '.join(LOSSES)}; {help_of('loss')}")] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Of the loss. Contrastive: 0.75 for VGG, 0.85 for ResNet, 0.7 for AlexNet if not given."),
    ] = None,
    initialize: Annotated[
        str, typer.Option(help="Clusters of NetVLAD from the photos: v1, v2, none; auto: v1 of a network by name.")
    ] = "auto",
    lr: Annotated[float | None, typer.Option(help=f"Adam's rate in the first epoch; {help_of('lr')}")] = None,
    decay: Annotated[float, typer.Option(help="The rate of epoch i is lr * exp(-decay * i).")] = 0.01,
    weight_decay: Annotated[float, typer.Option(help="L2 penalty in the loss; GeM's p has none.")] = 1e-6,
    p_speed: Annotated[
        float | None, typer.Option(help="How much faster GeM's p learns; 10, per channel 100 if not given.")
    ] = None,
    freeze: Annotated[int, typer.Option(help="Layers of the trunk, from the first, that stay as they are.")] = 0,
    size: Annotated[int, typer.Option(help="Longest side of the photos to train on, in pixels.")] = 362,
    padded: Annotated[
        bool, typer.Option("--padded/--exact", help="Photos padded to one square, or each at its exact size.")
    ] = True,
    augment: Annotated[float, typer.Option(help="Strength of random brightness, contrast, saturation, 0..1.")] = 0.0,
    zoom: Annotated[
        float,
        typer.Option(help="Photos are cropped or shrunk to a random share of their sides from this on; 1: never."),
    ] = 1.0,
    flip: Annotated[bool, typer.Option(help="Half of the tuples are mirrored, all photos of one alike.")] = False,
    binarize: Annotated[
        float,
        typer.Option(help="Half of the queries are binarised, at a strength of edges drawn from 0 to this; 0: none."),
    ] = 0.0,
    edges: Annotated[str, typer.Option(help=EDGES_HELP)] = "",
    chunk: Annotated[
        int | None, typer.Option(help="Photos in the network at once: any step in fixed memory, at a second pass.")
    ] = None,
    precision: Annotated[str, typer.Option(help=TRAINING_PRECISION_HELP)] = "float32",
    jit: Annotated[bool, typer.Option(help="Compile the step with XLA.")] = False,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder of the resized photos; RUN/photos if not given.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help=f"Score on a collection: {', '.join(DATASETS)}, or a ground truth NAME.json.")
    ] = None,
    dataset_photos: Annotated[Path | None, typer.Option(help="The collection's photos.")] = None,
    gnd: Annotated[Path | None, typer.Option(help="The collection's ground truth, if not beside its photos.")] = None,
    every: Annotated[int, typer.Option(help="Epochs from one scoring to the next.")] = 1,
    best: Annotated[
        str | None,
        typer.Option(
            help=f"The epoch to keep: {', '.join(BESTS)} (loss: of validation; the default where there is any)."
        ),
    ] = None,
    whiten: Annotated[
        str | None,
        typer.Option(help=f"Learned at the end from all pairs: {', '.join(WHITENINGS)}; {help_of('whiten')}"),
    ] = None,
    dim: Annotated[int | None, typer.Option(help="Dimensions that the whitening keeps; all if not given.")] = None,
    shrinkage: Annotated[
        float | None,
        typer.Option(help="Lw's; if not given 1 for fewer photos in pairs than 4 a dimension, else 0 (published)."),
    ] = None,
    test_size: Annotated[int, typer.Option(help="Longest side in use: for the whitening and the scores.")] = 1024,
    scales: Annotated[str, typer.Option(help="Scales in use: for the whitening and the scores.")] = "1,0.7071,0.5",
    mirror: Annotated[bool, typer.Option(help=f"In use: {MIRROR_HELP}")] = False,
    checkpoint_steps: Annotated[int, typer.Option(help="Steps that a kill may cost; 0: an epoch.")] = 100,
    tensorboard: Annotated[bool, typer.Option(help="Write RUN/tensorboard.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on with RUN; --epochs may be more than before.")] = False,
) -> dict[str, Any]:
    """Trains a retrieval network on tuples, with negatives that it finds hard itself, and learns its whitening.

    The defaults are the published recipe (Radenovic et al. TPAMI 2018; for NetVLAD Arandjelovic et al. CVPR 2016).
    Pairs set aside in tuples.npz are for validation. Returns what results.json holds.
    """
    options = Options(**published(locals() | {"photos": photos or photos_of(tuples) or tuples.parent}))
    options.check()
    options = replace(options, tuples=_tuples(options))
    known = read_tuples(options.tuples)
    check(known, options.photos)
    options = replace(options, precision=resolve_precision(options.precision))
    checkpoint = open_run(output, options.learning(), resume)
    run = prepare(options, known, checkpoint)
    scores = score_pretrained(run)
    fit(run)
    take_best(run)
    late = mine_samples(run.samples, run.describe)
    after, whitening = finish(run)
    return report(run, scores | after, whitening, late)


def _tuples(options: Options) -> Path:
    """tuples.npz as it was given, or RUN/tuples.npz, made of another source when a run begins."""
    if options.tuples.suffix == ".npz":
        return options.tuples
    path = options.output / "tuples.npz"
    if path.is_file() and (options.output / NAME).is_file():
        return path
    return make_tuples(options.tuples, path, photos=options.photos, negatives=options.negatives)
