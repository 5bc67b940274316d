"""What several commands have in common on the command line."""

import argparse
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

HTTP_OPTIONS = argparse.ArgumentParser(add_help=False)
HTTP_OPTIONS.add_argument("--host", help="address to listen on (setting HOST)")
HTTP_OPTIONS.add_argument("--port", type=int, help="port to listen on (setting PORT)")
