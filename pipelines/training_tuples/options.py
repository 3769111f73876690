"""The options of the step `tuples`, which makes training tuples."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

from keras_retrieval.errors import ArgumentError

from ..command.kinds import Reads, Writes
from ..command.options import Argument, Option
from ..copies.find import DuplicatesError
from ..descriptors.folder import described_folder
from ..files.durable import FolderError
from ..files.remote import address_of
from ..files.remote_errors import shown
from ..files.tables import SPREADSHEETS, SUFFIXES
from ..gps.photo_positions import positions_source
from ..photos.intake_options import IntakeOptions
from ..photos.object_folders import AUTO
from ..photos.object_options import ObjectOptions
from .cells import groups_of, intervals
from .data import TuplesError

VERIFIED = "verified"
RULES = ("m1", "m2", "m3", VERIFIED)
MISSING = ("error", "skip")
ANCHORS = ("maxima", "all")
POSITIVES = 3  # default number of positives per query for 3D models and folders, which offer more than are useful


@dataclass(frozen=True, kw_only=True)
class TuplesOptions(IntakeOptions, ObjectOptions):
    """The options of the step `tuples`; each field is an option of the command `keras-retrieval tuples`."""

    source: Annotated[
        Path,
        Argument(
            "Folder or file that the tuples are made from: 3D models, photos, descriptors, a .pkl or .csv file. Photos "
            "and descriptors can be at an address (extra cloud).",
            kind=Reads("any", TuplesError, addresses=True),
        ),
    ] = field(kw_only=False)
    output: Annotated[Path, Argument("File to write, such as tuples.npz.", kind=Writes("file", FolderError))] = field(
        kw_only=False
    )
    photos: Annotated[
        Path | None,
        Option(
            "Folder of the photos, or its address (extra cloud), in which every photo of the tuples must exist. "
            "Without it, the folder that SOURCE names is checked, if it names one.",
            kind=Reads("folder", TuplesError, addresses=True),
        ),
    ] = None
    missing: Annotated[
        str,
        Option(
            "Photos of the source that do not exist: error ends the run and lists them; skip lists them and leaves "
            "their tuples out.",
            choices=MISSING,
        ),
    ] = "error"
    copies: Annotated[
        bool,
        Option(
            "Find copies of photos, as `duplicates` does, so that they are neither positives nor negatives of each "
            "other; the photos must be at hand."
        ),
    ] = True
    duplicates: Annotated[
        Path | None,
        Option(
            "The duplicates.json that `duplicates` wrote of the same photos, or its folder: copies are not searched.",
            kind=Reads("any", DuplicatesError, "`keras-retrieval duplicates PHOTOS` makes it"),
        ),
    ] = None
    rule: Annotated[
        str,
        Option(
            "3D models: how positives are chosen among the photos with the nearest cameras (Radenovic et al. ECCV "
            "2016): m1 nearest descriptors, m2 most shared 3D points, m3 random among those that share enough points "
            "at a similar scale. verified, for a folder that reconstruct made: all photos that were verified to match, "
            "also those in no model, which are more where photos of an object are few or small.",
            choices=RULES,
        ),
    ] = "m3"
    singletons: Annotated[
        bool,
        Option(
            "A folder that reconstruct made: add the photos that were verified with no other, each as a cluster of its "
            "own without a positive. They are negatives of others, and with `train --small-classes repeat` classes of "
            "one photo, so that a network that learns from few objects sees many."
        ),
    ] = False
    positives: Annotated[
        int | None,
        Option(
            f"Maximum number of positives per query, for 3D models, folders, positions and manifolds. If not given: "
            f"{POSITIVES} for 3D models and folders, no maximum for positions and manifolds.",
            at_least=1,
        ),
    ] = None
    cameras: Annotated[
        int, Option("3D models: number of nearest cameras whose photos are candidates for positives.", at_least=1)
    ] = 100
    shared: Annotated[
        float,
        Option(
            "Rule m3: a positive must see at least this share of the 3D points that the query sees.", above=0, at_most=1
        ),
    ] = 0.2
    scale_change: Annotated[
        float,
        Option(
            "Rule m3: maximum factor by which objects may appear larger or smaller in a positive than in the query. It "
            "is measured as the median over the 3D points that both photos see.",
            at_least=1,
        ),
    ] = 1.5
    descriptors: Annotated[
        Path | None,
        Option(
            "Rule m1: folder of the photos' descriptors, made by `extract`. Without it, the descriptors that "
            "`reconstruct` computed.",
            kind=described_folder,
        ),
    ] = None
    positions: Annotated[
        str | None,
        Option(
            "Where the photos in a folder SOURCE were taken: exif for the GPS positions in their metadata, or a table "
            "as written by `positions`. Photos without a position are left out.",
            kind=positions_source,
        ),
    ] = None
    heading: Annotated[
        float | None,
        Option(
            "Positions: maximum angle in degrees between the headings of a query and its positive. A photo without a "
            "heading is then neither a query nor a positive. Names may have one: @..@panorama@tile@heading@..@.jpg.",
            above=0,
            at_most=180,
        ),
    ] = None
    radius: Annotated[float, Option("Positions: maximum distance of a positive, in metres.", above=0)] = 10.0
    apart: Annotated[float, Option("Positions: minimum distance of a negative, in metres.", above=0)] = 25.0
    cells: Annotated[
        float | None,
        Option(
            "Positions: make classes of the photos in square cells with a side of so many metres (Berton et al. CVPR "
            "2022; 10 there), for `train --batch-classes`. Positives are then of the same class.",
            above=0,
        ),
    ] = None
    cell_heading: Annotated[
        float | None,
        Option(
            "--cells: make classes also by heading, in intervals of so many degrees (30 in CosPlace). Photos without a "
            "heading are left out.",
            above=0,
            at_most=360,
        ),
    ] = None
    cell_groups: Annotated[
        str,
        Option(
            "--cells: divide the classes into groups, NxL: two classes of a group are N cells or L intervals of "
            "headings apart or more, so that neighbours are never in one batch."
        ),
    ] = "5x2"
    manifold: Annotated[
        bool, Option("Mine tuples from a folder of descriptors, without labels (Iscen et al. CVPR 2018).")
    ] = False
    neighbours: Annotated[
        int, Option("Manifolds: nearest neighbours of each photo in the graph of mutual neighbours.", at_least=1)
    ] = 30
    loose: Annotated[
        int | None,
        Option(
            "Manifolds: nearest neighbours of each photo in a second graph, with which negatives are chosen; choose "
            "more than --neighbours. If not given: negatives are chosen with the same graph as positives.",
            at_least=1,
        ),
    ] = None
    alike: Annotated[
        int,
        Option(
            "Manifolds: number of nearest photos among which positives are chosen; should be below the number of "
            "photos of an object.",
            at_least=1,
        ),
    ] = 50
    unlike: Annotated[
        int,
        Option(
            "Manifolds: number of nearest photos among which negatives are chosen; should be above the number of "
            "photos of an object.",
            at_least=1,
        ),
    ] = 50
    anchors: Annotated[
        str,
        Option(
            "Manifolds: which photos are queries: maxima (local maxima of the random walk's stationary distribution, "
            "as published) or all (every photo with a neighbour in the graph).",
            choices=ANCHORS,
        ),
    ] = "maxima"
    validation: Annotated[
        float,
        Option(
            "Share of the photos of objects with a positive that is set aside for validation, in whole objects.",
            at_least=0,
            below=1,
        ),
    ] = 0.1
    negatives: Annotated[
        int,
        Option(
            "Negatives per query, each from another cluster, that training will choose; the split leaves enough "
            "clusters for them.",
            at_least=0,
        ),
    ] = 5
    seed: Annotated[int, Option("Random seed of the choice of positives and of the split.", at_least=0)] = 0

    def check(self) -> None:
        """Checks the range of each option, that `radius` is at most `apart`, the options of copies, and `output`.

        Raises:
            ArgumentError: an option is out of range, or has no effect without another; `radius` is larger than `apart`;
                the name of `output` does not end in .npz; or two options do not fit together, such as `manifold` and
                positions.
        """
        super().check()
        address = address_of(self.source)
        if address and self.source.suffix.lower() in (".pkl", *SUFFIXES, *SPREADSHEETS):
            raise TuplesError(
                f"{shown(address)} is an address, where only photos, and descriptors with --manifold, are read: copy "
                "other sources to this machine first"
            )
        if self.radius > self.apart:
            raise ArgumentError(f"--radius must be at most --apart, {self.apart:g}, got {self.radius}")
        if self.manifold and (self.positions is not None or self.heading is not None):
            raise ArgumentError("--manifold uses descriptors alone: leave out --positions and --heading")
        for name, rules in {
            "descriptors": ("m1",),
            "shared": ("m3",),
            "scale_change": ("m3",),
            "cameras": ("m1", "m2", "m3"),
        }.items():
            if self.rule not in rules and self.is_given(name):
                rule = f"--rule {', '.join(rules)}"
                raise ArgumentError(f"--{name.replace('_', '-')} is for {rule}: leave it out with --rule {self.rule}")
        along = groups_of(self.cell_groups)
        if self.cells is None and self.is_given("cell_groups"):
            raise ArgumentError("--cell-groups needs --cells, the side of the cells in metres")
        if self.cell_heading is not None:
            if self.cells is None:
                raise ArgumentError("--cell-heading needs --cells, the side of the cells in metres")
            intervals(self.cell_heading, along[1])
        if self.manifold and self.cells is not None:
            raise ArgumentError("--manifold uses descriptors alone: leave out --cells")
        if self.positions is not None and self.objects != AUTO:
            raise ArgumentError(f"--positions and --objects {self.objects} are two sources of positives: give one")
        if self.duplicates is not None and not self.copies:
            raise ArgumentError("--duplicates names copies: leave out --no-copies")
        if self.output.suffix != ".npz":
            raise ArgumentError(f"{self.output}: the file of tuples must end in .npz")

    @property
    def positives_per_query(self) -> int:
        """Maximum number of positives per query for 3D models and folders: `positives`, or 3 if it is None."""
        return self.positives or POSITIVES

    def is_given(self, name: str) -> bool:
        """Returns whether an option differs from its default."""
        return bool(getattr(self, name) != next(one.default for one in fields(self) if one.name == name))
