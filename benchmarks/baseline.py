"""The fixed baseline of the webhook benchmark: a bare FastAPI route that reads and parses the body and does nothing.

Same server, same settings as the service: uvicorn, uvloop, httptools, no access log. Run: `python -m
benchmarks.baseline PORT`.
"""

import sys

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

app = FastAPI()


@app.get("/readyz")
async def ready() -> Response:
    """Answer 200."""
    return Response()


@app.post("/hooks/bench", status_code=202)
async def hook(request: Request) -> dict[str, bool]:
    """Read and parse the body; keep nothing."""
    orjson.loads(await request.body())
    return {"accepted": True}


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
