# The project with all that it needs, on a CPU, or on NVIDIA GPUs with `--build-arg DEVICE=gpu`:
#
#     docker build --tag trainyard .
#     docker run --publish 127.0.0.1:5000:5000 trainyard          MLflow's pages
#     docker run --no-healthcheck trainyard make repro            the line (`--gpus all` for the GPUs)
#     docker run --no-healthcheck --env TRAINYARD_TOKEN --publish 8000:8000 trainyard trainyard serve --host 0.0.0.0
#
# docs/gpu-and-ci.md tells how to keep what it makes.
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 trainyard \
    && install --directory --owner trainyard --group trainyard /project
USER trainyard
WORKDIR /project

ARG DEVICE=cpu
ENV DEVICE=$DEVICE PATH=/project/.venv/bin:$PATH
COPY --chown=trainyard:trainyard . .
# the folder of the registry is made here, so that a volume in its place belongs to the user
RUN make setup \
    && rm -rf ~/.cache \
    && mkdir -p mlruns

EXPOSE 5000
HEALTHCHECK --start-period=60s --timeout=10s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/health', timeout=5)"]
CMD ["trainyard", "ui", "--host", "0.0.0.0"]
