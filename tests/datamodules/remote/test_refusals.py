"""Tests that a run ends immediately on errors that retrying a request cannot resolve."""

from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import RequestInfo
from botocore import exceptions
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from multidict import CIMultiDict, CIMultiDictProxy
from s3fs.errors import translate_boto_error
from yarl import URL

from datamodules.remote.refusals import is_final


def _of_s3(code: str, status: int) -> Exception:
    answer = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error: Exception = translate_boto_error(exceptions.ClientError(answer, "GetObject"))  # type: ignore[arg-type]
    return error


def _of_web(status: int) -> Exception:
    url = URL("http://host/x")
    return aiohttp.ClientResponseError(
        RequestInfo(url, "GET", CIMultiDictProxy(CIMultiDict()), url), (), status=status, message="no"
    )


def _of_hugging_face(status: int) -> Exception:
    answer = SimpleNamespace(status_code=status, headers={}, request=None)
    return HfHubHTTPError("no", response=answer)  # type: ignore[arg-type]  # a stand-in


@pytest.mark.parametrize(
    "error",
    [
        PermissionError("no"),
        _of_s3("ExpiredToken", 400),
        _of_s3("InvalidToken", 400),
        _of_s3("SignatureDoesNotMatch", 403),
        _of_s3("AuthorizationHeaderMalformed", 400),
        exceptions.NoCredentialsError(),
        exceptions.ProfileNotFound(profile="other"),
        exceptions.ParamValidationError(report="invalid bucket name"),
        ValueError("Invalid endpoint: not-a-url"),
        _of_web(401),
        _of_web(403),
        _of_hugging_face(401),
        OfflineModeIsEnabled("offline"),
    ],
)
def test_refusal_is_final(error: Exception) -> None:
    assert is_final(error)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset"),
        TimeoutError(),
        _of_s3("SlowDown", 503),
        _of_s3("InternalError", 500),
        _of_s3("RequestTimeout", 400),
        exceptions.EndpointConnectionError(endpoint_url="http://host"),
        exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        _of_web(408),
        _of_web(429),
        _of_web(502),
        aiohttp.ClientPayloadError("cut"),
        _of_hugging_face(500),
    ],
)
def test_temporary_failure_is_not_final(error: Exception) -> None:
    assert not is_final(error)
