"""A get by key over redis-py, as people write it today: FastAPI, one coroutine a request, a pool of connections."""

import hmac
import os

from fastapi import FastAPI, Header, HTTPException, Response
from redis.asyncio import Redis

app = FastAPI()
store = Redis(host="127.0.0.1", port=int(os.environ["REDIS_PORT"]))
expected = os.environ["AUTHORIZATION"]


@app.get("/v1/keys/{key}")
async def get(key: str, authorization: str = Header(default="")) -> Response:
    if not hmac.compare_digest(authorization, expected):
        raise HTTPException(status_code=401)
    payload = await store.get("plain:" + key)
    if payload is None:
        raise HTTPException(status_code=404)
    return Response(payload, media_type="application/json")
