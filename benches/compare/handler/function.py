"""The handler beside this file as a Lambda, on the least of a runtime: what AWS's own does, and no more.

`benches/lambda.rs` runs it beside hookcache's Lambda, behind the same stand-in of the Runtime API.
"""

import http.client
import json
import os

import redis

from handler import handle

INVOCATION = "/2018-06-01/runtime/invocation/"


def main():
    client = redis.Redis(host="127.0.0.1", port=int(os.environ["REDIS_PORT"]))
    client.ping()
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        api.request("GET", INVOCATION + "next")
        invocation = api.getresponse()
        event = json.loads(invocation.read())
        handle(client, [record["body"] for record in event["Records"]])
        answer = json.dumps({"batchItemFailures": []})
        request_id = invocation.headers["lambda-runtime-aws-request-id"]
        api.request("POST", INVOCATION + request_id + "/response", answer)
        api.getresponse().read()


main()
