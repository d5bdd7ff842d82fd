"""CloudEvents 1.0.2 over HTTP, in and out: events become messages, and messages events.

After the CloudEvents core specification, its JSON event format and its HTTP protocol binding, all 1.0.2. An event's
attributes travel as headers of the message (`ce-type`, …), its data is the content, byte for byte.
"""

from streambroker.transport.cloudevents.asking import Format, format_of, wants_batch
from streambroker.transport.cloudevents.reading import Mode, batch, event, mode_of
from streambroker.transport.cloudevents.writing import written, written_batch

__all__ = ["Format", "Mode", "batch", "event", "format_of", "mode_of", "wants_batch", "written", "written_batch"]
