FROM python:3.12-slim AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/build && python -m venv --without-pip /opt/streambroker
COPY requirements/build.txt requirements/run.txt requirements/
RUN /opt/build/bin/pip install --require-hashes -r requirements/build.txt \
 && /opt/build/bin/pip --python /opt/streambroker/bin/python install --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY streambroker streambroker
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/build/bin/pip --python /opt/streambroker/bin/python install --no-deps dist/*.whl

FROM python:3.12-slim
COPY --from=build /opt/streambroker /opt/streambroker
RUN useradd --system --uid 10001 --home-dir /data streambroker && install -d -o streambroker -m 0700 /data
USER streambroker
# 0.0.0.0 is the container's own address. The broker listens there only with TLS (STREAMBROKER_TLS_CERT and
# STREAMBROKER_TLS_KEY name two mounted files), or when it is told that this is not needed: because the port is published
# on loopback, or something in front of it speaks TLS. By hand:
#   docker run -e STREAMBROKER_INSECURE=on -p 127.0.0.1:8000:8000 -v data:/data streambroker:0.1.0
ENV PATH=/opt/streambroker/bin:$PATH PYTHONUNBUFFERED=1 \
    STREAMBROKER_HOST=0.0.0.0 STREAMBROKER_PORT=8000 STREAMBROKER_DATA_DIR=/data
VOLUME /data
EXPOSE 8000
# It asks itself whether it is ready, not who it is: the certificate is made out to the name that clients use.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import os, ssl, urllib.request as request; \
       context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE; \
       scheme = 'https' if 'STREAMBROKER_TLS_CERT' in os.environ else 'http'; \
       request.urlopen(f'{scheme}://127.0.0.1:8000/readyz', timeout=2, context=context)"]
CMD ["streambroker", "serve"]
