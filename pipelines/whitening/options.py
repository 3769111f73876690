"""The options of the command `whiten`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.errors import ArgumentError
from keras_retrieval.whitening.gram_pca import DIM, WIDE

from ..command.kinds import Reads, Writes
from ..command.options import Argument, Option
from ..descriptors.matching_pairs import PairsError
from ..descriptors.options import SHIFT_HELP, SHRINKAGE_DEFAULT, DescriptionOptions
from ..engines.options import EngineOptions
from ..files.durable import FolderError
from ..files.remote import is_folder
from ..networks.files import check_keras_path
from ..networks.kinds import KERAS_FILE, KERAS_NETWORK, KERAS_NETWORK_HELP
from ..networks.precision import PRECISION, PRECISION_HELP, PRECISIONS
from ..photos.edges import HELP as EDGES_HELP
from ..photos.edges import check_edges
from ..photos.intake_options import PHOTO_PLACE, IntakeOptions
from ..photos.object_options import ObjectOptions
from ..runtimes.options import RuntimeOption, check_runtime_precision

METHODS = ("lw", "pca", "regional-pca", "linear")


@dataclass(frozen=True, kw_only=True)
class WhitenOptions(DescriptionOptions, RuntimeOption, EngineOptions, IntakeOptions, ObjectOptions):
    """Options of the command `keras-retrieval whiten`.

    Choose the size, scales, antialiasing and mirroring with which the whitened network will be used.
    """

    model: Annotated[
        str,
        Argument(
            KERAS_NETWORK_HELP,
            kind=KERAS_NETWORK,
        ),
    ] = field(kw_only=False)
    tuples: Annotated[
        Path,
        Argument(
            "tuples.npz, or a folder of photos, which lw and linear need to be in sub-folders for objects; see "
            "--objects, or its address (extra cloud).",
            kind=Reads("any", PairsError, addresses=True),
        ),
    ] = field(kw_only=False)
    output: Annotated[Path, Argument("The .keras file to write.", kind=KERAS_FILE)] = field(kw_only=False)
    photos: Annotated[
        Path | None,
        Option(
            "Folder of the photos named in tuples.npz, or its address (extra cloud); not needed where TUPLES is a "
            "folder of photos.",
            kind=PHOTO_PLACE,
        ),
    ] = None
    method: Annotated[
        str,
        Option(
            "lw: learned from matching pairs (Radenovic et al. TPAMI 2018); pca: from all photos; regional-pca: PCA of "
            "R-MAC's regions, applied inside the pooling (Tolias et al. ICLR 2016); linear: by a softmax over objects, "
            "as far from the identity as objects that are held out gain from it (Zhai and Wu BMVC 2019).",
            choices=METHODS,
        ),
    ] = "lw"
    shrinkage: Annotated[
        float | None,
        Option(
            "Only lw: adds this multiple of the mean variance within pairs to the diagonal of their covariance. "
            f"{SHRINKAGE_DEFAULT}",
            at_least=0,
        ),
    ] = None
    shift: Annotated[float | None, Option(f"Only lw: {SHIFT_HELP}", at_least=0, at_most=1)] = None
    dim: Annotated[
        int | None,
        Option(
            f"Dimensions to keep. If not given, all are kept, or {DIM:,} if a descriptor has more than {WIDE:,}.",
            at_least=1,
        ),
    ] = None
    seed: Annotated[
        int, Option("Only linear: random seed of the choice of photos and of held-out objects.", at_least=0)
    ] = 0
    edges: Annotated[str, Option(EDGES_HELP, kind=check_edges)] = ""
    precision: Annotated[str, Option(PRECISION_HELP, choices=PRECISIONS)] = PRECISION
    descriptors: Annotated[
        Path | None,
        Option(
            "Folder of the photos' descriptors, kept for the next run; OUTPUT with the ending .descriptors if not "
            "given.",
            kind=Writes("folder", FolderError),
        ),
    ] = None
    replace: Annotated[
        bool, Option("Replace the folder of descriptors if it was made of other photos or with other options.")
    ] = False

    def check(self) -> None:
        """Checks the range of each option, the names of MODEL and OUTPUT, and the combination of options.

        Raises:
            ArgumentError: an option is out of range; MODEL is an .onnx file; the name of OUTPUT does not end in .keras;
                --shrinkage or --shift is given for a method other than lw; --scales or --mirror is given for the method
                regional-pca; or --photos is not given although TUPLES is a file.
        """
        super().check()
        check_runtime_precision(self.runtime, self.precision)
        self.refuse_engine(self.method == "regional-pca", "a --method that learns from descriptors of photos")
        if self.shrinkage is not None and self.method != "lw":
            raise ArgumentError(f"--shrinkage {self.shrinkage:g} is for --method lw only, got --method {self.method}")
        if self.shift is not None and self.method != "lw":
            raise ArgumentError(f"--shift {self.shift:g} is for --method lw only, got --method {self.method}")
        check_keras_path(self.output)
        if Path(self.model).suffix == ".onnx":
            raise ArgumentError(f"MODEL must be a .keras file, got {self.model}: whiten that and export it again")
        if self.method == "regional-pca" and (self.factors != (1.0,) or self.mirror):
            raise ArgumentError(
                "--method regional-pca learns from regions at --size and does not take --scales or --mirror"
            )
        if self.photos is None and not is_folder(self.tuples):
            raise ArgumentError(f"--photos must give the folder of the photos named in {self.tuples}")

    @property
    def folder(self) -> Path:
        """The folder of the photos: `photos`, or `tuples` if `photos` is None."""
        return self.tuples if self.photos is None else self.photos
