"""The options of the step serve, and functions that convert them to the configuration and settings of the server."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from keras_retrieval.pipelines.command.colmap import require_colmap
from keras_retrieval.pipelines.command.kinds import Reads, Writes, require_package
from keras_retrieval.pipelines.command.options import Argument, Option
from keras_retrieval.pipelines.descriptors.folder import described_folder
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.files.remote_errors import shown
from keras_retrieval.pipelines.local_features.matchers import MATCHER_HELP, MUTUAL, check_matcher

from keras_retrieval.errors import ArgumentError

from ..folder_index.following import Following
from ..http.access_options import AccessOptions
from ..http.base_path import checked_base_path
from ..http.hosts import address_to_listen_on
from ..http.tokens import read_token
from ..index_contract.calibration import CALIBRATION_HELP, MIN_PROBABILITY_HELP
from ..index_contract.contract import NeighbourIndex
from ..index_contract.errors import CalibrationError
from ..indexes.calibrated import LiveCalibration
from ..indexes.kinds import index_to_read, remote_index
from ..indexes.verified_search import LOCAL_HELP, VERIFY_HELP, VerifiedSearch, check_matching, open_local_features
from ..search_page.probabilities import Judge, Judging, no_judge
from .batching_parameters import BatchingParameters
from .config import model_config, read_batching_parameters, read_model_config, read_ssl_config
from .errors import MissingConfigError, ServerConfigError
from .server import LARGEST_MESSAGE, REST_BYTES, ServerSettings
from .version_folders import find_models

NEEDED = {"grpc_health": "grpcio-health-checking", "tensorflow_serving": "tensorflow-serving-api"}


FOLDER_SECONDS = 0.5  # between two looks for the first model of a folder
CONFIG = Reads("file", MissingConfigError)


@dataclass(frozen=True, kw_only=True)
class ServeOptions(AccessOptions):
    """The options of the step `serve`."""

    serving: Annotated[
        Path | None,
        Argument(
            "Folder of models, SERVING/NAME/VERSION, or of one model, SERVING/VERSION.",
            kind=Reads("folder", ServerConfigError, "keras-retrieval export-saved-model writes SERVING/NAME/1"),
        ),
    ] = field(default=None, kw_only=False)
    index: Annotated[
        str | None,
        Option(
            "Index to search, a folder, its address such as s3://BUCKET/INDEX, or milvus://HOST:PORT/COLLECTION: adds"
            " the signature `search` and the search page at /.",
            kind=index_to_read,
        ),
    ] = None
    index_copy: Annotated[
        Path | None,
        Option(
            "Folder for the copy of an index at an address, which several servers of this machine may share; by default"
            " in the user's cache folder.",
            kind=Writes("folder", FolderError),
        ),
    ] = None
    photos: Annotated[
        Path | None,
        Option(
            "Folder of the index's photos, for the search page; the folder that was indexed if not given.",
            kind=Reads("folder", ArgumentError),
        ),
    ] = None
    reload_within: Annotated[
        float,
        Option(
            "Seconds within which a new build of --index is loaded, at a random moment or at that of --replica, so that"
            " the servers of one index do not all load it at once.",
            at_least=0,
            at_most=10**6,
        ),
    ] = 0.0
    replica: Annotated[
        str,
        Option(
            "Number of this server among the servers of --index, K/N such as 2/3: fixes its moment in --reload-within."
        ),
    ] = ""
    verify: Annotated[int, Option(VERIFY_HELP, at_least=0)] = 0
    local: Annotated[Path | None, Option(LOCAL_HELP, kind=described_folder)] = None
    min_probability: Annotated[float, Option(MIN_PROBABILITY_HELP, at_least=0, below=1)] = 0.0
    calibration: Annotated[Path | None, Option(CALIBRATION_HELP, kind=Reads("file", CalibrationError))] = None
    matcher: Annotated[str, Option(f"{MATCHER_HELP}.", kind=check_matcher)] = MUTUAL
    base_path: Annotated[
        str,
        Option(
            "Prefix of all paths of the REST port, such as /photos, for a reverse proxy that passes these paths on "
            "unchanged."
        ),
    ] = ""
    host: Annotated[
        str, Option("Address to listen on; 0.0.0.0 accepts connections from other machines.", kind=address_to_listen_on)
    ] = "127.0.0.1"
    port: Annotated[int, Option("gRPC port; 0 for any free one.", at_least=0, at_most=65535)] = 8500
    rest_port: Annotated[int, Option("REST port; 0 for any free one.", at_least=0, at_most=65535)] = 8501
    model_name: Annotated[
        str, Option("Serve only this model of SERVING; if SERVING is one model's folder, the name to serve it under.")
    ] = ""
    model_config_file: Annotated[
        Path | None, Option("TensorFlow Serving's ModelServerConfig (text format), in place of SERVING.", kind=CONFIG)
    ] = None
    wait: Annotated[
        bool,
        Option("Wait for the first version of each model, as TensorFlow Serving does; otherwise none is an error."),
    ] = False
    enable_batching: Annotated[bool, Option("Compute requests that arrive together as one batch.")] = False
    batching_parameters_file: Annotated[
        Path | None, Option("TensorFlow Serving's BatchingParameters (text format); turns batching on.", kind=CONFIG)
    ] = None
    ssl_config_file: Annotated[
        Path | None,
        Option("TensorFlow Serving's SSLConfig (text format with PEM texts): TLS on both ports.", kind=CONFIG),
    ] = None
    file_system_poll_wait_seconds: Annotated[
        float,
        Option("Seconds between two scans for new versions; 0 scans once, at the start.", at_least=0, at_most=10**6),
    ] = 1.0
    rest_timeout_seconds: Annotated[float, Option("Seconds that a REST request may take.", at_least=0.001)] = 30.0
    max_in_flight: Annotated[
        int, Option("Concurrent requests, waiting or computing; more are refused.", at_least=1)
    ] = 64
    max_message_bytes: Annotated[int, Option("Size of the largest request in bytes.", at_least=1)] = LARGEST_MESSAGE
    max_rest_bytes: Annotated[
        int, Option("Size of the largest REST request in bytes, if that is less than --max-message-bytes.", at_least=1)
    ] = REST_BYTES
    reconnect_seconds: Annotated[
        float,
        Option(
            "Seconds after which a gRPC client connects again, once its requests are answered, so that it finds the"
            " servers that a name has by then; 0 for never.",
            at_least=0,
            at_most=10**6,
        ),
    ] = 0.0
    grace_seconds: Annotated[
        float, Option("Seconds to finish running requests after Ctrl-C or SIGTERM.", at_least=0, at_most=10**6)
    ] = 30.0

    @property
    def following(self) -> Following:
        """How the server follows changes of its index folder.

        Raises:
            ArgumentError: --replica is not K/N.
        """
        return Following(self.reload_within, *_replica(self.replica), steadfast=True)

    def check_packages(self) -> None:
        """Checks that the packages for serving are installed, without importing them.

        Raises:
            MissingExtraError: one of them is not installed.
        """
        check_packages()
        if self.verify:
            require_colmap()

    def check(self) -> None:
        """Checks ranges and --base-path, and that --photos and --verify are given only together with --index.

        Raises:
            ArgumentError: an option is out of range, --base-path is not a path, --replica is not K/N or is given
                without --reload-within, --photos, --verify, --min-probability, --calibration, --reload-within or
                --replica is given without --index, --local or --matcher without --verify, or --photos is
                not a folder.
        """
        super().check()
        checked_base_path(self.base_path)
        if self.photos is not None and self.index is None:
            raise ArgumentError("--photos is the folder of --index's photos: give both")
        if self.verify and self.index is None:
            raise ArgumentError("--verify verifies the photos of --index: give both")
        if self.index is not None and self.verify and self.local is None and (address := remote_index(self.index)):
            raise ArgumentError(
                f"--verify needs --local with the index {shown(address)}: servers follow an index at an address "
                "without its local features; name the folder of descriptors that has them, or its address"
            )
        if self.local is not None and not self.verify:
            raise ArgumentError("--local is for --verify: give --verify 100, or leave --local out")
        for label, value in {"min-probability": self.min_probability, "calibration": self.calibration}.items():
            if value and self.index is None:
                raise ArgumentError(f"--{label} is for the photos of --index: give both")
        for label, given in {"reload-within": self.reload_within, "replica": self.replica}.items():
            if given and self.index is None:
                raise ArgumentError(f"--{label} is for the servers of --index: give both")
        if self.index_copy is not None and (self.index is None or remote_index(self.index) is None):
            raise ArgumentError("--index-copy is for an --index at an address such as s3://BUCKET/INDEX: leave it out")
        if self.replica and not self.reload_within:
            raise ArgumentError("--replica is a moment in --reload-within: give both, such as --reload-within 60")
        _ = self.following
        check_matching(self.matcher, self.verify)
        if self.photos is not None and not self.photos.is_dir():
            raise ArgumentError(
                f"--photos {self.photos} {'is not a folder' if self.photos.exists() else 'does not exist'}"
            )


def _replica(text: str) -> tuple[int, int]:
    """The number of a server and the number of servers in a text K/N; zeros for no text."""
    if not text:
        return 0, 0
    number, _, count = text.partition("/")
    if not (text.isascii() and number.isdigit() and count.isdigit() and len(text) < 20):
        raise ArgumentError(f"--replica must be K/N such as 2/3, got {text}")
    if not 1 <= int(number) <= int(count):
        raise ArgumentError(f"--replica K/N must have a number K from 1 to N, got {text}")
    return int(number), int(count)


def check_packages() -> None:
    """Checks that the packages for serving are installed, without importing them.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    for module, package in NEEDED.items():
        require_package(module, package, "serving")


