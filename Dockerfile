# The base image is named by its minor version, so that building anew brings the fixes of Debian and CPython; all that
# pip installs is pinned by hash. For a build that can be repeated to the byte: --build-arg PYTHON=3.12-slim-trixie@sha256:…
ARG PYTHON=3.12-slim-trixie

FROM python:${PYTHON} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/build && python -m venv --without-pip /opt/streambroker
COPY requirements/build.txt requirements/image.txt requirements/
RUN /opt/build/bin/pip install --require-hashes -r requirements/build.txt \
 && /opt/build/bin/pip --python /opt/streambroker/bin/python install --require-hashes -r requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY streambroker streambroker
COPY web web
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/build/bin/pip --python /opt/streambroker/bin/python install --no-deps dist/*.whl

FROM python:${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="streambroker" \
      org.opencontainers.image.description="A durable message broker over HTTP and WebSocket" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 streambroker \
 && useradd --no-log-init --no-create-home --uid 10001 --gid 10001 --home-dir /data --shell /usr/sbin/nologin streambroker \
 && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /opt/streambroker /opt/streambroker
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
# 0.0.0.0 is the container's own address. The broker listens there only with TLS (STREAMBROKER_TLS_CERT and
# STREAMBROKER_TLS_KEY name two mounted files), or when it is told that this is not needed: because the port is published
# on loopback, or something in front of it speaks TLS. By hand:
#   docker run -e STREAMBROKER_INSECURE=on -p 127.0.0.1:8000:8000 -v data:/data streambroker:0.1.0
ENV PATH=/opt/streambroker/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    STREAMBROKER_HOST=0.0.0.0 STREAMBROKER_PORT=8000 STREAMBROKER_DATA_DIR=/data
VOLUME /data
EXPOSE 8000
# The first start after a crash reads the whole data file, which may take a while.
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 CMD ["streambroker", "health"]
CMD ["streambroker", "serve"]
