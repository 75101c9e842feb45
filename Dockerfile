# syntax=docker/dockerfile:1

# The image of the service: locked dependencies, no build tools, no root.
#
#   docker build -t tidegate .
#   docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#       -p 127.0.0.1:8080:8080 -v tidegate-data:/data \
#       -v "$PWD/tidegate.yaml:/etc/tidegate/tidegate.yaml:ro" tidegate
#
# In the container the service must listen beyond loopback (`service.listen: 0.0.0.0:8080`), so the API and the console ask
# for a token: `docker run … tidegate tokens add` makes the first. On SQLite, keep the store below /data
# (`store: sqlite:////data/tidegate.db`). Your own pipelines: build an image FROM this one, copy the code to
# /opt/pipelines and set PYTHONPATH=/opt/pipelines.

FROM python:3.11-slim AS build
RUN pip install --no-cache-dir --disable-pip-version-check 'uv==0.13.9'
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PROJECT_ENVIRONMENT=/opt/tidegate \
    UV_PYTHON=/usr/local/bin/python3.11 \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /src
# The dependencies change rarely: a layer of their own.
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --no-dev --no-install-project
COPY . .
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --no-dev --no-editable

FROM python:3.11-slim
LABEL org.opencontainers.image.title="tidegate" \
      org.opencontainers.image.description="The event-driven front door of a data platform" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 tidegate \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin tidegate \
    && install -d -o tidegate -g tidegate -m 0750 /data \
    && install -d /etc/tidegate
COPY --from=build /opt/tidegate /opt/tidegate
# The root file system may be read-only: byte code is compiled already, and only /data and /tmp are written to.
# PYTHONSAFEPATH keeps files in the working folder from standing in for modules.
ENV PATH=/opt/tidegate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8080
STOPSIGNAL SIGTERM
# Asks /healthz, which tells whether this process lives. Whether it may get traffic is what /readyz is for.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 CMD ["python", "-m", "tidegate", "health"]
ENTRYPOINT ["python", "-m", "tidegate"]
CMD ["serve", "/etc/tidegate/tidegate.yaml"]
