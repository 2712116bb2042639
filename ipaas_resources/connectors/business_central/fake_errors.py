"""The errors of the fake Business Central, in the product's words (BC webservices/dynamics-error-codes.md)."""

from __future__ import annotations

from ipaas_resources.connectors.fakes import dumps


class BusinessCentralError(Exception):
    """An answer with an error body; `status` and `code` are the product's."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.text = message

    def body(self, correlation: str) -> bytes:
        """The JSON of the answer; the product ends every message with a correlation id."""
        message = f"{self.text}  CorrelationId:  {correlation}."
        return dumps({"error": {"code": self.code, "message": message}})


def bad_request(message: str, code: str = "BadRequest") -> BusinessCentralError:
    """400: the request is malformed, or asks for what the page does not offer."""
    return BusinessCentralError(400, code, message)


def refused(message: str, code: str = "Application_DialogException") -> BusinessCentralError:
    """400: the application refuses the data."""
    return BusinessCentralError(400, code, message)


def no_such_segment(segment: str) -> BusinessCentralError:
    """404: an entity set or a property that the route does not have."""
    return BusinessCentralError(
        404, "BadRequest_ResourceNotFound", f"Resource not found for the segment '{segment}'."
    )


def no_such_record(type_name: str, identifier: str) -> BusinessCentralError:
    """404: the record is not there."""
    return BusinessCentralError(
        404,
        "Internal_RecordNotFound",
        f"The {type_name} does not exist. Identification fields and values: SystemId='{{{identifier}}}'",
    )


def not_allowed(method: str, set_name: str) -> BusinessCentralError:
    """405: the page does not insert, modify or delete."""
    return BusinessCentralError(
        405,
        "BadRequest_MethodNotAllowed",
        f"'{method}' requests for '{set_name}' of EdmType 'EntityCollection' are not allowed within Microsoft "
        "Dynamics 365 Business Central OData web services.",
    )


def entity_changed(status: int) -> BusinessCentralError:
    """409 (or 412): the token is not the current one."""
    return BusinessCentralError(
        status, "Request_EntityChanged", "Another user has already changed the record."
    )


def no_token() -> BusinessCentralError:
    """400: PATCH or DELETE without If-Match."""
    return bad_request(
        "Could not validate the client concurrency token required by the service. Please provide a valid token in "
        "the client request.",
        "BadRequest_InvalidToken",
    )
