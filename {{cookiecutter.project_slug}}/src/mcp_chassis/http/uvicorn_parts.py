"""Everything of uvicorn that its documentation does not promise, imported here alone.

`tests/chassis/test_uvicorn_contract.py` of the template checks that each part is still as the chassis uses it.
"""

from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import ChangeReload

INVALID_REQUEST_LOG = "Invalid HTTP request"
"""How the log message of `HttpToolsProtocol` begins when its parser refuses what it is fed."""

__all__ = ["INVALID_REQUEST_LOG", "ChangeReload", "Config", "HttpToolsProtocol", "Server"]
