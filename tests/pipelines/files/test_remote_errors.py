"""What messages say of refused requests, and what they never say: passwords, tokens and signatures."""

from pathlib import Path

import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.command.kinds import Reads, Writes
from pipelines.files.remote import RemoteError, RemoteFolder, address_of, named, place_text, retried
from pipelines.files.remote_errors import advice, error_text, shown


class ClientError(Exception):
    """Stands for botocore's."""

    def __init__(self, code, status, text=""):
        super().__init__(text or code)
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


class NoCredentialsError(Exception):
    pass


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NoCredentialsError("Unable to locate credentials"), "no credentials that are accepted: set AWS_PROFILE"),
        (caused(PermissionError("Access Denied"), ClientError("AccessDenied", 403)), "no right to this: grant it"),
        (
            caused(PermissionError("x"), ClientError("InvalidAccessKeyId", 403)),
            "the credentials are wrong: set AWS_PRO",
        ),
        (caused(PermissionError("x"), ClientError("SignatureDoesNotMatch", 403)), "the credentials are wrong"),
        (caused(PermissionError("x"), ClientError("RequestTimeTooSkewed", 403)), "the clock of this machine is wrong"),
        (caused(OSError(22, "x"), ClientError("ExpiredToken", 400)), "the credentials have expired: set AWS_PROFILE"),
        (caused(OSError(78, "x"), ClientError("PermanentRedirect", 301)), "another region: set AWS_DEFAULT_REGION"),
        (caused(OSError(22, "x"), ClientError("AuthorizationHeaderMalformed", 400)), "another region"),
    ],
)
def test_a_refusal_is_final_and_says_what_to_do(error, said):
    with pytest.raises(RemoteError, match=f"s3://bucket/out: .*{said}"):
        retried("s3://bucket/out", lambda: (_ for _ in ()).throw(error))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("gs://bucket/x", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("hf://datasets/a/b", "HF_TOKEN"),
        ("https://host/x", "FSSPEC_HTTPS"),
        ("abfs://x", "configure its package of fsspec"),
    ],
)
def test_each_storage_has_its_own_way_to_log_in(address, said):
    assert said in advice(address, ClientError("Unauthorized", 401))


SECRETS = [
    "https://user:s3cret@host/photos",
    "https://s3cret@host/photos",
    "https://host/photos?token=s3cret",
    "https://host/a.jpg?X-Amz-Signature=s3cret&X-Amz-Credential=s3cret",
    "https://host/a.jpg?sig=s3cret&se=2030",
    "cannot open 'https://user:s3cret@host:80/p?x=s3cret': AWS_SECRET_ACCESS_KEY=s3cret",
    "https://user:s3cret%40x@host/p a.jpg",
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_removed(text):
    assert "s3cret" not in shown(text)
    assert "host" in shown(text)
    assert "s3cret" not in error_text(ValueError(text))


@pytest.mark.parametrize("text", ["s3://bucket/a@b/c", "https://host/a@b.jpg", "no address? none", "a=b"])
def test_what_is_no_secret_stays(text):
    assert shown(text) == text


@pytest.mark.parametrize("place", [named, place_text])
def test_places_in_manifests_and_messages_have_no_secrets(place):
    assert place(Path("https://user:s3cret@host/photos")) == "https://host/photos"


def test_an_error_of_an_address_with_a_password_names_it_without(monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr("pipelines.files.remote.PATIENCE", 0)
    with pytest.raises(RemoteError, match=r"^http://127\.0\.0\.1:9/photos") as error:
        RemoteFolder(address_of("http://user:s3cret@127.0.0.1:9/photos")).files()
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["Invalid bucket name 'user:s3cret%40x@bucket'", "login failed for s3cret@x", "password s3cret%40x is wrong"],
)
def test_an_error_that_quotes_a_part_of_the_address_is_shown_without_its_password(text):
    assert "s3cret" in error_text(ValueError(text), "sftp://bucket/a")
    assert "s3cret" not in error_text(ValueError(text), "sftp://user:s3cret%40x@bucket/a")
    with pytest.raises(RemoteError, match=r"^sftp://bucket/a: ") as error:
        retried("sftp://user:s3cret%40x@bucket/a", lambda: (_ for _ in ()).throw(PermissionError(text)))
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("check", [Reads("folder", addresses=True), Writes("folder", addresses=True)])
def test_addresses_without_a_place_or_with_a_user_that_the_storage_does_not_take_are_refused(check):
    for place in ("s3://", "gs:", "memory:///"):
        with pytest.raises(ArgumentError, match=r"PLACE .*:// names no place there: give an address such as"):
            check("PLACE", Path(place))
    with pytest.raises(ArgumentError, match=r"PLACE s3://bucket/a: s3:// addresses have no user .* AWS_PROFILE"):
        check("PLACE", Path("s3://user:s3cret@bucket/a"))
