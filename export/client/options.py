"""The options of the steps describe and query."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.pipelines.command.kinds import Reads, Writes
from keras_retrieval.pipelines.command.options import Argument, Option, Options
from keras_retrieval.pipelines.photos.query_box import BOX_HELP

from keras_retrieval.errors import ArgumentError

from ..http.tokens import read_token, token_file
from .errors import MissingPhotoError
from .retrieval_client import BATCH, MODEL, PORT, TIMEOUT, RetrievalClient

PEM = Reads("file")
PHOTO = Reads("file", MissingPhotoError)


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions(Options):
    """The options of the connection to a server, and of all requests over this connection."""

    server: Annotated[str, Option(f"HOST or HOST:PORT of the server's gRPC; port {PORT} if none is given.")] = (
        f"localhost:{PORT}"
    )
    model: Annotated[str, Option("Name of the served network.")] = MODEL
    version: Annotated[int | None, Option("Version of the network; the newest if not given.", at_least=1)] = None
    batch: Annotated[int, Option("Photos per request.", at_least=1)] = BATCH
    timeout: Annotated[float, Option("Seconds for a request, including all attempts.", above=0, at_most=10**6)] = (
        TIMEOUT
    )
    tls: Annotated[
        bool, Option("Encrypt the connection and verify the server's certificate with the system's authorities.")
    ] = False
    ca: Annotated[
        Path | None,
        Option("PEM file of certificate authorities to trust instead of the system's; turns encryption on.", kind=PEM),
    ] = None
    certificate: Annotated[
        Path | None,
        Option(
            "PEM file of your own certificate, for servers that require one; turns encryption on, needs --key.",
            kind=PEM,
        ),
    ] = None
    key: Annotated[Path | None, Option("PEM file of the private key of --certificate.", kind=PEM)] = None
    token: Annotated[
        Path | None,
        Option("File whose first line is the secret of a server that was started with --token.", kind=token_file),
    ] = None

    def check(self) -> None:
        """Checks ranges, and that --certificate and --key are given together.

        Raises:
            ArgumentError: an option is out of range, or only one of --certificate and --key is given.
        """
        super().check()
        if (self.certificate is None) != (self.key is None):
            raise ArgumentError("--certificate and --key belong together: give both or neither")

    def connect(self) -> RetrievalClient:
        """Creates a client for the server. The caller must close the client or use it in a `with` statement."""
        return RetrievalClient(
            self.server,
            model=self.model,
            version=self.version,
            batch=self.batch,
            timeout=self.timeout,
            tls=self.tls,
            ca=self.ca,
            certificate=self.certificate,
            key=self.key,
            token=None if self.token is None else read_token(self.token).secret,
        )


@dataclass(frozen=True, kw_only=True)
class DescribeOptions(ConnectionOptions):
    """The options of the step `describe`."""

    photos: Annotated[list[Path], Argument("Photos to describe: JPEG, PNG, GIF, WebP or BMP files.", kind=PHOTO)] = (
        field(kw_only=False)
    )
    output: Annotated[
        Path | None,
        Option(
            "File to write the descriptors to, (photos, dimensions) .npy; printed as JSON if not given.",
            kind=Writes("file"),
        ),
    ] = None
    skip: Annotated[
        bool,
        Option(
            "Continue after a photo that the server cannot read; its row is zero. Without this option, it is an error."
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class QueryOptions(ConnectionOptions):
    """The options of the step `query`."""

    photos: Annotated[list[Path], Argument("Photos to search with: JPEG, PNG, GIF, WebP or BMP files.", kind=PHOTO)] = (
        field(kw_only=False)
    )
    k: Annotated[int, Option("Number of neighbours of each photo.", at_least=1, flags="--k -k")] = 10
    box: Annotated[str | None, Option(BOX_HELP)] = None
    min_probability: Annotated[
        float,
        Option(
            "Give only photos that show the object of the photo with at least this probability, such as 0.9, if the "
            "index of the server is calibrated (`keras-retrieval calibrate`); 0 for all that it gives.",
            at_least=0,
            below=1,
        ),
    ] = 0.0
    where: Annotated[
        list[str] | None,
        Option(
            "Condition on the index's columns, as for `search`, such as 'year >= 2010'; may be given several times."
        ),
    ] = None
