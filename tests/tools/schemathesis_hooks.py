"""What the documents say in words alone: an event lies after 1969 and at most five minutes ahead, and in a query, too,
its id and its time go together."""

import schemathesis
from schemathesis import GenerationMode

EVENT = {"eventId": "e", "eventTime": "2026-01-01T00:00:00.123Z"}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Puts a legal moment where a legal request holds an arbitrary one."""
    if case.meta is not None and case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    if isinstance(case.body, dict) and "eventTime" in case.body:
        case.body = {**case.body, "eventTime": EVENT["eventTime"]}
    if EVENT.keys() & (case.query or {}).keys():
        case.query = {**EVENT, **case.query, "eventTime": EVENT["eventTime"]}
