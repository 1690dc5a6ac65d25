"""How event frames become pictures for the trunk: inputs by name, ours and those of others.

``resolve(name, representation)`` gives the input for what a set of shards holds. See
docs/event-inputs.md.
"""

from velora.inputs.base import EventInput as EventInput
from velora.inputs.content import Content as Content
from velora.inputs.content import content_of as content_of
from velora.inputs.registry import names as names
from velora.inputs.registry import resolve as resolve
