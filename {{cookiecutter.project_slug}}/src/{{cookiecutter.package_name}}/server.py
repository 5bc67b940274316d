"""What this server serves, in one look."""

from mcp_chassis import Service

from .desk import open_desk
from .prompts import PROMPTS
from .resources import RESOURCES
from .settings import Settings
from .tools import TOOLS

SERVER = Service(
    module=__name__, settings=Settings, lifespan=open_desk, tools=TOOLS, resources=RESOURCES, prompts=PROMPTS
)
