"""Distinguishes requests that a storage service refuses from temporary failures, after which requests are repeated."""

_TEMPORARY = (408, 429)  # HTTP client errors that mean "try again"


def is_final(error: Exception) -> bool:
    """Return whether a failed request would fail again if it were repeated.

    Args:
        error: The exception raised by a storage client. The cause of an s3fs exception is a botocore exception.
    """
    cause = error.__cause__ or error
    # botocore raises ValueError for an invalid endpoint.
    if isinstance(error, PermissionError) or type(cause) is ValueError:
        return True
    match type(cause).__module__.partition(".")[0]:
        case "botocore":
            return _is_final_of_s3(cause)
        case "huggingface_hub":
            return _is_final_of_hugging_face(cause)
        case _:
            return _is_refusal(getattr(cause, "status", None))  # only errors of the web client have a status


def _is_final_of_s3(error: BaseException) -> bool:
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        # S3 reports this temporary failure with the status of an invalid request.
        if error.response["Error"].get("Code") == "RequestTimeout":
            return False
        return _is_refusal(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    wrong_settings = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.ProfileNotFound,
        exceptions.ParamValidationError,
    )
    return isinstance(error, wrong_settings)


def _is_final_of_hugging_face(error: BaseException) -> bool:
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(error, errors.OfflineModeIsEnabled) or _is_refusal(status)


def _is_refusal(status: object) -> bool:
    return isinstance(status, int) and 400 <= status < 500 and status not in _TEMPORARY
