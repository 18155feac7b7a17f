"""What the documents say in words alone: an event lies after 1969 and at most five minutes ahead, in a query, too, its
id and its time go together, a site is read anew since a moment that is past, and a walk through what is stored, or a
list, goes on from where an earlier answer says.
Sites are added where nothing listens, so that no test calls anybody's server."""

import schemathesis
from schemathesis import GenerationMode

EVENT = {"eventId": "e", "eventTime": "2026-01-01T00:00:00.123Z"}
URLS = ("apiBase", "displayUrl", "aliases")
NOBODY = "http://127.0.0.1:1/wiki"
LINKS = "/v1/sites/{site}/pages/{page}/links"
WALKS = ("/v1/entries", "/v1/purge", "/v1/ttl/apply")


@schemathesis.hook
def before_call(context, case, kwargs):
    """Puts a legal moment where a legal request holds an arbitrary one, and takes an arbitrary place to go on from away."""
    if case.meta is not None and case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    if case.operation.path in WALKS:
        case.query = {name: value for name, value in (case.query or {}).items() if name != "after"}
        if isinstance(case.body, dict):
            case.body = {name: value for name, value in case.body.items() if name != "after"}
    if case.operation.path == LINKS:
        case.query = {name: value for name, value in (case.query or {}).items() if name != "cursor"}
    if isinstance(case.body, dict) and "baseUrl" in case.body:
        case.body = {name: value for name, value in case.body.items() if name not in URLS} | {"baseUrl": NOBODY}
    if isinstance(case.body, dict) and "eventTime" in case.body:
        case.body = {**case.body, "eventTime": EVENT["eventTime"]}
    if isinstance(case.body, dict) and isinstance(case.body.get("since"), str):
        case.body = {**case.body, "since": EVENT["eventTime"]}
    if EVENT.keys() & (case.query or {}).keys():
        case.query = {**EVENT, **case.query, "eventTime": EVENT["eventTime"]}