def served_models(options: ServeOptions, stopped: threading.Event) -> Any:
    """Makes the ModelServerConfig of the models to serve, from --model-config-file or else from the folder SERVING.

    With --wait, waits until SERVING contains a model.

    Args:
        options: options of the step `serve`.
        stopped: event that ends the wait; the configuration then has no model.

    Raises:
        ArgumentError: neither SERVING nor --model-config-file is given.
        ServerConfigError: SERVING does not exist or contains no model, or the file cannot be parsed.
        MissingConfigError: the file does not exist.
    """
    if options.model_config_file is not None:
        return read_model_config(options.model_config_file)
    if options.serving is None:
        raise ArgumentError("give SERVING, a folder of models, or --model-config-file")
    while True:
        try:
            return model_config(find_models(options.serving, options.model_name))
        except ServerConfigError:
            if not options.wait:
                raise
        if stopped.wait(FOLDER_SECONDS):
            return model_config({})


def server_settings(options: ServeOptions, index: NeighbourIndex | None) -> ServerSettings:
    """Makes the settings of a server, and reads its batching and TLS configuration files.

    Args:
        options: options of the step `serve`.
        index: the open index of --index; None without an index.

    Raises:
        ServerConfigError: a configuration file cannot be parsed.
        MissingConfigError: a configuration file does not exist.
        FolderError, LocalFeaturesError: with --verify, the index has no local features, or their extractor is gone.
        CalibrationError: with --min-probability or --calibration, there is no calibration that fits the index.
    """
    verifier = local = None
    judging: Judging = no_judge
    if options.index is not None and options.verify:
        local = open_local_features(options.index, options.local)
        verifier = VerifiedSearch(local, options.verify, options.matcher)
    if options.index is not None and index is not None:
        facts = None if local is None else local.facts
        live = LiveCalibration(
            index, options.index, options.calibration, options.min_probability, facts, options.matcher
        )
        judging = _judging(live, options.min_probability)
    return ServerSettings(
        host=options.host,
        port=options.port,
        rest_port=options.rest_port,
        batching=_batching(options),
        ssl=None if options.ssl_config_file is None else read_ssl_config(options.ssl_config_file),
        poll_seconds=options.file_system_poll_wait_seconds,
        rest_seconds=options.rest_timeout_seconds,
        max_in_flight=options.max_in_flight,
        max_message_bytes=options.max_message_bytes,
        max_rest_bytes=options.max_rest_bytes,
        grpc_arguments=_reconnecting(options.reconnect_seconds),
        wait=options.wait,
        index=index,
        photos=options.photos,
        base_path=checked_base_path(options.base_path),
        allow_hosts=tuple(options.allow_host or ()),
        token=None if options.token is None else read_token(options.token),
        verifier=verifier,
        judging=judging,
    )


def _reconnecting(seconds: float) -> tuple[tuple[str, int | str], ...]:
    return (("grpc.max_connection_age_ms", max(1, round(1000 * seconds))),) if seconds else ()


def _judging(live: LiveCalibration, min_probability: float) -> Judging:
    """What judges hits by a calibration that may be made or replaced meanwhile."""

    def judge() -> Judge | None:
        answers = live.answers()
        return None if answers is None else Judge(answers, min_probability)

    return judge


def _batching(options: ServeOptions) -> BatchingParameters | None:
    if options.batching_parameters_file is not None:
        return read_batching_parameters(options.batching_parameters_file)
    return BatchingParameters() if options.enable_batching else None
