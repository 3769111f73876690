"""Listings of S3 in a third of the time: botocore's parser takes nearly all of it.

The parser of this module reads pages of listings by ElementTree, and gives everything else to that of botocore. Times
are left as text, because the etag says whether a file has changed.
"""

from functools import cache
from typing import Any
from xml.etree import ElementTree

_TEXTS = ("Name", "Prefix", "Delimiter", "StartAfter", "EncodingType", "ContinuationToken", "NextContinuationToken")


def s3_session(_process: int) -> Any | None:
    """Returns a session of aiobotocore with this parser, for s3fs; None if the user's configuration has one.

    Args:
        _process: the number of the process, of which each needs a session of its own.
    """
    import fsspec

    if {"session", "profile"} & fsspec.config.conf.get("s3", {}).keys():
        return None
    return _session(_process)


@cache
def _session(_process: int) -> Any:
    from aiobotocore.parsers import AioResponseParserFactory
    from aiobotocore.session import AioSession

    class Factory(AioResponseParserFactory):
        def create_parser(self, protocol_name: str) -> Any:
            made = _parser() if protocol_name == "rest-xml" else None
            return made(**self._defaults) if made else super().create_parser(protocol_name)

    session = AioSession()
    session.register_component("response_parser_factory", Factory())
    return session


@cache
def _parser() -> Any:
    from aiobotocore.parsers import AioRestXMLParser

    class Parser(AioRestXMLParser):
        def _add_modeled_parse(self, response: Any, shape: Any, final_parsed: dict[str, Any]) -> Any:
            if shape is not None and shape.name == "ListObjectsV2Output":
                try:
                    final_parsed |= listing(response["body"])
                except (ElementTree.ParseError, KeyError, ValueError, TypeError):  # botocore says what is wrong
                    pass
                else:
                    return final_parsed
            return super()._add_modeled_parse(response, shape, final_parsed)

    return Parser


def listing(body: bytes) -> dict[str, Any]:
    """Parses a page of a listing (ListObjectsV2) as botocore does, with times as text.

    Raises:
        ParseError, KeyError, ValueError, TypeError: it is not such a page.
    """
    root = ElementTree.fromstring(body)
    space = root.tag[: root.tag.find("}") + 1]
    found: dict[str, Any] = {"IsTruncated": root.findtext(f"{space}IsTruncated") == "true"}
    found |= {name: text for name in _TEXTS if (text := root.findtext(f"{space}{name}")) is not None}
    contents = []
    for entry in root.iter(f"{space}Contents"):
        texts = {part.tag: part.text for part in entry}
        size = int(texts[f"{space}Size"])  # type: ignore[arg-type]
        etag, changed = texts.get(f"{space}ETag"), texts.get(f"{space}LastModified")
        contents.append({"Key": texts[f"{space}Key"] or "", "Size": size, "ETag": etag or "", "LastModified": changed})
    prefixes = [{"Prefix": entry.findtext(f"{space}Prefix") or ""} for entry in root.iter(f"{space}CommonPrefixes")]
    found |= {"Contents": contents} if contents else {}
    return found | ({"CommonPrefixes": prefixes} if prefixes else {})
