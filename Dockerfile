# ScoreAG with its pinned packages.
#
#   docker build --target cpu  --tag scoreag:cpu  .
#   docker build --target cuda --tag scoreag:cuda .
#   docker run --rm --user "$(id -u)" --volume "$PWD:/project" scoreag:cpu demo --out runs/demo
#   docker run --rm --gpus all --user "$(id -u)" --volume "$PWD:/project" scoreag:cuda demo --out runs/demo
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    SCOREAG_CACHE=/project/.cache/scoreag HF_HOME=/project/.cache/huggingface MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --create-home scoreag && mkdir /project && chown scoreag /project
COPY pyproject.toml README.md LICENSE constraints.txt /src/
COPY src /src/src
WORKDIR /project
ENTRYPOINT ["scoreag"]
CMD ["--help"]

# TORCH_INDEX_URL, the package index of PyTorch's CPU wheels, leaves out the CUDA libraries: a tenth of the size
FROM base AS cpu
ARG TORCH_INDEX_URL
RUN pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "torch==2.13.0" \
 && pip install "/src[hub,pandas]" --constraint /src/constraints.txt
USER scoreag

FROM base AS cuda
RUN pip install "/src[hub,pandas]" --constraint /src/constraints.txt
USER scoreag
