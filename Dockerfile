# Two images: `api` is small and has no torch; `worker` paints. docker-compose.yml builds both.
# A worker without CUDA: docker build --target worker --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS base
RUN apt-get update \
 && apt-get install --yes --no-install-recommends make \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 panoramas \
 && install --directory --owner panoramas /data /models
WORKDIR /app
# What the packages are installed from, and nothing else: an edit of the sources installs nothing again.
COPY pyproject.toml constraints.txt Makefile README.md LICENSE ./
COPY panoramas/_version.py panoramas/
# Pictures are in /data, downloaded models in /models.
ENV PATH=/opt/venv/bin:$PATH HF_HOME=/models PANORAMAS_DATA_DIR=/data PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1
VOLUME ["/data", "/models"]

# The images use the Makefile's own set-up, so that they install the same as a checkout.
FROM base AS api
RUN make setup VENV=/opt/venv EXTRAS=service
COPY . .
USER panoramas
# Large bodies are kept in files while they arrive; a container's /tmp may be memory.
ENV PANORAMAS_HOST=0.0.0.0 TMPDIR=/data
EXPOSE 8000
CMD ["panoramas", "api"]

FROM base AS worker
ARG TORCH_INDEX=
# Compiling models needs a C compiler, and on a CPU a C++ compiler.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
RUN make setup VENV=/opt/venv EXTRAS=worker TORCH_INDEX="$TORCH_INDEX"
COPY . .
USER panoramas
CMD ["panoramas", "worker"]
