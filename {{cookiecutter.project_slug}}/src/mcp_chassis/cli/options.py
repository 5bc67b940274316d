"""What several commands have in common on the command line."""

import argparse
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

ENV_OPTIONS = argparse.ArgumentParser(add_help=False)
ENV_OPTIONS.add_argument("--env-file", metavar="FILE", help="read settings from FILE in place of .env")

HTTP_OPTIONS = argparse.ArgumentParser(add_help=False, parents=[ENV_OPTIONS])
HTTP_OPTIONS.add_argument("--host", help="address to listen on (setting HOST)")
HTTP_OPTIONS.add_argument("--port", type=int, help="port to listen on (setting PORT)")
