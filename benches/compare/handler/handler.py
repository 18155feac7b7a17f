"""A queue handler as people write it today: json.loads, then a pipeline of SETs, with redis-py and hiredis.

Called by itself it reads batches of raw message bodies (one JSON array of strings a line), writes each payload under each of its keys,
and prints its CPU time per message. `benches/consumer.rs` runs it beside hookcache's own consumer, on the same batches.
"""

import json
import sys
import time

import redis
from redis.utils import HIREDIS_AVAILABLE

TTL_SECONDS = 3600


def handle(client, bodies):
    pipeline = client.pipeline(transaction=False)
    for body in bodies:
        request = json.loads(body)["set"]
        payload = json.dumps(request["data"])
        for key in request["webhookKeys"]:
            pipeline.set(f"py:{request['accountId']}:{key}", payload, ex=TTL_SECONDS)
    pipeline.execute()


def main():
    port, path, rounds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if not HIREDIS_AVAILABLE:
        sys.exit("redis-py doesn't use hiredis: run `make tools`")
    client = redis.Redis(host="127.0.0.1", port=port)
    client.ping()
    with open(path, encoding="utf-8") as file:
        batches = [json.loads(line) for line in file]
    handle(client, batches[0])
    messages = 0
    start = time.process_time()
    for _ in range(rounds):
        for bodies in batches:
            handle(client, bodies)
            messages += len(bodies)
    spent = time.process_time() - start
    print(f"{spent / messages * 1e6:.3f}")


if __name__ == "__main__":
    main()
