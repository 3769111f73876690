"""The options of every step that listens over HTTP: under which names it is reached, and with which secret."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from keras_retrieval.pipelines.command.options import Option, Options

from .host_names import host_to_allow
from .tokens import token_file


@dataclass(frozen=True, kw_only=True)
class AccessOptions(Options):
    """Who may reach a server over HTTP."""

    allow_host: Annotated[
        list[str] | None,
        Option(
            "Name under which the server is reached, such as photos.example.org; .example.org for all names that end "
            "so, * for any. May be given several times. Other names are refused, except those of this machine.",
            kind=host_to_allow,
        ),
    ] = None
    token: Annotated[
        Path | None,
        Option(
            "File whose first line is a secret, which clients must send (Authorization: Bearer SECRET). The page asks "
            "for it once.",
            kind=token_file,
        ),
    ] = None
