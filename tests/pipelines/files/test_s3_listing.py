"""The parser of S3's listings says what botocore's says."""

import asyncio
from xml.sax.saxutils import escape

import pytest

from pipelines.files.s3_listing import _parser, s3_session

pytest.importorskip("aiobotocore")

SPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def page(names, more="", prefixes=(), space=SPACE, encoded=False):
    contents = "".join(
        f"<Contents><Key>{escape(name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{number:032x}&quot;</ETag><Size>{number}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for number, name in enumerate(names)
    )
    common = "".join(f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in prefixes)
    token = f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    kind = "<EncodingType>url</EncodingType>" if encoded else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult{space}><Name>bucket</Name><Prefix>p/</Prefix>{kind}'
        f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{token}{contents}{common}</ListBucketResult>"
    ).encode()


def parsed(made, body, status=200):
    from botocore.session import get_session

    shape = get_session().get_service_model("s3").operation_model("ListObjectsV2").output_shape
    answer = asyncio.run(made.parse({"body": body, "headers": {}, "status_code": status}, shape))
    for entry in answer.get("Contents", []):
        del entry["LastModified"]
        entry.pop("StorageClass", None)
    return answer


@pytest.mark.parametrize(
    "body",
    [
        page(["p/a.jpg", "p/ü & <b>.jpg", "p/\n"]),
        page(["p/a.jpg"], more="token=="),
        page([], prefixes=["p/x/", "p/y/"]),
        page([]),
        page(["p/a%20b.jpg"], encoded=True),
        page(["p/a.jpg"], space=""),
    ],
)
def test_a_page_is_parsed_as_botocore_does(body):
    from aiobotocore.parsers import AioRestXMLParser

    assert parsed(_parser()(), body) == parsed(AioRestXMLParser(), body)


def test_errors_are_those_of_botocore():
    from aiobotocore.parsers import AioRestXMLParser
    from botocore.parsers import ResponseParserError

    with pytest.raises(ResponseParserError):
        parsed(_parser()(), page(["p/a.jpg"])[:-30])
    body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    assert parsed(_parser()(), body, 403) == parsed(AioRestXMLParser(), body, 403)


def test_sessions_use_the_parser_unless_the_user_configures_one(monkeypatch):
    import fsspec

    factory = s3_session(0).get_component("response_parser_factory")
    assert isinstance(factory.create_parser("rest-xml"), _parser())
    assert not isinstance(factory.create_parser("json"), _parser())
    monkeypatch.setitem(fsspec.config.conf, "s3", {"profile": "other"})
    assert s3_session(0) is None
