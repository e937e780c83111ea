# Three images of one source: `producer` (the control plane, without torch), `monitor` (Flower), `worker` (the engine).
# `storage` is SeaweedFS as somebody other than root.

FROM python:3.11.14-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN groupadd --gid 10001 gpen \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin gpen
WORKDIR /app

FROM base AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY jobs ./jobs
COPY migrations ./migrations
COPY producer ./producer
COPY worker ./worker
COPY gpen_engine ./gpen_engine
RUN pip wheel --no-deps --wheel-dir /wheels .

FROM base AS producer
COPY constraints.txt ./
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --constraint constraints.txt /wheels/*.whl
USER 10001:10001
ENTRYPOINT ["gpen-archive"]
CMD ["--help"]

FROM producer AS monitor
USER root
RUN pip install --constraint constraints.txt flower \
 && install --directory --owner=10001 --group=10001 /history
USER 10001:10001
# Without a password Flower would show everything to everybody.
ENTRYPOINT ["sh", "-c", ": ${FLOWER_BASIC_AUTH:?set user:password} && exec celery flower \"$@\"", "flower"]

FROM base AS worker
COPY constraints.txt requirements-nodeps.txt ./
# A layer of its own: it is the large one, and changes with the constraints only.
RUN pip install --constraint constraints.txt torch torchvision
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --constraint constraints.txt "$(echo /wheels/*.whl)[worker]" \
 && pip install --no-deps --requirement requirements-nodeps.txt
USER 10001:10001
ENTRYPOINT ["gpen-archive-worker"]
CMD []

FROM chrislusf/seaweedfs:4.48 AS storage
RUN mkdir /store && chown 10001:10001 /store
USER 10001:10001
ENTRYPOINT ["/usr/bin/weed"]
