# One image for both ends: the worker beside Temporal (`worker`, see docker-compose.yml), and the sprite service
# (`sprite serve --repo /repo --host 0.0.0.0 --port 8787 --token-file /run/secrets/ops-token`). The service needs the
# repo mounted, the runtime binary inside, and the pid namespace of the loop, or it cannot see whether the loop is alive.
# No secret is built in: tokens come by environment or by mounted file at run time.

FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
COPY requirements-build.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-build.txt
COPY pyproject.toml README.md CHANGELOG.md ./
COPY contract contract
COPY sprite sprite
COPY workflows workflows
COPY activities activities
COPY worker worker
COPY cli cli
COPY incidents incidents
RUN python -m build --no-isolation --wheel --outdir /dist

FROM python:3.11.14-slim-bookworm
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY requirements.txt /opt/ops-manager/
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /opt/ops-manager/requirements.txt
COPY --from=build /dist /opt/ops-manager/dist
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps /opt/ops-manager/dist/*.whl \
    && useradd --create-home --uid 10001 ops \
    && install -d -o 10001 -g 10001 /var/lib/ops-manager
USER 10001:10001
WORKDIR /home/ops
ENTRYPOINT ["ops-manager"]
CMD ["--help"]
